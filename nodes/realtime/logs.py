"""``/ws/nodes/NAME/logs/``: a host's journal as it grows.

From the client, first of all: ``{"type": "subscribe", …}`` with the filters of describe-node-logs, or with
the ``cursor`` of the last entries alone, which goes on without gap or repeat. ``backlog`` is how many of the
newest entries come first (100; where a time is given, all since then). ``batch`` is the most entries that a
later message may carry (1000): for a client that takes them slowly, as what it has not taken waits on the
host, and not in messages under way. Later ``{"type": "pause"}`` and
``{"type": "resume"}``: in between nothing is read from the host either.

To the client, first of all the state ``live`` with the ``command`` that shows the same on the host, the
``problems`` (what cannot be read, and why), and ``searched_by``: ``nodeadmin`` where the host cannot search.
Then:

(``earlier`` is the cursor with which describe-node-logs gives what came before the first entries, null where
nothing did; ``cut`` says which bound ended the search for them, as it says there. Neither is there where a
time or a cursor was asked for.)

- ``{"type": "entries", "entries": […], "cursor"}``: oldest first;
- ``{"type": "state", "state"}`` with ``live``, ``paused``, ``reconnecting`` (the host is lost, why, and it
  is tried again), ``waiting`` (for a channel to the host; before all others, where the host failed the last
  time, and is asked ever more seldom), ``gap`` (the place of the cursor has been removed from the journal:
  something may be missing before the next entries), ``ended``;
- ``{"type": "error", "code", "message", "field", "retryable"}``, and the socket is closed.

Entries go straight to the socket: a client that is slow slows down the host's process, and nothing piles up.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import DatabaseError, connections
from django.utils.translation import gettext as _

from nodes import access, credential_use
from nodes.audit.requests import noting_denials, tell_denials, tell_refusal
from nodes.errors import HostError, InvalidInput, NodeAdminError, PermissionDenied, UnknownNode
from nodes.events import Actor
from nodes.hosts.connection import HostConnection
from nodes.hosts.journal import absolute
from nodes.hosts.journal_entries import Entry
from nodes.hosts.journal_filters import read_filters, search_pattern
from nodes.hosts.journal_tool import tool_of
from nodes.hosts.log_command import shown_command
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_query import LogPage, LogProblem, query
from nodes.hosts.shared_pool import SharedPool
from nodes.hosts.stop_signal import stopped_by
from nodes.models import Node, User
from nodes.permissions import VIEW_LOGS, get_node, require_starting
from nodes.realtime.access import Caller, Recheck
from nodes.realtime.log_hub import Joined, LogHub, Viewer
from nodes.realtime.log_stream import encoded, entries_message, state_message

log = structlog.get_logger(__name__)

CHECK_S = 25.0
"""A right that is withdrawn just after a look has to have an end within 30 s."""
UNKNOWN_S = 30.0
"""For how long a viewer stays while the database does not say what rights they have."""
FAREWELL_S = 5.0
BACKLOG, MAX_BACKLOG = 100, 5000
MAX_BATCH = 1000
MAX_MESSAGE = 64 << 10
REFUSED, UNAUTHENTICATED, FORBIDDEN, UNKNOWN, TOO_MANY, FAILED = 4400, 4401, 4403, 4404, 4429, 4500
_CODES = {400: REFUSED, 403: FORBIDDEN, 404: UNKNOWN, 429: TOO_MANY}
_FILTERS = ("services", "since", "until", "last", "level", "keyword", "regex", "boot", "vm")
_OVERLAP = timedelta(seconds=2)

_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LogHub] = weakref.WeakKeyDictionary()
_openers = SharedPool(16, "journal: open")
"""Threads that wait for hosts. Not the loop's own: dead hosts would keep everybody else's work waiting."""


def hub() -> LogHub:
    """The hub of the running loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), LogHub())


def open_log_sockets() -> int:
    """Live logs that are open in this process."""
    return sum(one.viewers for one in tuple(_hubs.values()))


@dataclass(frozen=True, slots=True)
class Begun:
    """Where the stream goes on, by an entry or by a time, after the entries that come first."""

    start: LogCursor
    since: datetime | None = None
    entries: Sequence[Entry] = ()
    problems: tuple[LogProblem, ...] = ()
    searched_here: bool = False
    page: LogPage | None = None
    """Whose entries come first, where it was asked for."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a client asked for: where to begin, how many of the newest first, how many a message (0: any)."""

    start: LogCursor
    backlog: int
    batch: int

    @property
    def is_new(self) -> bool:
        """Whether it begins now, with all that comes as it comes."""
        filters = self.start.filters
        begins = filters.since or filters.until or filters.last_s or self.start.journal or self.start.files
        return not begins and not self.batch


