"""News that crosses processes: "something has changed", over the channel layer.

It says no more than that. Whoever hears it reads the database, and does so now and then without having heard
anything: a message may be lost, and many changes in a moment are one message.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from channels.layers import get_channel_layer
from django.conf import settings

from nodes import events

log = structlog.get_logger(__name__)

GROUP = "fleet"
PAUSE_S = 0.1
FAILED_PAUSE_S = 5.0
SEND_S = 5.0
JOIN_AGAIN_S = 3600.0
"""A member of a group is forgotten after a day (channels-redis, ``group_expiry``)."""


def cross_processes() -> bool:
    """Whether there is a channel layer that carries anything out of this process."""
    return bool(settings.NODEADMIN_REDIS_URL)


class NewsSender:
    """Sends what this process publishes, from a thread with an event loop of its own: nobody waits for it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._ended = False
        self._forget: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="news", daemon=True)

    def start(self) -> None:
        """Does nothing where there is one process only."""
        if not cross_processes():
            return
        self._thread.start()
        self._forget = events.listen(self._published)

    def stop(self) -> None:
        self._forget()
        self._ended = True
        self._nudge()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _published(self, _kind: str, _payload: Mapping[str, Any]) -> None:
        self._nudge()

    def _nudge(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    def _run(self) -> None:
        asyncio.run(self._send_all())

    async def _send_all(self) -> None:
        from redis.exceptions import RedisError

        self._loop = asyncio.get_running_loop()
        layer = get_channel_layer()
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._ended:
                return
            try:
                async with asyncio.timeout(SEND_S):
                    await layer.group_send(GROUP, {"type": "changed"})
            except (RedisError, OSError) as error:
                log.warning("news could not be sent; sockets show changes a second later", error=str(error))
                await asyncio.sleep(FAILED_PAUSE_S)
            await asyncio.sleep(PAUSE_S)


async def hear(told: Callable[[], None]) -> None:
    """Call ``told`` in this loop whenever another process has published something; runs until cancelled."""
    from redis.exceptions import RedisError

    layer = get_channel_layer()
    while True:
        try:
            channel = await layer.new_channel()
            while True:
                await layer.group_add(GROUP, channel)
                told()  # whatever was sent before this one belonged to the group
                await _hear_for(JOIN_AGAIN_S, layer, channel, told)
        except (RedisError, OSError) as error:
            log.warning("no news from other processes; changes show a second later", error=str(error))
            await asyncio.sleep(FAILED_PAUSE_S)


async def _hear_for(seconds: float, layer: Any, channel: str, told: Callable[[], None]) -> None:
    try:
        async with asyncio.timeout(seconds):
            while True:
                await layer.receive(channel)
                told()
    except TimeoutError:
        pass
