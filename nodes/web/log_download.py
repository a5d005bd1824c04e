"""A whole query of a node's journal as a file, read from the host as fast as the browser takes it.

A page of entries is asked for when the one before it has been sent, so whatever is in the journal, one page
is all that is held. The file always ends with a line that says whether it is complete; one without it was
cut off on its way.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal

import msgspec
import structlog
from django.conf import settings
from django.db import connections
from django.utils import translation
from django.utils.translation import gettext as _

from nodes import access, credential_use
from nodes.engine.logins import user_of_session
from nodes.errors import NodeAdminError, RateLimited
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock, run_within
from nodes.hosts.journal import MAX_LIMIT, absolute
from nodes.hosts.journal_entries import Entry
from nodes.hosts.journal_tool import tool_of
from nodes.hosts.log_command import shown_command
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_query import LogPage, query
from nodes.hosts.shared_pool import SharedPool
from nodes.hosts.stop_signal import stopped_by
from nodes.inventory.parsing.visible import visible, visible_answer
from nodes.models import Node, User
from nodes.permissions import VIEW_LOGS, get_node

log = structlog.get_logger(__name__)

Form = Literal["text", "json"]
FORMS: Final = {"text": ("text/plain; charset=utf-8", "log"), "json": ("application/jsonl", "jsonl")}
"""Of each form its media type and the ending of the file's name."""

MAX_ENTRIES = 1_000_000
MAX_BYTES = 512 << 20
MAX_S = 900.0
PAGE_S = 60.0
"""For one page after the first: a search in which little fits may read long before it has one."""
AT_ONCE = 3
"""Downloads of one user."""

_readers = SharedPool(8, "journal: download", share=2)
_under_way: Counter[int] = Counter()
_guard = threading.Lock()