class LogConsumer(AsyncWebsocketConsumer):
    """One socket: one viewer of one query."""

    async def connect(self) -> None:
        self._caller = Caller.of(self.scope)
        self._recheck = Recheck()
        self._name: str = self.scope["url_route"]["kwargs"]["name"]
        self._tasks: list[asyncio.Task[None]] = []
        self._running = asyncio.Event()
        self._running.set()
        self._viewer: Viewer | None = None
        self._gone = threading.Event()
        self._user: User | None = None
        self._asked: credential_use.Request | None = None
        self._closed = False
        await self.accept()
        # Refused only after it was accepted: before that a browser is not told why.
        if not await self._admit():
            return
        self._start(self._keep_checking())

    async def _admit(self) -> bool:
        try:
            found = await database_sync_to_async(self._rights)()
            if found is None:
                await database_sync_to_async(self._caller.tell_refused)()
                await self._refuse("not_authenticated", _("Sign in first."), UNAUTHENTICATED)
                return False
            user, asking, self._node = found
            self._recheck.user_id = user.pk
            hub().admit(user.pk, settings.NODEADMIN_LOG_SOCKETS_PER_USER)
            self._user = user
            self._asked = credential_use.Request(lambda: asking, lambda: "live-logs")
        except NodeAdminError as error:
            await self._fail(error)
            return False
        return True

    def _rights(self) -> tuple[User, Actor, Node] | None:
        """The user, how they came, and the node as they are now. Raises UnknownNode, PermissionDenied."""
        actor = self._caller.actor()
        if actor is None or actor.user is None:
            return None
        user = actor.user
        with noting_denials() as denials:
            try:
                require_starting(user)
                return user, actor, get_node(user, self._name, VIEW_LOGS)
            except PermissionDenied:
                if not denials:
                    tell_refusal(actor, "node-logs")
                raise
            finally:
                if denials:
                    tell_denials(denials, actor, "node-logs")

    async def disconnect(self, code: int) -> None:
        self._recheck.close()
        self._closed = True
        self._stop_viewing()
        if self._user is not None:
            hub().dismiss(self._user.pk)
            self._user = None

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._user is None:
            return
        try:
            message = _read(text_data)
            kind = message.pop("type", None)
            if kind == "subscribe":
                if len(self._tasks) > 1:
                    raise InvalidInput(_("This socket has its subscription; open another one."), field="type")
                self._start(self._serve(message))
            elif kind == "pause":
                self._running.clear()
                await self.send(text_data=state_message("paused"))
            elif kind == "resume":
                self._running.set()
                await self.send(text_data=state_message("live"))
            else:
                raise InvalidInput(_("A message is of the type subscribe, pause or resume."), field="type")
        except NodeAdminError as error:
            await self._fail(error)

    def _start(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _serve(self, message: dict[str, Any]) -> None:
        joined: Joined | None = None
        try:
            asked = _subscription(message)
            host = str(self._node.uuid)
            joined = hub().join(host, asked.start.filters) if asked.is_new else None
            before = joined.before if joined else None
            await self._take_turn(host)
            opening = _openers.submit(host, partial(self._open, asked.start, asked.backlog, before))
            begun = await self._opened(host, opening)
            if self._closed:
                return
            await self.send(text_data=_first_state(begun, asked.backlog))
            if begun.entries:
                await self.send(text_data=entries_message(begun.entries, begun.start.encode()))
            self._viewer = Viewer(hub(), host, self._connect, begun.start, begun.since, asked.batch, joined)
            joined = None
            await self._pump(self._viewer)
        except NodeAdminError as error:
            await self._fail(error)
        except OSError:  # the peer is gone; disconnect() follows
            pass
        except Exception:
            log.exception("a journal's socket failed")
            await self._refuse("internal_error", _("Something went wrong."), FAILED)
        finally:
            if joined is not None:
                joined.leave()

    async def _take_turn(self, host: str) -> None:
        """Wait, where the host could not be read the last time."""
        told = False
        while (left := hub().attempts.take_turn(host)) > 0:
            if not told:
                words = _("The host could not be read the last time; it is tried again soon.")
                await self.send(text_data=state_message("waiting", "host_failing", words))
                told = True
            await asyncio.sleep(left)

    async def _opened(self, host: str, opening: Future[Begun]) -> Begun:
        try:
            begun = await asyncio.wrap_future(opening)
        except HostError:
            hub().attempts.failed(host)
            raise
        hub().attempts.succeeded(host)
        return begun

    async def _pump(self, viewer: Viewer) -> None:
        while True:
            await self._running.wait()
            message = await viewer.next()
            # Until the client has taken it nothing more is asked for: so the host's process waits, too.
            await self.send(text_data=message.text)
            if message.last:
                await self.close(1000)
                return

    def _connect(self) -> HostConnection:
        """A connection by what is stored of the node now. In a thread of its own. Raises UnknownNode."""
        try:
            node = Node.objects.filter(pk=self._node.pk).first()
            if node is None:
                raise UnknownNode(_("The node has been removed."))
            with credential_use.asked_by(self._asked):
                return access.connect(access.target_for(node))
        finally:
            connections.close_all()

    def _open(self, start: LogCursor, backlog: int, before: LogCursor | None) -> Begun:
        """What comes first, and where to go on after it; ``before`` is where it has a place already."""
        with stopped_by(self._gone):
            return self._begun(start, backlog, before)

    def _begun(self, start: LogCursor, backlog: int, before: LogCursor | None) -> Begun:
        connection = self._connect()
        wait_s = settings.NODEADMIN_HOST_TIMEOUT_S
        tool = tool_of(connection, wait_s)
        start = replace(start, filters=absolute(start.filters, tool), newest_first=False)
        here = not tool.has_grep and bool(search_pattern(start.filters))
        if start.journal or start.files or start.filters.since or start.filters.until:
            return Begun(start, searched_here=here)
        since = tool.host_now() - _OVERLAP
        page = query(
            connection,
            replace(before or start, newest_first=True),
            limit=max(backlog, 1),
            timeout_s=wait_s,
            inclusive=before is not None,
        )
        newest = next((entry.cursor for entry in page.entries if entry.cursor), "")
        after = before or LogCursor(start.filters, journal=newest, files=page.ends)
        # Without an entry to begin after, by time; what is there already would have been found just now.
        entries = page.entries[::-1] if backlog else []
        shown = page if backlog else None
        return Begun(after, None if newest else since, entries, page.problems, here, shown)

    async def _keep_checking(self) -> None:
        checked_at = time.monotonic()
        while True:
            await self._recheck.wait(CHECK_S if time.monotonic() - checked_at < CHECK_S else CHECK_S / 5)
            try:
                found = await database_sync_to_async(self._rights)()
            except NodeAdminError as error:
                self._stop_viewing()
                await self._fail(error)
                return
            except DatabaseError:
                log.exception("the rights of a journal's viewer could not be read")
                if time.monotonic() - checked_at < CHECK_S + UNKNOWN_S:
                    continue
                self._stop_viewing()
                words = _("Your permissions could not be checked.")
                await self._refuse("internal_error", words, FAILED, retryable=True)
                return
            if found is None:
                self._stop_viewing()
                await self._refuse("not_authenticated", _("The login has ended."), UNAUTHENTICATED)
                return
            checked_at = time.monotonic()

    def _stop_viewing(self) -> None:
        """Nothing more is read or sent, even to a client that takes long for what is under way."""
        own = asyncio.current_task()
        self._gone.set()
        for task in self._tasks:
            if task is not own:
                task.cancel()
        if self._viewer is not None:
            self._viewer.close()

    async def _fail(self, error: NodeAdminError) -> None:
        close = _CODES.get(error.http_status, FAILED)
        await self._refuse(error.code, error.detail(), close, error.field, retryable=error.retryable)

    async def _refuse(
        self, code: str, message: str, close: int, field: str = "", *, retryable: bool = False
    ) -> None:
        body = {"type": "error", "code": code, "message": message, "field": field, "retryable": retryable}
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self.send(text_data=encoded(body))
            await self.close(close)
        except OSError:  # gone, or so slow that it will not be told (TimeoutError)
            pass


def _first_state(begun: Begun, backlog: int) -> str:
    """The first message of the state: what cannot be read, and the command for the same on the host."""
    filters = begun.start.filters
    shown = shown_command(
        filters, limit=None if filters.since else backlog or BACKLOG, follow=not filters.until
    )
    body: dict[str, Any] = {
        "type": "state",
        "state": "live",
        "command": shown,
        "problems": begun.problems,
        "searched_by": "nodeadmin" if begun.searched_here else "host",
    }
    if begun.page is not None:
        body["earlier"] = begun.page.cursor.encode() if begun.page.more else None
        body["cut"] = begun.page.cut if begun.page.cut != "limit" else ""
    return encoded(body)


def _read(text: str | None) -> dict[str, Any]:
    if text is None or len(text) > MAX_MESSAGE:
        raise InvalidInput(_("A message is a JSON object of at most 64 KiB."))
    try:
        message = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(_("The message is not valid JSON.")) from error
    if not isinstance(message, dict):
        raise InvalidInput(_("A message is a JSON object."))
    return message


def _subscription(message: Mapping[str, Any]) -> Subscription:
    """Raises InvalidInput, InvalidCursor."""
    backlog = _number(message, "backlog", 0, MAX_BACKLOG, BACKLOG)
    batch = _number(message, "batch", 1, MAX_BATCH, 1) if "batch" in message else 0
    unknown = sorted(set(message) - {*_FILTERS, "cursor", "backlog", "batch"})
    if unknown:
        raise InvalidInput(_("Unknown field."), field=str(unknown[0])[:64])
    cursor = message.get("cursor")
    if cursor is None:
        return Subscription(LogCursor(read_filters(message)), backlog, batch)
    if not isinstance(cursor, str):
        raise InvalidInput(_("A cursor is text."), field="cursor")
    start = LogCursor.decode(cursor)
    if start.newest_first:
        raise InvalidInput(_("This cursor leads back in time; it cannot be followed."), field="cursor")
    return Subscription(start, 0, batch)


def _number(message: Mapping[str, Any], name: str, low: int, high: int, default: int) -> int:
    value = message.get(name, default)
    if type(value) is not int or not low <= value <= high:
        words = _("%(field)s is a number from %(low)d to %(high)d.")
        raise InvalidInput(words % {"field": name, "low": low, "high": high}, field=name)
    return value
