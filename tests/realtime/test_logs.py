"""The socket of a journal: live, resumed without gap or repeat, shared, paused, and ended with its viewer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.utils import timezone

from nodes import access
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_query import query
from nodes.models import ApiToken, Event, NodeUserObjectPermission
from nodes.permissions import VIEW, VIEW_LOGS
from nodes.realtime import fleet, logs
from tests.api.test_logs import node_of
from tests.factories import grant, make_user
from tests.journals import AVAILABLE, JournalHost, entry, export
from tests.realtime.sockets import OWN, Socket, cookie_of, opened

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not AVAILABLE, reason="needs systemd-journal-remote"),
]
LOGS = "/ws/nodes/kvm-01/logs/"


@pytest.fixture
def host(tmp_path) -> Iterator[JournalHost]:
    made = JournalHost(tmp_path)
    made.write(entry(number, f"line {number}") for number in range(50))
    with made:
        yield made


async def viewer(host: JournalHost, *permissions: str) -> Any:
    """A user with these permissions on the node; the node is made with the first one."""
    user = await sync_to_async(make_user)()
    node = await sync_to_async(lambda: logs.Node.objects.filter(name="kvm-01").first() or node_of(host))()
    await sync_to_async(grant)(user, node, *permissions)
    return [*OWN, await sync_to_async(cookie_of)(user)]


async def numbers(socket: Socket, count: int) -> tuple[list[int], str]:
    """The numbers of the next ``count`` lines, and the cursor behind them."""
    found: list[int] = []
    cursor = ""
    while len(found) < count:
        message = await socket.message()
        if message["type"] == "entries":
            found += [int(row["message"].split()[1]) for row in message["entries"]]
            cursor = message["cursor"]
    return found, cursor


async def state(socket: Socket) -> str:
    while (message := await socket.message())["type"] != "state":
        pass
    return str(message["state"])


async def subscribe(socket: Socket, **filters: Any) -> None:
    await socket.send(json.dumps({"type": "subscribe", **filters}))


class Writer:
    """Appends numbered lines to the host's journal while it is read."""

    def __init__(self, host: JournalHost) -> None:
        self._process = host.writer()

    def write(self, *lines: int) -> None:
        assert self._process.stdin is not None
        for number in lines:
            self._process.stdin.write(export(entry(number, f"line {number}")))
        self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


@pytest.fixture
def writer(host: JournalHost) -> Iterator[Writer]:
    made = Writer(host)
    yield made
    made.close()


async def test_the_newest_lines_come_first_and_new_ones_as_they_are_written(host, writer) -> None:
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, backlog=10)
        first = await socket.message()
        assert (first["type"], first["state"]) == ("state", "live"), "a state comes before any entry"
        assert first["command"].startswith("journalctl --follow")
        assert (await numbers(socket, 10))[0] == list(range(40, 50))
        writer.write(100, 101)
        assert (await numbers(socket, 2))[0] == [100, 101]


async def test_what_came_before_the_first_lines_is_asked_for_by_the_cursor_that_comes_with_them(host) -> None:
    headers = await viewer(host, VIEW, VIEW_LOGS)
    async with opened(LOGS, headers) as socket:
        await subscribe(socket, backlog=10)
        first = await socket.message()
        assert first["cut"] == ""
        target = await sync_to_async(lambda: access.target_for(logs.Node.objects.get(name="kvm-01")))()
        start = LogCursor.decode(first["earlier"])
        page = await sync_to_async(lambda: query(access.connect(target), start, limit=100))()
        assert [row.message for row in page.entries] == [f"line {number}" for number in range(39, -1, -1)]
    async with opened(LOGS, headers) as socket:
        await subscribe(socket, backlog=100)
        assert (await socket.message())["earlier"] is None
    async with opened(LOGS, headers) as socket:
        await subscribe(socket, since="2023-11-14T22:13:20Z")
        assert "earlier" not in await socket.message()


async def test_a_viewer_that_comes_back_with_its_cursor_misses_and_repeats_nothing(host, writer) -> None:
    headers = await viewer(host, VIEW, VIEW_LOGS)
    async with opened(LOGS, headers) as socket:
        await subscribe(socket, backlog=5)
        _found, cursor = await numbers(socket, 5)
    writer.write(*range(100, 130))
    async with opened(LOGS, headers) as socket:
        await subscribe(socket, cursor=cursor)
        assert (await numbers(socket, 30))[0] == list(range(100, 130))
    assert await sync_to_async(host.rests)()


