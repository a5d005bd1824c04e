"""Continuous export of the audit log: to a file and to syslog, each in a thread of its own.

How far it has come is a row: an entry is sent again rather than lost where a process is killed or a receiver
is away. Of several processes that are told to export to the same destination one does so, under a lease.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from django.db.models import Max, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from nodes.audit.lines import PORTION, append, entries_after, line_of
from nodes.audit.syslog import SyslogTarget, message_of, send
from nodes.models import Event, ExportCursor

log = structlog.get_logger(__name__)

POLL_S = 1.0
MOST_PAUSE_S = 60.0
LEASE = timedelta(seconds=60)
"""Longer than one portion can take: two deadlines of syslog."""


@dataclass(frozen=True, slots=True)
class Destination:
    """``deliver`` sends entries, in order, and raises OSError where it could not."""

    name: str
    deliver: Callable[[Sequence[Event]], None]


def destinations() -> list[Destination]:
    """Those of the settings. Raises ImproperlyConfigured for a syslog address that is none."""
    found = []
    if settings.NODEADMIN_AUDIT_FILE:
        path = Path(settings.NODEADMIN_AUDIT_FILE)
        found.append(Destination(f"file:{path}"[:255], partial(_to_file, path)))
    if settings.NODEADMIN_AUDIT_SYSLOG:
        target = SyslogTarget.parse(settings.NODEADMIN_AUDIT_SYSLOG)
        found.append(Destination(str(target)[:255], partial(_to_syslog, target)))
    return found


def _to_file(path: Path, entries: Sequence[Event]) -> None:
    append(path, map(line_of, entries))


def _to_syslog(target: SyslogTarget, entries: Sequence[Event]) -> None:
    send(target, [message_of(entry) for entry in entries])


@dataclass(frozen=True, slots=True)
class ExportState:
    """How far an export is; ``lag`` is the number of entries that wait for it."""

    cursor: ExportCursor
    lag: int


def export_states() -> list[ExportState]:
    """Of every destination that ever was one: two queries."""
    newest = Event.objects.aggregate(newest=Max("number"))["newest"] or 0
    rows = ExportCursor.objects.order_by("destination")
    return [ExportState(row, max(0, newest - row.number)) for row in rows]


class Exporter:
    """Exports to one destination until it is stopped."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self._name = f"{socket.gethostname()}:{os.getpid()}:{id(self)}"[:120]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-export", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = POLL_S
        while not self._stopping.is_set():
            try:
                pause_s = POLL_S if self.export() else min(pause_s * 2, MOST_PAUSE_S)
                close_old_connections()
            except DatabaseError:
                log.exception("the audit log could not be exported; it tries again")
                connection.close()
            except Exception:
                log.exception("the audit log could not be exported")
                pause_s = MOST_PAUSE_S
                connection.close()
            self._stopping.wait(pause_s)
        self._give_back()
        connection.close()

    def export(self) -> bool:
        """Send what waits; False where the destination took nothing."""
        while not self._stopping.is_set():
            cursor = self._claim()
            if cursor is None:
                return True  # another process does it
            waiting = list(entries_after(cursor.number)[:PORTION])
            if not waiting:
                return True
            try:
                self.destination.deliver(waiting)
            except OSError as error:
                self._note_failure(cursor, error)
                return False
            self._mine().update(
                number=waiting[-1].number, exported_at=timezone.now(), failed_since=None, error=""
            )
        return True

    def _mine(self) -> QuerySet[ExportCursor]:
        return ExportCursor.objects.filter(pk=self.destination.name, owner=self._name)

    def _claim(self) -> ExportCursor | None:
        """The cursor, while this process holds or takes the lease."""
        rows = ExportCursor.objects.filter(pk=self.destination.name)
        free = Q(lease_expires_at=None) | Q(lease_expires_at__lt=Now()) | Q(owner=self._name)
        for _attempt in range(2):
            if rows.filter(free).update(owner=self._name, lease_expires_at=Now() + LEASE):
                return rows.get()
            made = ExportCursor(destination=self.destination.name)
            ExportCursor.objects.bulk_create([made], ignore_conflicts=True)
        return None

    def _note_failure(self, cursor: ExportCursor, error: OSError) -> None:
        log.warning("audit log not exported", destination=self.destination.name, error=str(error))
        since = cursor.failed_since or timezone.now()
        self._mine().update(failed_since=since, error=(error.strerror or str(error))[:500])

    def _give_back(self) -> None:
        try:
            self._mine().update(lease_expires_at=None, owner="")
        except DatabaseError:
            log.warning("the lease of the audit log's export ends by itself")