@dataclass(slots=True)
class Download:
    """One file on its way, as the content of a response, which closes it. Begun by :func:`begin`."""

    user: User
    session_key: str
    node: Node
    form: Form
    page: LogPage
    command: str
    language: str
    entries: int = 0
    size: int = 0
    cut: str = ""
    boot: str | None = None
    problems: dict[str, str] = field(default_factory=dict)
    """By their code, what cannot be read."""

    counted: bool = False
    _gone: threading.Event = field(default_factory=threading.Event)
    asked: credential_use.Request | None = field(default_factory=credential_use.current)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The file. It ends early where a bound is met, the host is lost, the session has
        ended, or the right is withdrawn."""
        clock = Clock(MAX_S)
        self._count()
        try:
            yield self._head()
            while True:
                piece = self._rendered()
                if piece:
                    yield piece
                if self.page.more and not self.cut:
                    self.cut = self._bound(clock)
                if self.cut or not self.page.more:
                    break
                # Only now: a browser that is slow slows down the reading, too.
                reading = _readers.submit(str(self.node.uuid), partial(self._go_on, min(PAGE_S, clock.left)))
                await asyncio.wrap_future(reading)
            yield self._tail()
        finally:
            self.close()

    def _count(self) -> None:
        with _guard:
            self.counted = True
            _under_way[self.user.pk] += 1

    def close(self) -> None:
        """Called by the response as well: a browser that leaves leaves the generator where it stands."""
        self._gone.set()
        with _guard:
            if self.counted:
                self.counted = False
                _under_way[self.user.pk] -= 1

    def _bound(self, clock: Clock) -> str:
        if self.entries >= MAX_ENTRIES:
            return "entries"
        if self.size >= MAX_BYTES:
            return "bytes"
        return "time" if clock.passed else ""

    def _go_on(self, timeout_s: float) -> None:
        """Read the next page. In a thread of its own."""
        start = self.page.cursor
        self.page = replace(self.page, entries=[], problems=())
        try:
            user = user_of_session(self.session_key)
            if user is None:
                self.cut = "not_authenticated"
                self.problems[self.cut] = _("The session has ended.")
                return
            node = get_node(user, str(self.node.uuid), VIEW_LOGS)
            with credential_use.asked_by(self.asked):
                connection = access.connect(access.target_for(node))
            limit = min(MAX_LIMIT, MAX_ENTRIES - self.entries)
            with stopped_by(self._gone):
                self.page = query(connection, start, limit=limit, timeout_s=timeout_s)
        except NodeAdminError as error:
            self.cut = error.code
            self.problems[error.code] = error.detail()
        except Exception:
            log.exception("a download of a journal failed")
            self.cut = "internal_error"
        finally:
            connections.close_all()

    # -- the file -----------------------------------------------------------------------------------

    def _head(self) -> bytes:
        return b"" if self.form == "json" else f"-- {self.node.name}: {visible(self.command)} --\n".encode()

    def _rendered(self) -> bytes:
        entries = self.page.entries
        self.problems |= {problem.code: problem.message for problem in self.page.problems}
        self.entries += len(entries)
        piece = self._lines(entries) if self.form == "json" else self._text(entries)
        self.size += len(piece)
        return piece

    @staticmethod
    def _lines(entries: Sequence[Entry]) -> bytes:
        return b"".join(_line(entry) for entry in entries)

    def _text(self, entries: Sequence[Entry]) -> bytes:
        lines = []
        for entry in entries:
            if entry.boot_id and entry.boot_id != self.boot:
                if self.boot:
                    lines.append(f"-- Boot {visible(entry.boot_id)} --")
                self.boot = entry.boot_id
            process = f"[{entry.pid}]" if entry.pid else ""
            message = visible(entry.message or self._unread(entry), keep_tabs=True)
            who = visible(entry.identifier or entry.unit or "-")
            lines.append(f"{visible(entry.time or '-')} {who}{process}: {message}")
        return "".join(f"{line}\n" for line in lines).encode()

    def _unread(self, entry: Entry) -> str:
        if not entry.message_unread:
            return ""
        with translation.override(self.language):
            return f"-- {_('message could not be read')} --"

    def _tail(self) -> bytes:
        cursor = self.page.cursor.encode() if self.cut else None
        if self.form == "json":
            end = {
                "type": "end",
                "complete": not self.cut,
                "cut": self.cut or None,
                "entries": self.entries,
                "cursor": cursor,
                "problems": self.problems,
            }
            return _line(end)
        with translation.override(self.language):
            lines = [*map(visible, self.problems.values()), *self._end()]
        return "".join(f"-- {line} --\n" for line in [*lines, *([cursor] if cursor else [])]).encode()

    def _end(self) -> list[str]:
        counted = {"count": self.entries}
        words = {
            "": _("End: %(count)d entries"),
            "entries": _("Cut after %(count)d entries, the most that one file takes"),
            "bytes": _("Cut after %(count)d entries: the file has reached its greatest size"),
            "time": _("Cut after %(count)d entries: the file has taken too long"),
        }
        end = words.get(self.cut, _("Broken off after %(count)d entries")) % counted
        return [end, _("Go on with describe-node-logs and this cursor:")] if self.cut else [end]


def _line(value: Any) -> bytes:
    return visible_answer(msgspec.json.encode(value)) + b"\n"


def begin(user: User, session_key: str, node: Node, start: LogCursor, form: Form) -> Download:
    """The first page, so that what is wrong with the host or the query is said in place of a file.

    Raises RateLimited, and what :func:`nodes.hosts.log_query.query` raises.
    """
    with _guard:
        if _under_way[user.pk] >= AT_ONCE:
            raise RateLimited(
                _("You have %d downloads under way, which is the limit.") % AT_ONCE,
                remedy=_("Wait for one of them to end."),
            )
    clock = Clock(settings.NODEADMIN_HOST_TIMEOUT_S)
    target = access.target_for(node)
    connection = run_within(lambda: access.connect(target), clock.left, str(_("Connecting to the host")))
    start = _fixed(start, connection, clock)
    page = query(connection, start, limit=MAX_LIMIT, timeout_s=clock.left)
    command = shown_command(start.filters)
    return Download(user, session_key, node, form, page, command, translation.get_language() or "en")


def _fixed(start: LogCursor, connection: HostConnection, clock: Clock) -> LogCursor:
    """The query oldest first and with an end: a journal can grow faster than a browser takes it."""
    tool = tool_of(connection, clock.left)
    filters = absolute(start.filters, tool)
    if filters.until is None:
        filters = replace(filters, until=tool.host_now())
    return replace(start, filters=filters, newest_first=False)