async def test_lines_whose_message_the_follower_lost_are_shown_whole_and_once(host, writer) -> None:
    host.lose_message("line [0-9]*[05]", option="--follow")
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, backlog=5)
        assert (await numbers(socket, 5))[0] == list(range(45, 50))
        for start in range(100, 400, 100):
            await sync_to_async(writer.write)(*range(start, start + 100))
        assert (await numbers(socket, 300))[0] == list(range(100, 400))
        writer.write(900)
        assert (await numbers(socket, 1))[0] == [900]


async def test_viewers_of_the_same_share_one_process_which_ends_with_the_last(host, writer) -> None:
    headers = await viewer(host, VIEW, VIEW_LOGS)
    async with opened(LOGS, headers) as first:
        await subscribe(first, backlog=3)
        await numbers(first, 3)
        async with opened(LOGS, headers) as second:
            await subscribe(second, backlog=7)
            assert (await numbers(second, 7))[0] == list(range(43, 50))
            await asyncio.sleep(0.5)
            writer.write(200)
            for socket in (first, second):
                assert (await numbers(socket, 1))[0] == [200]
            assert len(host.running()) == 1
        writer.write(201)
        assert (await numbers(first, 1))[0] == [201]
        assert len(host.running()) == 1
    assert await sync_to_async(host.rests)()


async def test_filters_hold_in_the_stream(host, writer) -> None:
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, keyword="line 30")
        assert (await numbers(socket, 1))[0] == [30]
        writer.write(301, 150, 302)
        assert (await numbers(socket, 2))[0] == [301, 302]


async def test_a_span_of_time_ends_by_itself(host) -> None:
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, since="2023-11-14T22:13:20.010Z", until="2023-11-14T22:13:20.019Z")
        assert (await numbers(socket, 10))[0] == list(range(10, 20))
        assert await state(socket) == "ended"
        assert await socket.close_code() == 1000


async def test_a_paused_viewer_gets_nothing_and_then_everything(host, writer) -> None:
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, backlog=1)
        await numbers(socket, 1)
        await socket.send('{"type": "pause"}')
        while await state(socket) != "paused":
            pass
        writer.write(*range(100, 110))
        await socket.send('{"type": "resume"}')
        assert (await numbers(socket, 10))[0] == list(range(100, 110))


async def test_the_stream_goes_on_after_the_host_was_lost(host, writer) -> None:
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, backlog=1)
        await numbers(socket, 1)
        writer.write(60)
        assert (await numbers(socket, 1))[0] == [60]
        await sync_to_async(host.sshd.stop)()
        while await state(socket) != "reconnecting":
            pass
        writer.write(61, 62)
        await sync_to_async(host.sshd.start)()
        assert (await numbers(socket, 2))[0] == [61, 62]


async def test_a_removed_place_is_told_and_not_passed_over(host, writer) -> None:
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, backlog=1)
        _found, cursor = await numbers(socket, 1)
    for file in host.journal.glob("a.journal"):
        file.unlink()
    writer.write(70, 71)
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, cursor=cursor)
        assert await state(socket) == "live"
        assert await state(socket) == "gap"
        assert (await numbers(socket, 2))[0] == [70, 71]


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        ("[]", "invalid_input", ""),
        ("{", "invalid_input", ""),
        ('{"type": "shout"}', "invalid_input", "type"),
        ('{"type": "subscribe", "level": "loud"}', "invalid_input", "level"),
        ('{"type": "subscribe", "surprise": 1}', "invalid_input", "surprise"),
        ('{"type": "subscribe", "backlog": -1}', "invalid_input", "backlog"),
        ('{"type": "subscribe", "cursor": "x"}', "invalid_cursor", "cursor"),
        ('{"type": "subscribe", "boot": "-9"}', "invalid_input", "boot"),
    ],
)
async def test_what_is_not_understood_is_said_and_closed(host, message, code, field) -> None:
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await socket.send(message)
        said = await socket.message()
        assert (said["type"], said["code"], said["field"]) == ("error", code, field)
        assert await socket.close_code() == logs.REFUSED


