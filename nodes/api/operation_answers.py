"""What endpoints give of operations and their steps; as in answers.py, nothing here queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from nodes.api.answers import Json
from nodes.engine.queues import Waiting, waiting_of
from nodes.models import Operation, OperationStep
from nodes.models.operation import StepStatus


@dataclass(frozen=True, slots=True)
class StepAnswer:
    """A step of an operation; ``progress`` from 0 to 1, null where it cannot tell."""

    code: str
    title: str
    status: str
    progress: float | None
    message: str
    vm_uuid: UUID | None
    vm_name: str | None
    target: str | None
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, step: OperationStep) -> StepAnswer:
        return cls(
            step.code,
            step.title,
            step.status,
            step.progress,
            step.message,
            step.vm_uuid,
            step.vm_name or None,
            step.target or None,
            step.started_at,
            step.finished_at,
        )


@dataclass(frozen=True, slots=True)
class WaitingAnswer:
    """What a queued operation waits for: ``ahead`` operations of its ``queue`` that begin before it, while
    ``running`` ones of that queue run."""

    queue: str
    ahead: int
    running: int


@dataclass(frozen=True, slots=True)
class OperationAnswer:
    """Long work. ``progress`` is the share of steps that have ended, from 0 to 1. ``waiting`` is null once it
    has begun."""

    id: UUID
    kind: str
    node: str | None
    node_uuid: UUID | None
    status: str
    progress: float
    message: str
    error: Json | None
    result: Json | None
    requested_by: str | None
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    waiting: WaitingAnswer | None = None
    steps: list[StepAnswer] = field(default_factory=list)

    @classmethod
    def of(cls, operation: Operation, waiting: Waiting | None = None) -> OperationAnswer:
        """The operation with ``node`` and ``steps`` loaded before, and what it waits for."""
        steps = list(operation.steps.all())
        return cls(
            id=operation.pk,
            kind=operation.kind,
            node=operation.node_name or None,
            node_uuid=operation.node.uuid if operation.node is not None else None,
            status=operation.status,
            progress=progress(steps),
            message=operation.message,
            error=operation.error,
            result=operation.result,
            requested_by=operation.requested_by_name or None,
            cancel_requested=operation.cancel_requested_at is not None,
            created_at=operation.created_at,
            started_at=operation.started_at,
            finished_at=operation.finished_at,
            waiting=WaitingAnswer(waiting.queue, waiting.ahead, waiting.running) if waiting else None,
            steps=[StepAnswer.of(step) for step in steps],
        )


def operation_answer(operation: Operation) -> OperationAnswer:
    """The answer for one operation; where it is queued, one query more tells what it waits for."""
    return OperationAnswer.of(operation, waiting_of([operation]).get(operation.pk))


def progress(steps: list[OperationStep]) -> float:
    """How much of the operation is done: ended steps count whole, a running one by its own progress."""
    if not steps:
        return 0.0
    ended = (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
    done = sum(1.0 if step.status in ended else step.progress or 0.0 for step in steps)
    return round(done / len(steps), 4)


@dataclass(frozen=True, slots=True)
class OperationPage:
    count: int
    results: list[OperationAnswer]
