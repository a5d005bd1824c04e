"""What an operation is to the engine, and what the engine gives to an operation.

An operation's ``execute`` may be run again from its beginning after the process that ran it died: every
step looks at the real state before it acts, so that doing it twice is harmless.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Protocol

from django.db import InterfaceError, OperationalError
from django.utils.translation import gettext as _

from nodes.errors import NodeAdminError, UnknownNode
from nodes.events import Actor
from nodes.models import Node, Operation, User
from nodes.operations.plans import Plan

JsonObject = Mapping[str, Any]

DATABASE_AWAY = (OperationalError, InterfaceError)
"""The database did not answer, or was locked for too long: nothing is known to be wrong with the work, so it
is broken off as by a crash, and resumed."""

CLOCKS_DIFFER = timedelta(minutes=5)
"""A time that lies further ahead than this was written by a clock that has been set back since."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step to come. ``code`` is unique within the operation and stable over resumes."""

    code: str
    title: str
    vm_uuid: str | None = None
    vm_name: str = ""
    target: str = ""


class StepHandle(Protocol):
    """A running step. All writes are fenced by the claim: they raise ClaimLost once somebody else runs it."""

    done_before: bool
    """Whether an earlier run had finished this step."""

    begun_before: bool
    """Whether an earlier run had begun it, whatever became of it."""

    @property
    def data(self) -> Mapping[str, Any]:
        """What was reported as ``data`` so far, by earlier runs too."""

    def report(
        self, message: str = "", *, progress: float | None = None, data: JsonObject | None = None
    ) -> None:
        """Show how far it is; ``progress`` from 0 to 1 and never backwards.

        With a ``message`` it has been committed, ``data`` and all, when this returns; without one it may
        still be held back for a moment. A new message is a line of the operation's log.
        """

    def warn(self, message: str) -> None:
        """The same for what somebody should look at."""

    def skip(self, message: str) -> None:
        """End the step as skipped when its block ends: there was nothing to do."""

    def postpone(self) -> None:
        """Leave the step pending when its block ends: its turn is still to come."""


class Run(Protocol):
    """One run of one operation under one claim."""

    @property
    def operation(self) -> Operation: ...

    @property
    def actor(self) -> Actor: ...

    @property
    def resumed(self) -> bool:
        """Whether an earlier run of the operation was cut off."""

    def step(self, code: str, *, even_cancelled: bool = False) -> AbstractContextManager[StepHandle]:
        """Run a block as the step ``code``: started, ended and, where it raises, failed in its row.

        Raises OperationCancelled at the entry when a cancel was asked for, unless ``even_cancelled``. Several
        threads may run steps of one operation at once, each another one.
        """

    def status_of(self, code: str) -> str:
        """The status of the step ``code`` as it is stored now; "" where there is no such step."""

    def data_of(self, code: str) -> JsonObject:
        """What the step ``code`` has reported as ``data``; empty where there is none."""

    def log(self, message: str, level: str = "info", *, step_code: str = "") -> None:
        """Write a line (``info``, ``warning``, ``error``) to the operation's log."""

    def fenced(self) -> AbstractContextManager[None]:
        """A transaction that commits only while the claim is still ours: for the operation's own rows."""

    def add_steps(self, steps: Sequence[StepPlan]) -> None:
        """Append steps that were not known at submission; those that exist already stay as they are."""

    def renew(self) -> None:
        """Make sure that nobody takes the operation over for a whole lease from now on. Raises ClaimLost."""

    def require_rights(self) -> None:
        """Raise PermissionDenied where who asked for the operation may not do so any more."""

    def check_request(self) -> None:
        """Raise what speaks against the operation by now (see :meth:`OperationKind.check`)."""

    def check_cancelled(self) -> None:
        """Raise OperationCancelled where a cancel was asked for, ClaimLost where the claim is gone."""


class OperationCancelled(Exception):
    """Raised inside an operation at the first safe point after a cancel; its words are the operation's last,
    where a cancel leaves something that people should know, and ``result`` its result."""

    def __init__(self, message: str = "", *, result: JsonObject | None = None) -> None:
        super().__init__(message)
        self.result = result


class OperationKind(ABC):
    """One kind of operation.

    ``permission`` is needed on the node at submission and again when the run starts (``add_node`` has no
    node: the model permission counts). ``exclusive`` kinds exclude one another on one node. ``audited``
    kinds leave an event when they are asked for and when they end. Those that need a node cannot be done
    again once it has been removed; one that ``removes_node`` is resumed without it. A ``patient`` kind may
    wait for a host or for VMs for minutes; it has threads of its own, so that no other has to wait with it.
    One that is not ``retriable`` is asked for again by its own call, which finds out what is left to do.
    """

    kind: ClassVar[str]
    permission: ClassVar[str]
    exclusive: ClassVar[bool] = True
    audited: ClassVar[bool] = True
    needs_node: ClassVar[bool] = True
    removes_node: ClassVar[bool] = False
    patient: ClassVar[bool] = False
    retriable: ClassVar[bool] = True

    @abstractmethod
    def title(self, operation: Operation) -> str:
        """The operation in words, for people."""

    @abstractmethod
    def steps(self, node: Node | None, params: JsonObject) -> Sequence[StepPlan]:
        """The steps that are known at submission."""

    @abstractmethod
    def execute(self, run: Run) -> JsonObject | None:
        """Do it. Gives the operation's result, or raises a NodeAdminError that says why not."""

    def check(self, user: User, node: Node | None, node_name: str, params: JsonObject) -> None:  # noqa: B027
        """Raise what speaks against this work for this user, by what the database knows now.

        Asked at the call, at a retry and as the work begins, so that nothing passes by one way that another
        one refuses. Most kinds have nothing to ask beyond the permission.
        """

    def denied(self, run: Run) -> bool:
        """Whether what is left is owed to the VMs, and done all the same, though a resume finds the rights
        withdrawn from who asked. Where not, what was taken from the VMs is given back here."""
        return False

    def subject(self, node: Node | None, node_name: str) -> str:
        """What an exclusive operation of this kind excludes others from."""
        return f"node:{node.uuid}" if node is not None else f"name:{node_name}"


class PlannedKind(OperationKind):
    """A kind whose effect on VMs is planned, shown and confirmed before it is asked for.

    Its steps come out of the confirmed plan, which the operation keeps (``planning.plan_for`` makes it).
    """

    patient = True

    @abstractmethod
    def steps_of(self, plan: Plan, params: JsonObject) -> Sequence[StepPlan]:
        """The steps of the confirmed plan."""

    def steps(self, node: Node | None, params: JsonObject) -> Sequence[StepPlan]:
        return ()


def check_claim(run: Run) -> None:
    """Raise ClaimLost where the claim is gone; a cancel waits for a better moment."""
    try:
        run.check_cancelled()
    except OperationCancelled:
        pass


def removed() -> UnknownNode:
    """The error of an operation whose node has been removed since it was asked for."""
    return UnknownNode(_("The node has been removed."), field="node")


class ClaimLost(NodeAdminError):
    """Another runner has taken the operation over: this run stops at once and writes nothing more."""

    code, http_status, retryable = "claim_lost", 500, True
    title = "Another process runs this operation now"
