"""Entries that are lost for good, as after a backup was put back: somebody says so, and it is signed."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from nodes.audit.head_file import Head, HeadFileDamaged, read_head, write_head
from nodes.audit.sealer import lock, seal
from nodes.audit.verification import Problem, Verification, verify
from nodes.events import record
from nodes.models import AuditCheckpoint, Event
from nodes.models.audit import CheckpointKind
from nodes.models.event import Category, Severity


def accept_loss(reason: str) -> Verification:
    """Sign for the gaps that verification finds, and begin the head file anew where it is damaged or missing.

    It is an entry of its own, which comes first. What was altered or inserted stays a problem. Gives what is
    left of problems.
    """
    found = verify()
    told = [problem.message for problem in found.problems]
    words = "The loss of entries of the audit log was accepted: %s"
    record(
        "audit_loss_accepted",
        words % reason,
        severity=Severity.WARNING,
        category=Category.AUDIT,
        data={"reason": reason, "problems": told[:50]},
    )
    seal()
    # Entries that were cut off are a gap now: numbers of what the head file names are not given again.
    for problem in verify().problems:
        if problem.code == "removed" and problem.number is not None:
            _sign_for(problem)
    _mend_head_file()
    return verify()


@transaction.atomic
def _sign_for(problem: Problem) -> None:
    lock()
    first, last = problem.number or 0, problem.last or problem.number or 0
    row = AuditCheckpoint(
        kind=CheckpointKind.ACCEPTED,
        first_number=first,
        last_number=last,
        count=last - first + 1,
        created_at=timezone.now(),
    )
    row.authenticate()
    row.save()


def _mend_head_file() -> None:
    try:
        if read_head() is not None:
            return
    except HeadFileDamaged:
        pass
    newest = Event.objects.sealed().last()
    if newest is not None:
        write_head(Head(newest.number or 0, newest.chain_mac), even_back=True)
