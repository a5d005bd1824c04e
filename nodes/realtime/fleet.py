"""``/ws/fleet/``: the fleet as the user may see it, and then what changes in it.

Messages to the client, each with a ``version`` one above the last:

- ``{"type": "state", "version", "nodes": […], "operations": […]}``: everything, first of all and after a gap;
- ``{"type": "changes", "version", "nodes": […], "gone": [uuid…], "operations": […], "ended": [id…]}``.

From the client: ``{"type": "again"}`` asks for the whole state, as does one that has missed a version.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError

from nodes.models import User
from nodes.permissions import nodes_for
from nodes.realtime.access import Caller, Recheck
from nodes.realtime.feed import Picture, feed
from nodes.realtime.lines import NodeLine, OperationLine, plain

log = structlog.get_logger(__name__)

CHECK_S = 25.0
"""A right that is withdrawn just after a look has to have an end within 30 s."""
UNKNOWN_S = 30.0
"""For how long a viewer stays while the database does not say what rights they have."""
SEND_S = 20.0
"""A client that takes longer for one message is gone, or as good as."""
MAX_MESSAGE = 1024
UNAUTHENTICATED = 4401


class FleetConsumer(AsyncWebsocketConsumer):
    """One socket. Whatever happens meanwhile, it sends the difference to what it sent last: a client that is
    slow gets fewer messages, and never an old one."""

    async def connect(self) -> None:
        self._caller = Caller.of(self.scope)
        self._recheck = Recheck()
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._version = 0
        self._picture = Picture()
        self._judged: frozenset[int] = frozenset()
        self._sent: dict[int, NodeLine] = {}
        self._sent_operations: dict[str, OperationLine] = {}
        self._whole = True
        if not await self._check():
            await database_sync_to_async(self._caller.tell_refused)()
            # Accepted first: before that a browser is not told the code.
            await self.accept()
            await self.close(UNAUTHENTICATED)
            return
        await self.accept()
        self._picture = await feed().watch(self._notice)
        self._changed.set()
        self._tasks = [asyncio.create_task(self._tell()), asyncio.create_task(self._keep_checking())]

    async def disconnect(self, code: int) -> None:
        self._recheck.close()
        await feed().leave(self._notice)
        own = asyncio.current_task()
        for task in self._tasks:
            if task is not own:
                task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data is None or len(text_data) > MAX_MESSAGE:
            await self.close(1009)
            return
        try:
            message = json.loads(text_data)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict) and message.get("type") == "again":
            self._whole = True
            self._changed.set()

    def _notice(self, picture: Picture) -> None:
        self._picture = picture
        self._changed.set()

    async def _tell(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._look_at_new()
            message = self._message()
            if message is None:
                continue
            try:
                async with asyncio.timeout(SEND_S):
                    await self.send(text_data=json.dumps(message, separators=(",", ":")))
            except TimeoutError:
                await self.close(1008)
                return

    async def _keep_checking(self) -> None:
        checked_at = time.monotonic()
        while True:
            await self._recheck.wait(CHECK_S if time.monotonic() - checked_at < CHECK_S else CHECK_S / 5)
            try:
                known = await self._check()
            except DatabaseError:
                log.exception("the rights of a fleet's viewer could not be read")
                if time.monotonic() - checked_at < CHECK_S + UNKNOWN_S:
                    continue
                await self.close(1011)
                return
            if not known:
                await self.close(UNAUTHENTICATED)
                return
            checked_at = time.monotonic()
            # Rights that came or went show as nodes that came or went.
            self._changed.set()

    async def _look_at_new(self) -> None:
        """Nodes that have joined since the rights were read: who may see them need not wait for it."""
        if self._picture.nodes.keys() <= self._judged:
            return
        try:
            await self._check()
        except DatabaseError:
            log.exception("the rights of a fleet's viewer on new nodes could not be read")

    async def _check(self) -> bool:
        """Whether the caller is still somebody; notes which nodes they may see."""
        judged = frozenset(self._picture.nodes)
        found = await database_sync_to_async(self._rights)()
        self._judged = judged
        self._allowed: frozenset[int] = found or frozenset()
        return found is not None

    def _rights(self) -> frozenset[int] | None:
        user: User | None = self._caller.user()
        if user is None:
            return None
        self._recheck.user_id = user.pk
        return frozenset(nodes_for(user).order_by().values_list("pk", flat=True))

    def _message(self) -> dict[str, Any] | None:
        nodes = {pk: line for pk, line in self._picture.nodes.items() if pk in self._allowed}
        operations = {
            key: line
            for key, (pk, line) in self._picture.operations.items()
            if pk is not None and pk in self._allowed
        }
        before, whole = ({}, True) if self._whole else (self._sent, False)
        before_operations = {} if whole else self._sent_operations
        message: dict[str, Any] = {
            "nodes": [plain(line) for pk, line in nodes.items() if before.get(pk) != line],
            "operations": [
                plain(line) for key, line in operations.items() if before_operations.get(key) != line
            ],
        }
        if not whole:
            message["gone"] = [line.uuid for pk, line in self._sent.items() if pk not in nodes]
            message["ended"] = [key for key in self._sent_operations if key not in operations]
        self._sent, self._sent_operations, self._whole = nodes, operations, False
        if not whole and not any(message.values()):
            return None
        self._version += 1
        return {"type": "state" if whole else "changes", "version": self._version, **message}
