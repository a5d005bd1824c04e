"""Records this machine, as ``python -m tests.inventory.record NAME [PATTERN]``.

The document goes to tests/fixtures/hosts/NAME/document.json. The kernel's command line is left out: it says
how this machine is run and not what it is. Lines that PATTERN, a regular expression, finds something in are
left out too, and interfaces that it finds in the names of: mounts and names that should not be published, or
that others made for a moment. Look at what was written before committing it.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

from nodes.hosts.connection import connect
from nodes.hosts.probe import collect
from nodes.hosts.target import HostTarget
from nodes.inventory.document import HostDocument, SourceOutput
from nodes.inventory.links import IP_ADDRESS
from nodes.inventory.registry import SECTIONS
from tests.inventory.documents import save_document
from tests.network import ANYWHERE

_COMMAND_LINE = re.compile(r"^(/proc/cmdline:).*$", re.MULTILINE)


def record() -> HostDocument:
    """Today's probe of this machine, libvirt's part included."""
    with connect(HostTarget(key="", transport="local", rules=ANYWHERE)) as connection:
        return collect(connection, SECTIONS)


def cleaned(document: HostDocument, private: str) -> HostDocument:
    """The document as it may be published."""
    hidden = re.compile(private or r"(?!)")

    def clean(text: str) -> str:
        kept = "\n".join(line for line in text.split("\n") if not hidden.search(line))
        return _COMMAND_LINE.sub(r"\1root=/dev/vda ro quiet", kept)

    def clean_ip(text: str) -> str:
        # All of them stand on one line.
        first, _, rest = text.partition("\n")
        kept = [one for one in json.loads(first or "[]") if not hidden.search(one.get("ifname", ""))]
        return json.dumps(kept, separators=(",", ":")) + "\n" + rest

    sources: dict[str, SourceOutput] = {}
    for name, output in document.sources.items():
        if name == IP_ADDRESS.name and output.usable:
            output = replace(output, stdout=clean_ip(output.stdout))
        sources[name] = replace(output, stdout=clean(output.stdout), stderr=clean(output.stderr))
    return replace(document, sources=sources)


if __name__ == "__main__":
    host, *patterns = sys.argv[1:]
    save_document(host, cleaned(record(), "|".join(patterns)))
