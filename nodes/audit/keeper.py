"""What the audit log needs beside the requests: exports, entries that were counted, the daily
verification."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import structlog
from django.db import close_old_connections, connection

from nodes.audit.counted import tell_ended
from nodes.audit.exporter import Exporter, destinations
from nodes.audit.settings_record import record_settings
from nodes.audit.verification import verify
from nodes.events import SYSTEM, record
from nodes.models import Chore
from nodes.models.event import Category, Severity

log = structlog.get_logger(__name__)

ROUND_S = 15.0
VERIFY_EVERY = timedelta(days=1)
STOP_WAIT_S = 3.0


class AuditKeeper:
    """Started and stopped with the process, of which ``part`` is the name: web, worker or monitor."""

    def __init__(self, part: str) -> None:
        self._part = part
        self._exporters = [Exporter(destination) for destination in destinations()]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-keeper", daemon=True)

    def start(self) -> None:
        _in_any_case(partial(record_settings, self._part))
        self._thread.start()
        for exporter in self._exporters:
            exporter.start()

    def stop(self) -> None:
        self._stopping.set()
        deadline = time.monotonic() + STOP_WAIT_S
        for exporter in self._exporters:
            exporter.stop(max(0.0, deadline - time.monotonic()))
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while not self._stopping.wait(ROUND_S):
            _in_any_case(tell_ended)
            _in_any_case(verify_daily)
        connection.close()


def verify_daily() -> None:
    """Of all processes that ask, one a day verifies the log. What it finds is an entry, and on the page."""
    if not Chore.objects.take("verify-audit-log", VERIFY_EVERY):
        return
    found = verify()
    if found.is_clean:
        log.info("audit log verified", entries=found.entries)
        return
    log.error("audit log was tampered with", problems=found.problem_count)
    record(
        "audit_log_damaged",
        f"The audit log is damaged. Problems: {found.problem_count}. Run: manage.py audit verify",
        actor=SYSTEM,
        severity=Severity.ERROR,
        category=Category.AUDIT,
        data={"problems": [problem.message for problem in found.problems[:20]]},
    )


def _in_any_case(work: Callable[[], object]) -> None:
    try:
        work()
        close_old_connections()
    except Exception:
        log.exception("the audit log's upkeep failed; the next round tries again")
        connection.close()
