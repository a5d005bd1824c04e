"""Records this machine, as ``python -m tests.inventory.record NAME [PATTERN]``.

The document goes to tests/fixtures/hosts/NAME/document.json. The kernel's command line is left out: it says
how this machine is run and not what it is. Lines that PATTERN, a regular expression, finds something in are
left out too: mounts and names that should not be published. Look at what was written before committing it.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace

from nodes.hosts.connection import connect
from nodes.hosts.probe import collect
from nodes.hosts.target import HostTarget
from nodes.inventory.document import HostDocument, SourceOutput
from nodes.inventory.registry import SECTIONS
from tests.inventory.documents import save_document

_COMMAND_LINE = re.compile(r"^(/proc/cmdline:).*$", re.MULTILINE)


def record() -> HostDocument:
    """Today's probe of this machine, libvirt's part included."""
    with connect(HostTarget(key="", transport="local")) as connection:
        return collect(connection, SECTIONS)


def cleaned(document: HostDocument, private: str) -> HostDocument:
    """The document as it may be published."""
    hidden = re.compile(private or r"(?!)")

    def clean(text: str) -> str:
        kept = "\n".join(line for line in text.split("\n") if not hidden.search(line))
        return _COMMAND_LINE.sub(r"\1root=/dev/vda ro quiet", kept)

    sources: dict[str, SourceOutput] = {}
    for name, output in document.sources.items():
        sources[name] = replace(output, stdout=clean(output.stdout), stderr=clean(output.stderr))
    return replace(document, sources=sources)


if __name__ == "__main__":
    host, *patterns = sys.argv[1:]
    save_document(host, cleaned(record(), "|".join(patterns)))
