"""Live logs of hosts that print for ever: what they cost the process, the neighbours, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async

from nodes.hosts.host_budget import DEFAULT
from nodes.models import Node
from nodes.permissions import VIEW, VIEW_LOGS
from tests.factories import make_credential
from tests.hostile.streams import COMPLAINTS, EMPTY_LINES, ENTRY, EnemyHost
from tests.journals import AVAILABLE
from tests.patience import Deadline
from tests.realtime.sockets import Headers, Socket, opened
from tests.realtime.test_logs import LOGS, Writer, host, numbers, subscribe, viewer, writer

__all__ = ["host", "writer"]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not AVAILABLE, reason="needs systemd-journal-remote"),
]
ENDLESS_ENTRIES = "exec yes \"$(printf '{}')\"".format(ENTRY.replace("\n", r"\n"))
ATTACKS = (EMPTY_LINES, ENDLESS_ENTRIES, ENDLESS_ENTRIES, COMPLAINTS)
LOOK_S = 4.0


@pytest.fixture
def enemies(tmp_path: Path, db: None) -> Iterator[list[EnemyHost]]:
    with contextlib.ExitStack() as running:
        found = []
        for number, prints in enumerate(ATTACKS):
            enemy = running.enter_context(EnemyHost(tmp_path / f"enemy-{number}", prints))
            node = Node.objects.create(
                name=f"enemy-{number}",
                uri=f"qemu+ssh://root@127.0.0.1:{enemy.sshd.port}/system",
                host_key=enemy.sshd.host_key().to_text(),
            )
            make_credential(node, "ssh_key", private_key=enemy.sshd.user_key.read_text())
            found.append(enemy)
        yield found


@contextlib.asynccontextmanager
async def watched(enemies: list[EnemyHost], headers: Headers) -> AsyncIterator[None]:
    """A viewer at each enemy's log, who takes whatever comes."""
    async with contextlib.AsyncExitStack() as sockets:
        taking = []
        for number in range(len(enemies)):
            path = f"/ws/nodes/enemy-{number}/logs/"
            socket = await sockets.enter_async_context(opened(path, headers))
            await subscribe(socket, since="2001-01-01T00:00:00Z")
            taking.append(asyncio.create_task(take_all(socket)))
        try:
            yield
        finally:
            for task in taking:
                task.cancel()


async def take_all(socket: Socket) -> None:
    while True:
        with contextlib.suppress(TimeoutError):
            await socket.message(60)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "journal"]


async def within(seconds: float, is_so: object) -> bool:
    deadline = Deadline(seconds)
    while not is_so():  # type: ignore[operator]
        if deadline.over():
            return False
        await asyncio.sleep(0.02)
    return True


async def test_hosts_that_print_for_ever_leave_the_process_to_the_others_and_end_with_their_viewers(
    host, writer: Writer, enemies: list[EnemyHost], administrator
) -> None:
    headers = await viewer(host, VIEW, VIEW_LOGS)
    await sync_to_async(make_reader_of_all)()
    before = len(readers())
    async with opened(LOGS, headers) as honest:
        await subscribe(honest, backlog=1)
        await numbers(honest, 1)
        async with watched(enemies, headers):
            await asyncio.sleep(2)
            began, used = time.monotonic(), time.process_time()
            number = 100
            while time.monotonic() - began < LOOK_S:
                writer.write(number)
                assert (await numbers(honest, 1))[0] == [number]
                number += 1
                await asyncio.sleep(0.2)
            share = (time.process_time() - used) / (time.monotonic() - began)
            assert share < 0.25 + 2 * DEFAULT.cpu_share_of_several, share
        assert await within(1, lambda: len(readers()) <= before + 1)
        assert await within(1, lambda: not any(enemy.running() for enemy in enemies))


def make_reader_of_all() -> None:
    from nodes.models import User

    User.objects.update(is_superuser=True)
