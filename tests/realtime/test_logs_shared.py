"""Many viewers of one host: one process for those of the same query, and channels left for everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async

from nodes import access
from nodes.hosts import qemu_logs
from nodes.models import Node
from nodes.permissions import VIEW, VIEW_LOGS
from nodes.realtime import logs
from nodes.realtime.log_hub import CHANNELS_A_HOST
from tests.journals import AVAILABLE, JournalHost, entry, export
from tests.realtime.sockets import Socket, opened
from tests.realtime.test_logs import LOGS, subscribe, viewer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not AVAILABLE, reason="needs systemd-journal-remote"),
]
QEMU = {"SYSLOG_IDENTIFIER": "qemu-kvm"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    found = tmp_path / "vms"
    found.mkdir()
    monkeypatch.setattr(qemu_logs, "DIRECTORY", str(found))
    return Path(found)


@pytest.fixture
def host(tmp_path, folder) -> Iterator[JournalHost]:
    made = JournalHost(tmp_path)
    made.write(entry(number, f"journal {number}", **QEMU) for number in range(20))
    with made:
        yield made


async def lines(socket: Socket, count: int) -> tuple[list[str], str]:
    """The next ``count`` lines or more, and the cursor behind them."""
    found: list[str] = []
    cursor = ""
    while len(found) < count:
        message = await socket.message(30)
        if message["type"] == "entries":
            found += [row["message"] for row in message["entries"]]
            cursor = message["cursor"]
    return found, cursor


def scripts(folder: Path) -> int:
    """How many loops read the VMs' logs now."""
    found = 0
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = process.read_bytes().split(b"\0")
        except OSError:
            continue
        found += arguments[:2] == [b"sh", b"-c"] and arguments[2].startswith(f"\n[ -d {folder} ]".encode())
    return found


async def test_viewers_of_the_vms_own_logs_share_one_process_and_each_sees_every_line_once(
    host, folder
) -> None:
    log = folder / "web.log"
    log.write_text("".join(f"file {number}\n" for number in range(3)))
    headers = await viewer(host, VIEW, VIEW_LOGS)
    before = [*(f"journal {number}" for number in range(20)), *(f"file {number}" for number in range(3))]
    async with AsyncExitStack() as stack:
        sockets: list[Socket] = []
        written = list(before)
        for number in range(10, 14):
            socket = await stack.enter_async_context(opened(LOGS, headers))
            await subscribe(socket, services=["qemu"], backlog=30)
            found, _cursor = await lines(socket, len(written))
            assert sorted(found) == sorted(written), f"of viewer {number}"
            sockets.append(socket)
            with log.open("a") as file:
                file.write(f"file {number}\n")
            written.append(f"file {number}")
            for one in sockets:
                found, cursor = await lines(one, 1)
                assert found == [f"file {number}"]
        host.write([entry(100, "journal 100", **QEMU)], "b")
        for one in sockets:
            assert (await lines(one, 1))[0] == ["journal 100"]
        assert len(host.running()) == 1
        assert scripts(folder) == 1

        again = await stack.enter_async_context(opened(LOGS, headers))
        await subscribe(again, cursor=cursor)
        assert (await lines(again, 1))[0] == ["journal 100"], "one that comes back goes on in the same stream"
        assert len(host.running()) == 1
    assert await sync_to_async(host.rests)()
    deadline = asyncio.get_running_loop().time() + 20
    while scripts(folder) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
    assert scripts(folder) == 0


async def test_a_span_with_an_end_has_the_vms_own_logs_in_it(host, folder) -> None:
    times = ["22:13:10", "22:13:25"]
    (folder / "web.log").write_text("".join(f"2023-11-14 {time}.000+0000: at {time}\n" for time in times))
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        span = {"since": "2023-11-14T22:13:20Z", "until": "2023-11-14T22:13:30Z"}
        await subscribe(socket, services=["qemu"], **span)
        found, _cursor = await lines(socket, 21)
        assert found == [*(f"journal {number}" for number in range(20)), "at 22:13:25"]
        while (await socket.message())["state"] != "ended":
            pass
        assert await socket.close_code() == 1000


async def test_streams_leave_channels_of_the_host_for_the_probe_and_for_pages(host, folder) -> None:
    headers = await viewer(host, VIEW, VIEW_LOGS)
    async with AsyncExitStack() as stack:
        for number in range(CHANNELS_A_HOST):
            (folder / f"vm-{number}.log").write_text("a line\n")
            socket = await stack.enter_async_context(opened(LOGS, headers))
            await subscribe(socket, services=["qemu"], vm=f"vm-{number}")
            assert (await lines(socket, 1))[0] == ["a line"]
        await asyncio.sleep(1)

        def ask() -> bool:
            connection = access.connect(access.target_for(Node.objects.get(name="kvm-01")))
            return connection.shell.run("true", timeout_s=5).ok

        assert await sync_to_async(ask)()
        assert len(host.running()) + scripts(folder) <= CHANNELS_A_HOST


async def test_any_number_may_wait_for_the_first_line_of_a_quiet_query(host) -> None:
    headers = await viewer(host, VIEW, VIEW_LOGS)
    async with AsyncExitStack() as stack:
        sockets = []
        for _number in range(CHANNELS_A_HOST + 2):
            socket = await stack.enter_async_context(opened(LOGS, headers))
            await subscribe(socket, services=["identifier:quiet"])
            assert (await socket.message())["state"] == "live"
            sockets.append(socket)
        now_us = int(logs.datetime.now().timestamp() * 1e6)
        writer = host.writer()
        assert writer.stdin is not None
        fields = entry(500, "at last", at_us=now_us, SYSLOG_IDENTIFIER="quiet")
        writer.stdin.write(export(fields))
        writer.stdin.close()
        for socket in sockets:
            assert (await lines(socket, 1))[0] == ["at last"]
        assert len(host.running()) == 1
        assert await sync_to_async(writer.wait)(10) == 0
