"""A libvirt socket that lies: reading it ends, holds little and leaves nothing behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.errors import NodeAdminError
from nodes.hosts.bridge import MAX_PACKET, Packets
from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.domains import MAX_DESCRIPTIONS, list_domains
from nodes.hosts.libvirt_facts import collect, unavailable
from nodes.inventory.build import build
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.parsing.bounds import bounded
from nodes.inventory.registry import SECTIONS, all_libvirt_sources
from tests.hostile.libvirt_socket import FLOODS, KINDS, LyingLibvirt
from tests.hostile.test_host import in_time, left_over
from tests.libvirtd import AVAILABLE

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs root, libvirtd and unshare")

READ_S = 1.0
MOST_HELD = 256 << 20
"""Of this process, libvirt's own library included: 32 MiB of descriptions, an error of some MiB for each
reader, and copies of them, which in a process with much else wait long for Python to collect them."""
NAMES = tuple(source.name for source in all_libvirt_sources(SECTIONS))


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LyingLibvirt]:
    with LyingLibvirt(tmp_path_factory.mktemp("liar")) as host:
        yield host


class Held:
    """The most memory that this process has had since it was made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._begin = self._most()

    def bytes(self) -> int:
        return self._most() - self._begin

    @staticmethod
    def _most() -> int:
        rows = Path("/proc/self/status").read_text().splitlines()
        return next(int(row.split()[1]) for row in rows if row.startswith("VmHWM")) << 10


def read_facts(connection: HostConnection) -> dict[str, SourceOutput]:
    try:
        hypervisor = connection.hypervisor(READ_S)
    except NodeAdminError as error:
        return unavailable(NAMES, error)  # type: ignore[arg-type]
    return collect(hypervisor, NAMES, timeout_s=READ_S)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_socket_says_ends_in_time_holds_little_and_leaves_no_thread(
    liar: LyingLibvirt, kind: str
) -> None:
    liar.lie(kind)
    before = set(threading.enumerate())
    with connect(liar.sshd.target()) as connection:
        held, begin = Held(), time.monotonic()
        outputs = read_facts(connection)
        inventory = build(bounded(HostDocument("2026-01-01T00:00:00.000Z", outputs, "ssh", "root")))
        assert in_time(time.monotonic() - begin, 2 * READ_S + 3)
        assert inventory.results
        begin = time.monotonic()
        try:
            domains = list_domains(connection.hypervisor(READ_S), timeout_s=READ_S)
        except NodeAdminError as error:
            told = error.detail()
            assert len(told) < 1500
            assert told.isprintable()
        else:
            assert sum(len(domain.xml or "") for domain in domains) <= MAX_DESCRIPTIONS
        assert in_time(time.monotonic() - begin, 2 * READ_S + 3)
        assert held.bytes() < MOST_HELD
        # The host's shell is what it was.
        assert connection.shell.run("echo well", timeout_s=20).stdout == b"well\n"
    assert left_over(before) == set()
    for output in outputs.values():
        assert output.status is SourceStatus.OK or "\x1b" not in output.stderr + output.stdout


@pytest.mark.parametrize("kind", FLOODS)
def test_a_socket_that_floods_an_open_connection_costs_little(liar: LyingLibvirt, kind: str) -> None:
    """libvirt's own thread works through what comes unasked, as fast as it comes, beyond every deadline."""
    liar.lie(kind)
    with connect(liar.sshd.target()) as connection:
        hypervisor = connection.hypervisor(5.0)
        try:
            hypervisor.run(
                lambda libvirt: libvirt.listAllDomains(), what="Listing", timeout_s=0.5, drop=False
            )
        except NodeAdminError:
            pass
        end = time.monotonic() + 30
        while not connection.budget.paused_s and time.monotonic() < end:
            time.sleep(0.05)
        assert hypervisor.alive
        cpu, begin = time.process_time(), time.monotonic()
        time.sleep(1.5)
        share = (time.process_time() - cpu) / (time.monotonic() - begin)
        assert share < 0.35


def test_packets_are_counted_however_they_are_cut() -> None:
    stream = b"".join((28 + size).to_bytes(4, "big") + b"x" * (24 + size) for size in (0, 1, 70, 4000))
    for cut in (1, 3, 5, 64, len(stream)):
        packets = Packets()
        found = sum(packets.count(stream[at : at + cut]) for at in range(0, len(stream), cut))
        assert (found, packets.longest) == (4, 4028)


def test_lengths_of_nothing_and_of_everything_are_counted() -> None:
    packets = Packets()
    assert packets.count(bytes(64)) == 16
    assert packets.count(b"\xff" * 4 + b"x" * 1000) == 1
    assert packets.longest > MAX_PACKET
