"""The figures on a node's row, from hosts that tell nonsense."""

from __future__ import annotations

import pytest

from nodes.inventory.document import SourceOutput, SourceStatus
from tests.factories import make_node, make_snapshot
from tests.inventory.documents import host_document

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("memory", "/proc/meminfo:MemTotal: 999999999999999999 kB\n/proc/meminfo:MemAvailable: 1 kB\n"),
        ("memory", "/proc/meminfo:MemTotal: 9007199254740993 kB\n/proc/meminfo:MemAvailable: 1 kB\n"),
        ("system", "/proc/uptime:999999999999999.0 1\nclock:99999999999 +0000 UTC\n"),
        ("system", f"/proc/sys/kernel/osrelease:{'y' * 9000}\n/proc/sys/kernel/random/boot_id:{'z' * 500}\n"),
        ("cpuinfo", f"processor : 0\nmodel name : {'x' * 5000}\n----\n"),
    ],
)
def test_what_fits_no_column_is_unknown_and_the_rest_is_kept(source: str, text: str) -> None:
    node = make_node("kvm-01")
    output = SourceOutput(source, SourceStatus.OK, text)
    snapshot = make_snapshot(node, host_document("lab-plain").with_sources({source: output}))
    node.refresh_from_db()
    assert node.snapshot_id == snapshot.pk
    if source == "memory":
        assert node.memory_total_bytes is None
    if "uptime" in text:
        assert node.booted_at is None
