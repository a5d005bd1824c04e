"""A document is stored in the room of its text, whatever a host printed."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from nodes.inventory import document as module
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus

GARBAGE = bytes(range(256)).decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "output",
    [
        SourceOutput("a", SourceStatus.OK),
        SourceOutput("a", SourceStatus.FAILED, GARBAGE, 'wrong: "\\', 1, 0.25),
        SourceOutput("a", SourceStatus.TRUNCATED, "\U0001f600\ud83d\ude00x" * 5, "", None, None, True),
        SourceOutput("a", SourceStatus.OK, "one\n", "said", 0, 1.0, True),
    ],
)
def test_the_stored_form_is_the_same_however_it_is_cut(
    output: SourceOutput, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE", piece)
    document = HostDocument("2025-01-01T00:00:00Z", {"a": output, "b": output}, "ssh", "root")
    stored = json.loads(document.to_json())["sources"]["a"]
    expected = {"status": output.status.value, "exit_status": output.exit_status}
    expected |= {"duration_s": output.duration_s, "stdout": json.loads(json.dumps(output.stdout))}
    expected |= {"stderr": output.stderr} if output.stderr else {}
    assert stored == expected | ({"cached": True} if output.cached else {})
    assert list(stored)[:4] == ["status", "exit_status", "duration_s", "stdout"]
    assert HostDocument.from_bytes(document.to_bytes()).to_json() == document.to_json()


def test_garbage_is_stored_in_little_room() -> None:
    output = SourceOutput("a", SourceStatus.OK, GARBAGE * (4 << 12))
    document = HostDocument("2025-01-01T00:00:00Z", {"a": output})
    tracemalloc.start()
    try:
        document.to_bytes()
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < len(output.stdout) * 2
