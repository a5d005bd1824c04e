"""The fleet's socket: who may open it, what it shows to whom, and what it says when something changes."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from nodes.engine.logins import password_changed
from nodes.events import Actor
from nodes.login_age import USED
from nodes.models import ApiToken, Connection, Event, Node, User
from nodes.models.event import Via
from nodes.realtime import fleet
from nodes.realtime.feed import FleetFeed, Watcher, open_sockets
from tests.factories import grant, make_node, make_operation, make_user
from tests.realtime.sockets import OWN, Socket, cookie_of, opened

pytestmark = pytest.mark.django_db(transaction=True)
FLEET = "/ws/fleet/"


async def test_without_a_login_it_is_closed() -> None:
    async with opened(FLEET, OWN) as socket:
        assert await socket.close_code() == fleet.UNAUTHENTICATED


async def test_a_login_on_a_foreign_page_counts_for_nothing() -> None:
    user = await sync_to_async(make_user)(is_superuser=True)
    cookie = await sync_to_async(cookie_of)(user)
    foreign = [(b"host", b"localhost"), (b"origin", b"http://evil.example"), cookie]
    for headers in (
        foreign,
        foreign[::2],
        [(b"host", b"evil.example"), (b"origin", b"http://evil.example"), cookie],
    ):
        async with opened(FLEET, headers) as socket:
            assert await socket.close_code() == fleet.UNAUTHENTICATED


async def test_a_token_needs_no_origin_and_a_revoked_one_is_none() -> None:
    user = await sync_to_async(make_user)(is_superuser=True)
    end = timezone.now() + timedelta(days=1)
    row, text = await sync_to_async(ApiToken.make)(user, "test", end, read_only=True)
    async with opened(FLEET, [(b"authorization", f"Bearer {text}".encode())]) as socket:
        assert (await socket.message())["type"] == "state"
    await sync_to_async(ApiToken.objects.filter(pk=row.pk).update)(revoked_at=timezone.now())
    async with opened(FLEET, [(b"authorization", f"Bearer {text}".encode())]) as socket:
        assert await socket.close_code() == fleet.UNAUTHENTICATED
    refused = await sync_to_async(Event.objects.get)(kind="token_refused")
    assert (refused.via, text in str(refused.__dict__)) == (Via.API, False)


async def test_changes_follow_the_state_with_the_next_version() -> None:
    user = await sync_to_async(make_user)(is_superuser=True)
    node = await sync_to_async(make_node)("kvm-01")
    async with opened(FLEET, [*OWN, await sync_to_async(cookie_of)(user)]) as socket:
        state = await socket.message()
        assert [line["name"] for line in state["nodes"]] == ["kvm-01"]
        assert state["nodes"][0]["status"] == "online"
        await sync_to_async(Node.objects.filter(pk=node.pk).update)(
            connection=Connection.OFFLINE, connection_reason="unreachable"
        )
        changes = await socket.message()
        assert (changes["type"], changes["version"]) == ("changes", state["version"] + 1)
        line = changes["nodes"][0]
        assert (line["status"], line["reason"]) == ("offline", "unreachable")
        await sync_to_async(node.delete)()
        assert (await socket.message())["gone"] == [str(node.uuid)]


async def test_a_node_that_joins_is_shown_at_once_to_those_who_may_see_it() -> None:
    everybody, nobody = await sync_to_async(make_user)(is_superuser=True), await sync_to_async(make_user)()
    headers = [[*OWN, await sync_to_async(cookie_of)(user)] for user in (everybody, nobody)]
    async with opened(FLEET, headers[0]) as socket, opened(FLEET, headers[1]) as other:
        await socket.message()
        await other.message()
        await sync_to_async(make_node)("kvm-02")
        assert [line["name"] for line in (await socket.message())["nodes"]] == ["kvm-02"]
        assert await other.is_quiet(2)


async def test_one_sees_only_the_nodes_that_one_may_see_and_their_operations() -> None:
    user = await sync_to_async(make_user)()
    mine, other = await sync_to_async(make_node)("mine"), await sync_to_async(make_node)("other")
    await sync_to_async(grant)(user, mine, "view_node")
    await sync_to_async(make_operation)(mine, status="running")
    await sync_to_async(make_operation)(other, status="running")
    async with opened(FLEET, [*OWN, await sync_to_async(cookie_of)(user)]) as socket:
        state = await socket.message()
        assert [line["name"] for line in state["nodes"]] == ["mine"]
        assert [line["node"] for line in state["operations"]] == ["mine"]
        await sync_to_async(Node.objects.filter(pk=other.pk).update)(connection=Connection.OFFLINE)
        assert await socket.is_quiet(2)


async def test_who_has_missed_something_gets_the_whole_state_again() -> None:
    user = await sync_to_async(make_user)(is_superuser=True)
    await sync_to_async(make_node)("kvm-01")
    async with opened(FLEET, [*OWN, await sync_to_async(cookie_of)(user)]) as socket:
        await socket.message()
        for nonsense in ("{", "7", "[" * 1024, '{"type": 5}'):
            await socket.send(nonsense)
        await socket.send('{"type": "again"}')
        assert (await socket.message())["type"] == "state"


async def test_a_right_that_is_taken_away_and_a_login_that_ends_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet, "CHECK_S", 0.5)
    user = await sync_to_async(make_user)(is_superuser=True)
    node = await sync_to_async(make_node)("kvm-01")
    async with opened(FLEET, [*OWN, await sync_to_async(cookie_of)(user)]) as socket:
        await socket.message()
        await sync_to_async(User.objects.filter(pk=user.pk).update)(is_superuser=False)
        assert (await socket.message())["gone"] == [str(node.uuid)]
        await sync_to_async(User.objects.filter(pk=user.pk).update)(is_active=False)
        assert await socket.close_code() == fleet.UNAUTHENTICATED


async def test_noise_and_too_much_of_it_break_nothing() -> None:
    user = await sync_to_async(make_user)(is_superuser=True)
    async with opened(FLEET, [*OWN, await sync_to_async(cookie_of)(user)]) as socket:
        await socket.message()
        await socket.send("{")
        await socket.send("[1]")
        await socket.send("x" * 5000)
        assert await socket.close_code() == 1009


async def test_a_closed_socket_leaves_nothing_behind() -> None:
    user = await sync_to_async(make_user)(is_superuser=True)
    async with opened(FLEET, [*OWN, await sync_to_async(cookie_of)(user)]) as socket:
        await socket.message()
        assert open_sockets() == 1
    assert open_sockets() == 0


async def test_sockets_that_come_together_share_one_look_at_the_fleet_and_leave_none_behind() -> None:
    await sync_to_async(make_node)("kvm-01")
    shared = FleetFeed()
    watchers: list[Watcher] = [lambda _picture, _number=number: None for number in range(5)]  # type: ignore[misc]
    pictures = await asyncio.gather(*(shared.watch(watcher) for watcher in watchers))
    assert [len(picture.nodes) for picture in pictures] == [1] * 5
    assert len(looking()) == 1
    for watcher in watchers:
        await shared.leave(watcher)
    assert looking() == []


def looking() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "fleet feed"]


async def test_an_address_that_is_none_is_closed() -> None:
    answer = await Socket("/ws/nothing/", OWN).open()
    assert answer == {"type": "websocket.close", "code": 4404}


async def test_ended_sessions_close_their_sockets_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "CHECK_S", 3600.0)
    user = await sync_to_async(make_user)(is_superuser=True)
    cookie = await sync_to_async(cookie_of)(user)
    async with opened(FLEET, [*OWN, cookie]) as socket:
        assert (await socket.message())["type"] == "state"
        await sync_to_async(_set_password)(user)
        assert await socket.close_code() == fleet.UNAUTHENTICATED


def _set_password(user: User) -> None:
    user.set_password("another one altogether")
    user.save()
    password_changed(Actor(user, via=Via.PAGE), user, tokens=False)


@pytest.mark.parametrize("what", ["idle", "factor"])
async def test_a_login_that_may_do_nothing_opens_no_socket(what: str, settings) -> None:
    user = await sync_to_async(make_user)(is_superuser=True)
    cookie = await sync_to_async(cookie_of)(user)
    if what == "factor":
        settings.NODEADMIN_REQUIRE_SECOND_FACTOR = "all"
    else:
        await sync_to_async(_leave_unused)(cookie, settings.NODEADMIN_SESSION_IDLE_S + 1)
    async with opened(FLEET, [*OWN, cookie]) as socket:
        assert await socket.close_code() == fleet.UNAUTHENTICATED


def _leave_unused(cookie: tuple[bytes, bytes], seconds: int) -> None:
    session = SessionStore(cookie[1].decode().partition("=")[2])
    session[USED] = int(time.time()) - seconds
    session.save()
