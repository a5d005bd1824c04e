"""Messages as small as a slow client asks for, each with a cursor that goes on just behind its entries."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.hosts import qemu_logs
from nodes.permissions import VIEW, VIEW_LOGS
from nodes.realtime import logs
from tests.journals import AVAILABLE
from tests.realtime.sockets import Socket, opened
from tests.realtime.test_logs import LOGS, host, numbers, state, subscribe, viewer, writer

__all__ = ["host", "writer"]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not AVAILABLE, reason="needs systemd-journal-remote"),
]


async def message(socket: Socket) -> tuple[list[str], str]:
    """The texts of the next message of entries, and its cursor."""
    while (found := await socket.message())["type"] != "entries":
        pass
    return [row["message"] for row in found["entries"]], found["cursor"]


@pytest.mark.parametrize(
    "filters",
    [
        {"since": "2023-11-14T22:13:20.010Z"},
        {"since": "2023-11-14T22:13:20.010Z", "until": "2023-11-14T22:13:20.019Z"},
    ],
    ids=["shared", "own"],
)
async def test_no_message_is_larger_and_each_cursor_leads_on_behind_it(host, filters) -> None:
    headers = await viewer(host, VIEW, VIEW_LOGS)
    seen: list[str] = []
    cursor = ""
    for _connection in range(3):
        async with opened(LOGS, headers) as socket:
            await subscribe(socket, batch=2, **({"cursor": cursor} if cursor else filters))
            for _message in range(2 if len(seen) < 8 else 1):
                texts, cursor = await message(socket)
                assert 1 <= len(texts) <= 2
                seen += texts
    assert seen == [f"line {number}" for number in range(10, 20)]


async def test_a_viewer_that_joins_others_in_the_middle_gets_small_messages_too(host, writer) -> None:
    headers = await viewer(host, VIEW, VIEW_LOGS)
    async with opened(LOGS, headers) as first, opened(LOGS, headers) as second:
        await subscribe(first, backlog=1)
        _found, cursor = await numbers(first, 1)
        writer.write(*range(100, 120))
        await numbers(first, 20)
        await subscribe(second, cursor=cursor, batch=3)
        found: list[str] = []
        while len(found) < 20:
            texts, _cursor = await message(second)
            assert len(texts) <= 3
            found += texts
        assert found == [f"line {number}" for number in range(100, 120)]
        assert len(host.running()) == 1


async def test_lines_of_files_are_counted_out_with_their_places(host, writer, monkeypatch, tmp_path) -> None:
    folder = tmp_path / "vms"
    folder.mkdir()
    monkeypatch.setattr(qemu_logs, "DIRECTORY", str(folder))
    headers = await viewer(host, VIEW, VIEW_LOGS)
    wanted: dict[str, Any] = {"services": ["vm-log", "cron"], "backlog": 0}
    async with opened(LOGS, headers) as socket:
        await subscribe(socket, batch=2, **wanted)
        assert await state(socket) == "live"
        (folder / "web-1.log").write_text("".join(f"2023-11-14 22:13:21.000+0000: {n}\n" for n in range(9)))
        seen, cursor = await message(socket)
        assert len(seen) == 2
    writer.write(500)
    while len(seen) < 10:
        async with opened(LOGS, headers) as socket:
            await subscribe(socket, batch=2, cursor=cursor)
            texts, cursor = await message(socket)
            assert 1 <= len(texts) <= 2
            seen += texts
    assert sorted(seen) == sorted([*map(str, range(9)), "line 500"])


@pytest.mark.parametrize("batch", [0, 1001, "5", 1.5, True])
async def test_what_is_no_such_number_is_refused(host, batch) -> None:
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, batch=batch)
        said = await socket.message()
        assert (said["code"], said["field"]) == ("invalid_input", "batch")
        assert await socket.close_code() == logs.REFUSED
