"""How large a document may be: ten times the largest host, and not more because a host says so.

The probe bounds each of its sources on the host, which may be somebody else's by now; libvirt's answers, a
document from a file and one that was stored by an earlier version are bounded by nobody before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus

MAX_OUTPUTS = 100_000
MAX_TEXT = 8 << 20
"""Characters of one output. The probe's own sources are cut at that or less."""
MAX_TOTAL = 24 << 20
"""Characters of all outputs together."""
MAX_STDERR = 4096


def bounded(document: HostDocument) -> HostDocument:
    """``document`` within the bounds. What is cut is TRUNCATED: a problem of its sections."""
    sources = document.sources
    fits = len(sources) <= MAX_OUTPUTS and all(
        len(output.stdout) <= MAX_TEXT and len(output.stderr) <= MAX_STDERR for output in sources.values()
    )
    if fits and sum(len(output.stdout) for output in sources.values()) <= MAX_TOTAL:
        return document
    return HostDocument(document.observed_at, _cut(sources), document.transport, document.user)


def _cut(sources: Mapping[str, SourceOutput]) -> dict[str, SourceOutput]:
    """The smallest outputs first: one that is too large takes no room from its neighbours."""
    kept: dict[str, SourceOutput] = {}
    left = MAX_TOTAL
    for name in sorted(sources, key=lambda name: (":" in name, len(sources[name].stdout)))[:MAX_OUTPUTS]:
        output = sources[name]
        room = max(0, min(MAX_TEXT, left))
        if len(output.stdout) > room:
            output = replace(output, status=SourceStatus.TRUNCATED, stdout=output.stdout[:room])
        if len(output.stderr) > MAX_STDERR:
            output = replace(output, stderr=output.stderr[:MAX_STDERR])
        left -= len(output.stdout)
        kept[name] = output
    # In their own order, which items are told in.
    return {name: kept[name] for name in sources if name in kept}
