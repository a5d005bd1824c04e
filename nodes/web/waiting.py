"""What a queued operation waits for, in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.engine.queues import Waiting, waiting_of
from nodes.models import Operation
from nodes.web.operation_titles import title_of


@dataclass(frozen=True, slots=True)
class ListedOperation:
    """An operation as a list shows it; ``waiting`` is "" once it has begun."""

    operation: Operation
    title: str
    waiting: str


def listed(operations: Iterable[Operation]) -> list[ListedOperation]:
    """Each operation with its title and what it waits for: one query where any is queued."""
    rows = list(operations)
    waiting = waiting_of(rows)
    return [ListedOperation(row, title_of(row), in_words(waiting.get(row.pk))) for row in rows]


def words_of(operation: Operation | None) -> str:
    """What the operation waits for; "" where it has begun or there is none."""
    if operation is None:
        return ""
    return in_words(waiting_of([operation]).get(operation.pk))


def in_words(waiting: Waiting | None) -> str:
    """How far an operation is from its beginning; "" for None."""
    if waiting is None:
        return ""
    if waiting.ahead:
        text = ngettext("%d operation ahead", "%d operations ahead", waiting.ahead)
        return text % waiting.ahead
    if waiting.running:
        text = ngettext(
            "Next to start, after the running operation",
            "Next to start, after one of %(running)d running operations",
            waiting.running,
        )
        return text % {"running": waiting.running}
    return _("Starting")
