"""An inventory of a host whose probe never ends: cancelled, it is over within a second."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.utils import timezone

from nodes.engine.submit import submit
from nodes.events import SYSTEM
from nodes.models import Operation, OperationStatus, StepStatus
from tests.engine.running import in_background
from tests.hostile.streams import EMPTY_LINES, EnemyHost
from tests.monitor.test_monitor import ssh_node, until
from tests.patience import Deadline

pytestmark = pytest.mark.django_db(transaction=True)

HANGS = """#!/bin/dash
case "$1" in -s) exec sleep 97 ;; esac
exec /bin/dash "$@"
"""
PRINTS = HANGS.replace("exec sleep 97", "exec yes ''")


@pytest.mark.parametrize("shell", [HANGS, PRINTS], ids=["silent", "endless"])
def test_a_cancelled_inventory_ends_within_a_second(tmp_path: Path, shell: str) -> None:
    with EnemyHost(tmp_path, EMPTY_LINES) as host:
        (host.bin / "sh").write_text(shell)
        (host.bin / "sh").chmod(0o755)
        node = ssh_node(host.sshd, "kvm-01")
        operation = submit("refresh-node", actor=SYSTEM, node=node).pk
        ending = in_background()
        # What is no probe from its first bytes on is given up before anybody could cancel it.
        until(lambda: bool(host.running()) or ending.done())
        rows = Operation.objects.filter(pk=operation)
        rows.update(cancel_requested_at=timezone.now())
        deadline = Deadline(1.5)
        ended = ending.result(20)[0]
        assert not deadline.over()
        step = ended.steps.get(code="inventory")
        if shell == HANGS:
            assert (ended.status, step.status) == (OperationStatus.CANCELLED, StepStatus.CANCELLED)
