"""The log that an operation keeps of itself: read in pages, and followed while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from nodes.api.inputs import Id, Input, Strict, WholeNumber
from nodes.api.log_answers import OperationLogLine, OperationLogPage
from nodes.api.schema import documented
from nodes.api.viewsets import Endpoints
from nodes.errors import UnknownOperation
from nodes.models import Operation, OperationLogEntry
from nodes.models.operation import LogLevel
from nodes.permissions import operations_for

AT_LEAST = {
    LogLevel.INFO: tuple(LogLevel),
    LogLevel.WARNING: (LogLevel.WARNING, LogLevel.ERROR),
    LogLevel.ERROR: (LogLevel.ERROR,),
}
SETTLE = timedelta(milliseconds=400)
"""Steps of one operation log side by side, and a lower key may be committed after a higher one. Lines this
young are held back while it runs; otherwise a cursor could pass a line that was not there yet."""


class ListOperationLogInput(Input):
    operation = Id()
    level = serializers.ChoiceField(
        choices=LogLevel.choices, required=False, help_text=gettext_lazy("This level and worse ones.")
    )
    keyword = Strict(max_length=256, required=False, help_text=gettext_lazy("Text that the message has."))
    step = Strict(max_length=80, required=False, help_text=gettext_lazy("The code of one step."))
    cursor = WholeNumber(
        min_value=0, max_value=2**63 - 1, default=0, help_text=gettext_lazy("As the last answer gave it.")
    )
    limit = WholeNumber(min_value=1, max_value=5000, default=500)


class OperationLogEndpoints(Endpoints):
    @documented(
        "An operation's own log",
        ListOperationLogInput,
        OperationLogPage,
        example={"operation": "0b6ad36c-56e9-4ba1-8c6c-2c0f1f0a8b53", "level": "warning", "limit": 100},
        description="Oldest first. Ask again with the `cursor` of the last answer for what came after it; "
        "the filters are named anew each time.",
    )
    def list_operation_log(self, request: Request) -> Response:
        data = self.read(ListOperationLogInput)
        rows = operations_for(self.user).only("status").filter(pk=data["operation"])
        operation = rows.first()
        if operation is None:
            raise UnknownOperation(_("There is no such operation, or you may not see it."), field="operation")
        return Response(read_page(operation, data))


def read_page(operation: Operation, data: Mapping[str, Any]) -> OperationLogPage:
    """The lines after ``data["cursor"]`` that fit its filters. Two queries, however many lines there are."""
    entries = OperationLogEntry.objects.filter(operation=operation, pk__gt=data["cursor"])
    if "level" in data:
        entries = entries.filter(level__in=AT_LEAST[LogLevel(data["level"])])
    if "keyword" in data:
        entries = entries.filter(message__icontains=data["keyword"])
    if "step" in data:
        entries = entries.filter(step_code=data["step"])
    limit = data["limit"]
    found = list(entries.order_by("pk")[: limit + 1])
    settled = found if operation.is_finished else _settled(found)
    shown = settled[:limit]
    steps = {code: (title, vm) for code, title, vm in operation.steps.values_list("code", "title", "vm_name")}
    return OperationLogPage(
        operation=operation.pk,
        status=operation.status,
        finished=operation.is_finished,
        lines=[_line(entry, steps) for entry in shown],
        cursor=shown[-1].pk if shown else data["cursor"],
        more=len(settled) > limit,
    )


def _settled(entries: Iterable[OperationLogEntry]) -> list[OperationLogEntry]:
    """The entries before the first that is too young."""
    oldest_young = timezone.now() - SETTLE
    found = []
    for entry in entries:
        if entry.at > oldest_young:
            break
        found.append(entry)
    return found


def _line(entry: OperationLogEntry, steps: dict[str, tuple[str, str]]) -> OperationLogLine:
    title, vm_name = steps.get(entry.step_code, ("", ""))
    return OperationLogLine(
        id=entry.pk,
        time=entry.at,
        level=entry.level,
        step=entry.step_code or None,
        step_title=title or None,
        vm_name=vm_name or None,
        message=entry.message,
    )