@pytest.mark.parametrize(
    ("permissions", "code"), [((), logs.UNKNOWN), ((VIEW,), logs.FORBIDDEN)], ids=["stranger", "no logs"]
)
async def test_only_who_may_read_journals_gets_in(host, permissions, code) -> None:
    async with opened(LOGS, await viewer(host, *permissions)) as socket:
        assert (await socket.message())["type"] == "error"
        assert await socket.close_code() == code


async def test_a_permission_that_is_withdrawn_closes_the_socket_and_ends_the_process(
    host, monkeypatch
) -> None:
    monkeypatch.setattr(logs, "CHECK_S", 0.2)
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, backlog=1)
        await numbers(socket, 1)
        rows = NodeUserObjectPermission.objects.filter(permission__codename=VIEW_LOGS)
        await sync_to_async(rows.delete)()
        while (message := await socket.message())["type"] == "state":
            pass
        assert message["code"] == "permission_denied"
        assert await socket.close_code() == logs.FORBIDDEN
    assert await sync_to_async(host.rests)()


async def test_with_a_token_it_opens_the_credential_by_the_api_and_is_denied_in_the_tokens_name(host) -> None:
    await viewer(host, VIEW)
    user = await sync_to_async(make_user)(is_superuser=True)
    end = timezone.now() + timedelta(hours=1)
    for name, permissions in (("reader", [VIEW, VIEW_LOGS]), ("short", [VIEW])):
        make = partial(ApiToken.make, user, name, end, read_only=False, permissions=permissions)
        _row, text = await sync_to_async(make)()
        async with opened(LOGS, [(b"authorization", f"Bearer {text}".encode())]) as socket:
            await subscribe(socket, backlog=1)
            await socket.message()
    entries = await sync_to_async(list)(Event.objects.filter(user=user).order_by("pk"))
    assert [(row.kind, row.via, row.token_name) for row in entries] == [
        ("credential_opened", "api", "reader"),
        ("permission_denied", "api", "short"),
    ]


async def test_rights_are_looked_at_again_after_a_look_has_failed(host, monkeypatch) -> None:
    monkeypatch.setattr(logs, "CHECK_S", 0.2)
    failures = iter(range(3))
    real = logs.get_node

    def failing(*given: Any) -> Any:
        if next(failures, None) is not None:
            raise OperationalError("database is locked")
        return real(*given)

    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, backlog=1)
        await numbers(socket, 1)
        rows = NodeUserObjectPermission.objects.filter(permission__codename=VIEW_LOGS)
        await sync_to_async(rows.delete)()
        monkeypatch.setattr(logs, "get_node", failing)
        while (message := await socket.message())["type"] == "state":
            pass
        assert message["code"] == "permission_denied"
        assert await socket.close_code() == logs.FORBIDDEN


async def test_a_viewer_whose_rights_nobody_knows_is_not_kept(host, monkeypatch) -> None:
    monkeypatch.setattr(logs, "CHECK_S", 0.1)
    monkeypatch.setattr(logs, "UNKNOWN_S", 0.5)
    async with opened(LOGS, await viewer(host, VIEW, VIEW_LOGS)) as socket:
        await subscribe(socket, backlog=1)
        await numbers(socket, 1)

        def failing(*_given: Any) -> Any:
            raise OperationalError("no connection")

        monkeypatch.setattr(logs, "get_node", failing)
        while (message := await socket.message())["type"] == "state":
            pass
        assert (message["code"], message["retryable"]) == ("internal_error", True)
        assert await socket.close_code() == logs.FAILED
    assert await sync_to_async(host.rests)()


def test_as_it_is_set_a_withdrawn_right_ends_within_30_s() -> None:
    assert logs.CHECK_S + logs.FAREWELL_S <= 30
    assert fleet.CHECK_S < 30


async def test_a_user_has_no_more_sockets_than_the_limit(host, settings) -> None:
    settings.NODEADMIN_LOG_SOCKETS_PER_USER = 1
    headers = await viewer(host, VIEW, VIEW_LOGS)
    async with opened(LOGS, headers) as first:
        async with opened(LOGS, headers) as second:
            assert (await second.message())["code"] == "rate_limited"
            assert await second.close_code() == logs.TOO_MANY
        await subscribe(first, backlog=1)
        await numbers(first, 1)
