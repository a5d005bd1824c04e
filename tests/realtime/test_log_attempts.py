"""A host whose live logs cannot be opened is asked ever more seldom, however many ask."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from nodes.permissions import VIEW, VIEW_LOGS
from nodes.realtime import log_attempts, logs
from tests.journals import AVAILABLE, JournalHost
from tests.realtime.sockets import opened
from tests.realtime.test_logs import LOGS, host, numbers, subscribe, viewer

__all__ = ["host"]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not AVAILABLE, reason="needs systemd-journal-remote"),
]
PAUSES_S = (0.4, 0.8, 1.2)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the host was asked."""
    found: list[float] = []
    real = logs.LogConsumer._begun

    def noted(self: Any, *given: Any) -> Any:
        found.append(time.monotonic())
        return real(self, *given)

    monkeypatch.setattr(logs.LogConsumer, "_begun", noted)
    monkeypatch.setattr(log_attempts, "PAUSES_S", PAUSES_S)
    return found


async def test_the_next_tries_are_further_and_further_apart_and_all_wait_for_one(
    host: JournalHost, tries: list[float]
) -> None:
    headers = await viewer(host, VIEW, VIEW_LOGS)
    await sync_to_async(host.sshd.stop)()
    async with opened(LOGS, headers) as socket:
        await subscribe(socket, backlog=1)
        assert (await socket.message())["type"] == "error"
    async with opened(LOGS, headers) as one, opened(LOGS, headers) as two, opened(LOGS, headers) as three:
        for socket in (one, two, three):
            await subscribe(socket, backlog=1)
            assert (await socket.message())["state"] == "waiting"
        for socket in (one, two, three):
            assert (await socket.message())["type"] == "error"
    apart = [later - earlier for earlier, later in pairwise(tries)]
    assert [pause >= wanted for pause, wanted in zip(apart, PAUSES_S, strict=True)] == [True] * 3
    await sync_to_async(host.sshd.start)()
    async with opened(LOGS, headers) as socket:
        await subscribe(socket, backlog=1)
        assert (await socket.message())["state"] == "waiting"
        assert (await numbers(socket, 1))[0] == [49]
    async with opened(LOGS, headers) as socket:
        await subscribe(socket, backlog=1)
        assert (await socket.message())["state"] == "live"


async def test_a_question_that_is_wrong_keeps_nobody_waiting(host: JournalHost) -> None:
    headers = await viewer(host, VIEW, VIEW_LOGS)
    async with opened(LOGS, headers) as socket:
        await subscribe(socket, level="loud")
        assert (await socket.message())["type"] == "error"
    async with opened(LOGS, headers) as socket:
        await subscribe(socket, backlog=1)
        assert (await socket.message())["state"] == "live"
