"""Journals to WebSocket clients, against plain journalctl on the same host.

A journal of 500,000 entries, made with systemd-journal-remote. Throughput: entries a second to a client
through the server, against plain ``journalctl -o json`` into a pipe; printed as the inverse. First entries:
from the subscription to the first message, against ``journalctl -n 100`` over a warm connection. A hundred
viewers of one stream: the server's processor time against that for one. A viewer that hardly reads: the
server's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

FOLDER = tempfile.TemporaryDirectory(prefix="bench-logs-")
os.environ["DJANGO_SETTINGS_MODULE"] = "nodeadmin.settings.test"
os.environ["NODEADMIN_DATA_DIR"] = FOLDER.name
os.environ["NODEADMIN_LOG_SOCKETS_PER_USER"] = "500"
os.environ["NODEADMIN_CONNECTIONS_PER_ADDRESS"] = "2000"

import django  # noqa: E402 - settings come first

django.setup()

from django.core.management import call_command  # noqa: E402 - settings come first
from django.utils import timezone  # noqa: E402
from websockets.asyncio.client import ClientConnection, connect  # noqa: E402

from nodes.hosts import connection as hosts  # noqa: E402
from nodes.models import ApiToken, Node, User  # noqa: E402
from tests.bench.figures import Report, alternate, ms, ratio  # noqa: E402
from tests.factories import make_credential  # noqa: E402
from tests.journals import JournalHost, entry, export  # noqa: E402
from tests.sshd import free_port  # noqa: E402

INVERSE, FIRST, VIEWERS, MEMORY_MB = 0.67, 2.0, 10.0, 40.0
TEXT = "of the numbered lines, with some ordinary text behind it"
UNITS = ("libvirtd.service", "ssh.service", "cron.service", "nginx.service")
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    report = Report()
    host = JournalHost(Path(FOLDER.name) / "host")
    host.write(
        entry(number, f"line {number} {TEXT}", UNITS[number % 4], PRIORITY=str(number % 8))
        for number in range(options.entries)
    )
    with host, server(host) as bench:
        throughput(report, bench, options.entries, options.rounds)
        first_entries(report, bench)
        asyncio.run(viewers(report, bench))
        asyncio.run(slow(report, bench, options.entries))
    report.finish()


class Bench:
    """The server's address and process, and the host behind it."""

    def __init__(self, host: JournalHost, port: int, token: str, pid: int) -> None:
        self.host = host
        self.pid = pid
        self._address = f"ws://127.0.0.1:{port}/ws/nodes/bench/logs/"
        self._headers = {"Authorization": f"Bearer {token}"}

    def open(self) -> Any:
        return connect(
            self._address,
            additional_headers=self._headers,
            compression=None,
            max_size=None,
            max_queue=4,
            ping_interval=None,
        )

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mb(self) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmRSS")


@contextmanager
def server(host: JournalHost) -> Iterator[Bench]:
    database = Path(FOLDER.name) / "nodeadmin.sqlite3"
    assert not database.exists()
    call_command("migrate", verbosity=0)
    user = User.objects.create_superuser("bench")
    _row, token = ApiToken.make(user, "bench", timezone.now() + timedelta(days=1), read_only=False)
    node = Node.objects.create(
        name="bench",
        uri=f"qemu+ssh://root@127.0.0.1:{host.sshd.port}/system",
        host_key=host.sshd.host_key().to_text(),
        host_key_fingerprint=host.sshd.host_key().fingerprint,
    )
    make_credential(node, "ssh_key", private_key=host.sshd.user_key.read_text())
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.log_server", "--port", str(port)])
    bench = Bench(host, port, token, process.pid)
    try:
        asyncio.run(answering(bench))
        yield bench
    finally:
        process.terminate()
        process.wait(20)


async def answering(bench: Bench) -> None:
    """Wait for the server, and warm its connection to the host."""
    for _attempt in range(100):
        try:
            async with bench.open() as socket:
                await subscribe(socket, backlog=1)
                await entries(socket)
                return
        except OSError:
            await asyncio.sleep(0.1)
    raise RuntimeError("the server does not answer")


async def subscribe(socket: ClientConnection, **filters: Any) -> None:
    await socket.send(json.dumps({"type": "subscribe", **filters}))


async def entries(socket: ClientConnection) -> bytes:
    """The next message of entries, as it came. Raises RuntimeError for an error."""
    async for message in socket:
        raw = message.encode() if isinstance(message, str) else message
        if raw.startswith(b'{"type":"entries"'):
            return raw
        if raw.startswith(b'{"type":"error"'):
            raise RuntimeError(raw.decode())
    return b""


