"""A document from a file: a saved one, or what the probe script printed when somebody ran it by hand."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime

from nodes.inventory.document import HostDocument
from nodes.inventory.registry import all_sources
from nodes.inventory.script import PROBE_SOURCE, parse_output


def read_document(raw: bytes) -> HostDocument:
    """Take ``raw`` for a stored document (compressed or JSON), else for the script's output.

    What was run by hand has no libvirt part, and its time of observation is the time of reading. Raises
    ValueError where it is neither.
    """
    if raw[:1] == b"\x78":
        try:
            return HostDocument.from_bytes(raw)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"The compressed document cannot be read: {error}") from error
    if raw.lstrip()[:1] == b"{":
        try:
            return HostDocument.from_json(raw.decode("ascii"))
        except UnicodeDecodeError as error:
            raise ValueError("The document is not the ASCII JSON that nodeadmin writes.") from error
    outputs = parse_output(raw, all_sources())
    if not outputs.get(PROBE_SOURCE) or not any(output.stdout for output in outputs.values()):
        raise ValueError("This is neither a document nor the output of the probe script.")
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return HostDocument(now, outputs, transport="file")
