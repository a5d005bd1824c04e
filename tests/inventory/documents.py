"""Recorded and hand-written documents of whole hosts: tests/fixtures/hosts/NAME/document.json."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus

HOSTS = Path(__file__).parent.parent / "fixtures" / "hosts"


def host_names() -> list[str]:
    return sorted(path.parent.name for path in HOSTS.glob("*/document.json"))


@cache
def host_document(name: str) -> HostDocument:
    return HostDocument.from_json((HOSTS / name / "document.json").read_text(encoding="ascii"))


def save_document(name: str, document: HostDocument) -> None:
    """Write a host's document, so that git shows a change of one source as a change of one line."""
    path = HOSTS / name / "document.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document.to_json(), encoding="ascii")


def document_of(_transport: str = "ssh", **texts: str) -> HostDocument:
    """These sources alone, all well: ``machine_identity=`` is ``machine-identity``, ``__`` a colon."""
    names = {key.replace("__", ":").replace("_", "-"): text for key, text in texts.items()}
    ok = SourceStatus.OK
    outputs = {name: SourceOutput(name, ok, text, "", 0, 0.0) for name, text in names.items()}
    return HostDocument("2025-03-01T10:00:00+00:00", outputs, _transport, "root")
