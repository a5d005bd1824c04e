"""Records this machine, as ``python -m tests.inventory.record NAME [REPLACEMENT…]``.

The document goes to tests/fixtures/hosts/NAME/document.json. The kernel's command line is left out: it says
how this machine is run and not what it is. Each REPLACEMENT (``FROM=TO``) is done in every text, for names
that should not be published. Look at what was written before committing it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

from nodes.inventory.document import HostDocument, SourceOutput
from nodes.inventory.registry import all_sources
from nodes.inventory.script import build_script, deadline_s, parse_output
from tests.inventory.documents import save_document

_COMMAND_LINE = re.compile(r"^(/proc/cmdline:).*$", re.MULTILINE)


def record(replacements: dict[str, str]) -> HostDocument:
    """Today's probe of this machine, without libvirt's part."""
    sources = all_sources()
    observed_at = datetime.now(UTC).isoformat()
    finished = subprocess.run(
        ["sh", "-s"],
        input=build_script(sources).encode(),
        capture_output=True,
        timeout=deadline_s(sources),
        check=True,
    )
    outputs = parse_output(finished.stdout, sources)
    cleaned = {_replaced(name, replacements): _cleaned(out, replacements) for name, out in outputs.items()}
    return HostDocument(observed_at, cleaned, "local", "root")


def _cleaned(output: SourceOutput, replacements: dict[str, str]) -> SourceOutput:
    stdout = _COMMAND_LINE.sub(r"\1root=/dev/vda ro quiet", output.stdout)
    return replace(
        output,
        name=_replaced(output.name, replacements),
        stdout=_replaced(stdout, replacements),
        stderr=_replaced(output.stderr, replacements),
    )


def _replaced(text: str, replacements: dict[str, str]) -> str:
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text


if __name__ == "__main__":
    host, *pairs = sys.argv[1:]
    save_document(host, record(dict(pair.split("=", 1) for pair in pairs)))
