"""Callers × sockets: what each sees of the fleet, and whose logs it may follow."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache import cache

from nodes import access
from nodes.realtime import fleet, logs
from nodes.realtime.routing import websocket_urlpatterns
from tests.permissions.matrix import CALLERS, LOGS, VIEW, Caller
from tests.permissions.world import Trap, World
from tests.realtime.sockets import OWN, Headers, opened

SOCKETS = {"ws/fleet/", "ws/nodes/<str:name>/logs/"}


def test_every_socket_is_in_the_matrix():
    assert {str(one.pattern) for one in websocket_urlpatterns} == SOCKETS


def headers_of(world: World, caller: Caller) -> Headers:
    client = world.callers[caller.name]
    if caller.token:
        return [(b"authorization", client.defaults["HTTP_AUTHORIZATION"].encode())]
    cookie = client.cookies.get(settings.SESSION_COOKIE_NAME)
    if cookie is None:
        return OWN
    return [*OWN, (b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie.value}".encode())]


async def seen_of_fleet(headers: Headers) -> str | int:
    """Letters of the nodes, or the code with which the socket was closed."""
    async with opened("/ws/fleet/", headers) as socket:
        event = await socket.event()
        if event["type"] == "websocket.close":
            return int(event["code"])
        return "".join(sorted(line["name"][-1] for line in socket.read(event)["nodes"]))


async def code_of_logs(headers: Headers, name: str) -> str:
    """The code with which the socket is closed before anything is asked of the host; "" while it is open."""
    async with opened(f"/ws/nodes/{name}/logs/", headers) as socket:
        if await socket.is_quiet(0.3):
            return ""
        return str(socket.read(await socket.event())["code"])


@pytest.mark.django_db(transaction=True)
async def test_each_socket_answers_each_caller_as_the_matrix_says(settings: Any):
    settings.NODEADMIN_HOST_TIMEOUT_S = 2.0
    trap = Trap()
    world = await sync_to_async(World)(trap)
    wrong: list[str] = []
    for caller in CALLERS:
        cache.clear()
        headers = headers_of(world, caller)
        seen = await seen_of_fleet(headers)
        expected: str | int = caller.sees if caller.known else fleet.UNAUTHENTICATED
        if seen != expected:
            wrong.append(f"{caller.name} → fleet: {seen!r}, expected {expected!r}")
        for node in "ab":
            code = await code_of_logs(headers, world.name(node))
            if not caller.known:
                wanted = "not_authenticated"
            elif caller.read_only:
                wanted = "permission_denied"
            elif VIEW not in caller.on(node):
                wanted = "unknown_node"
            else:
                wanted = "" if LOGS in caller.on(node) else "permission_denied"
            if code != wanted:
                wrong.append(f"{caller.name} → logs of {node}: {code!r}, expected {wanted!r}")
    assert trap.count() == 0, "a socket that nothing was asked of has connected to a host"
    trap.close()
    access.close_pool()
    assert not wrong, "\n".join(wrong)
    assert logs.open_log_sockets() == 0


@pytest.mark.django_db(transaction=True)
async def test_no_socket_opens_for_a_login_without_the_factor_that_is_required(settings: Any):
    trap = Trap()
    world = await sync_to_async(World)(trap)
    caller = next(one for one in CALLERS if one.name == "superuser")
    headers = headers_of(world, caller)
    assert await seen_of_fleet(headers) == "ab"
    settings.NODEADMIN_REQUIRE_SECOND_FACTOR = "all"
    assert await seen_of_fleet(headers) == fleet.UNAUTHENTICATED
    assert await code_of_logs(headers, world.name("a")) == "not_authenticated"
    assert trap.count() == 0
    trap.close()
    access.close_pool()