# -- figures ----------------------------------------------------------------------------------------


def throughput(report: Report, bench: Bench, count: int, rounds: int) -> None:
    """All entries: into a pipe on the host, and through sshd and the server to a client."""

    def plain() -> None:
        command = [str(bench.host.bin / "journalctl"), "--quiet", "--output=json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            found = 0
            while chunk := process.stdout.read(1 << 20):
                found += chunk.count(b"\n")
            assert found == count, found

    async def through() -> None:
        found = 0
        async with bench.open() as socket:
            await subscribe(socket, since="2001-01-01T00:00:00Z", until="2035-01-01T00:00:00Z")
            while raw := await entries(socket):
                found += raw.count(b'{"time":')
        assert found == count, found

    times = alternate({"pipe": plain, "socket": lambda: asyncio.run(through())}, rounds, warm_up=0)
    pipe, socket = (statistics.median(times[name]) for name in ("pipe", "socket"))
    report.figure(
        "journal_to_socket_over_json_pipe",
        ratio(times["socket"], times["pipe"]),
        INVERSE,
        f"{count / socket:,.0f} entries/s through the server, {count / pipe:,.0f} by journalctl -o json",
    )


def first_entries(report: Report, bench: Bench) -> None:
    with hosts.connect(bench.host.target()) as standing:

        def plain() -> None:
            result = standing.shell.run("journalctl --quiet --output=json -n 100", timeout_s=30)
            assert result.stdout.count(b"\n") == 100

        loop = asyncio.new_event_loop()
        took: list[float] = []

        async def once() -> None:
            async with bench.open() as socket:
                started = time.perf_counter()
                await subscribe(socket, backlog=100)
                raw = await entries(socket)
                took.append(time.perf_counter() - started)
                assert raw.count(b'{"time":') == 100

        times = alternate({"floor": plain, "subscribe": lambda: loop.run_until_complete(once())}, 15)
        loop.close()
    first = took[1:]
    report.figure(
        "first_entries_over_journalctl_n_100",
        ratio(first, times["floor"]),
        FIRST,
        f"{ms(first)} against {ms(times['floor'])}",
    )


async def viewers(report: Report, bench: Bench) -> None:
    """Processor time of the server while the same lines are logged for one viewer, and for a hundred."""
    writer = bench.host.writer("live")
    number = 1_000_000

    async def measured(count: int, lines: int = 20_000) -> float:
        nonlocal number
        sockets = [await bench.open().__aenter__() for _ in range(count)]
        for socket in sockets:
            await subscribe(socket, backlog=1)
            await entries(socket)
        await asyncio.sleep(2)
        assert len(bench.host.running()) == 1, bench.host.running()
        seen = [0] * count

        async def until_last(socket: ClientConnection, place: int) -> None:
            while seen[place] < lines:
                seen[place] += (await entries(socket)).count(b'{"time":')

        before = bench.cpu_s()
        waiting = [asyncio.create_task(until_last(socket, place)) for place, socket in enumerate(sockets)]
        assert writer.stdin is not None
        for start in range(number, number + lines, 500):
            block = b"".join(export(entry(each, f"line {each} {TEXT}")) for each in range(start, start + 500))
            await asyncio.to_thread(writer.stdin.write, block)
            await asyncio.to_thread(writer.stdin.flush)
            await asyncio.sleep(0.05)
        await asyncio.gather(*waiting)
        used = bench.cpu_s() - before
        number += lines
        assert seen == [lines] * count
        for socket in sockets:
            await socket.close()
        await asyncio.to_thread(bench.host.rests)
        return used

    one = statistics.median([await measured(1) for _ in range(3)])
    hundred = await measured(100)
    report.figure(
        "cpu_of_100_viewers_over_1", hundred / one, VIEWERS, f"{hundred:.2f} s against {one:.2f} s of CPU"
    )
    assert writer.stdin is not None
    writer.stdin.close()
    writer.wait(30)


async def slow(report: Report, bench: Bench, count: int) -> None:
    """A viewer that takes one message a second out of a stream that could fill memory in seconds."""
    async with bench.open() as socket:
        await subscribe(socket, since="2001-01-01T00:00:00Z", until="2035-01-01T00:00:00Z")
        await entries(socket)
        await asyncio.sleep(5)
        before = bench.memory_mb()
        peak = before
        for _second in range(15):
            await entries(socket)
            await asyncio.sleep(1)
            peak = max(peak, bench.memory_mb())
        report.figure(
            "memory_grown_by_a_slow_viewer_mb", peak - before, MEMORY_MB, f"{before:.0f} to {peak:.0f} MB"
        )


if __name__ == "__main__":
    main()
