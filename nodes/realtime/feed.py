"""What has changed in the fleet, told to every open socket of this process.

The database is asked once a second while anybody looks, for all of them together, and at once when this
process publishes a change, or another one where a channel layer connects them. So it does not matter in which
process the monitor or an operation runs, and nothing is lost when a message is: what is sent is always the
difference between two states that were read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from channels.db import database_sync_to_async
from django.db import DatabaseError

from nodes import events, news
from nodes.realtime.lines import NodeLine, OperationLine, read_nodes, read_operations

log = structlog.get_logger(__name__)

POLL_S = 1.0
NODES_A_SECOND = 2000
"""A fleet beyond this is looked at less often, so that looking never takes more than a little of a core."""

Operations = Mapping[str, tuple[int | None, OperationLine]]


@dataclass(frozen=True, slots=True)
class Picture:
    """The fleet at one moment."""

    nodes: Mapping[int, NodeLine] = field(default_factory=dict)
    operations: Operations = field(default_factory=dict)


Watcher = Callable[[Picture], None]
"""Called in the loop with each new picture; returns at once."""


class FleetFeed:
    """One a process and event loop. It rests while nobody watches."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self.picture = Picture()

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    async def watch(self, watcher: Watcher) -> Picture:
        """Have ``watcher`` called from now on; gives the picture it begins with. Raises DatabaseError."""
        self._watchers.add(watcher)
        if self._task is None or self._first is None:
            # Both before anything is awaited: many come at once after a restart of the server, and each would
            # start a task of its own that nobody ends.
            self._first = asyncio.create_task(self._look())
            self._task = asyncio.create_task(self._run(), name="fleet feed")
        try:
            await asyncio.shield(self._first)
        except BaseException:
            await self.leave(watcher)
            raise
        return self.picture

    async def leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        if not self._watchers and self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()

        def published(_kind: str, _payload: Mapping[str, Any]) -> None:
            loop.call_soon_threadsafe(self._wake.set)

        stop = events.listen(published)
        hearing = asyncio.create_task(news.hear(self._wake.set)) if news.cross_processes() else None
        try:
            while True:
                pause = max(POLL_S, len(self.picture.nodes) / NODES_A_SECOND)
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                else:
                    # Changes come in flocks: a moment later one look shows them all.
                    await asyncio.sleep(0.1)
                self._wake.clear()
                await self._look_and_tell()
        finally:
            stop()
            if hearing is not None:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)

    async def _look_and_tell(self) -> None:
        try:
            await self._look()
        except DatabaseError:
            log.exception("the fleet could not be read for its sockets; the next look tries again")
            return
        for watcher in tuple(self._watchers):
            watcher(self.picture)

    async def _look(self) -> None:
        self.picture = await database_sync_to_async(_read)()


def _read() -> Picture:
    return Picture(read_nodes(), read_operations())


_feeds: dict[int, FleetFeed] = {}


def feed() -> FleetFeed:
    """The feed of the running event loop."""
    key = id(asyncio.get_running_loop())
    found = _feeds.get(key)
    if found is None:
        _feeds.clear()
        found = _feeds[key] = FleetFeed()
    return found


def open_sockets() -> int:
    """Sockets that watch the fleet in this process."""
    return sum(one.watchers for one in tuple(_feeds.values()))
