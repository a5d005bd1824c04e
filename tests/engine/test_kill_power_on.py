"""SIGKILL while a node is powered on: a restart ends it, and the machine is never switched a second time.

Every third point is walked, before and after commits in turn; all of them under ``NODEADMIN_SOAK=1``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from nodes.engine.submit import submit
from nodes.events import SYSTEM
from nodes.models import Event, Node, Operation, OperationStatus, StepStatus
from nodes.operations import coming_back, power_on
from tests.engine.test_kill import dying_at, in_a_process, resume
from tests.lighthosts import AVAILABLE, LightHost
from tests.machine import BOOT_BEFORE, Machine, node_of
from tests.software_bmc import SoftwareBmc, define_machine

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not AVAILABLE, reason="needs root and libvirtd"),
    pytest.mark.timeout(900),
]
STRIDE = 1 if os.environ.get("NODEADMIN_SOAK") == "1" else 3


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(coming_back, "PAUSE_S", 0.1)
    monkeypatch.setattr(power_on, "POLL_S", 0.1)
    with LightHost(tmp_path_factory.mktemp("machine")) as host:
        define_machine(host, "machine", "11111111-2222-4333-8444-555555555555")
        with SoftwareBmc(tmp_path_factory.mktemp("bmc"), prefix=host.inside) as bmc:
            made = Machine(host, bmc)
            yield made
            made.end()


def test_power_on_killed_anywhere_ends_with_one_command(machine: Machine) -> None:
    for moment in range(0, 200, STRIDE):
        Node.objects.all().delete()
        Operation.objects.all().delete()
        machine.switch_off()
        commands = machine.bmc.commands
        operation = submit("power-on-node", actor=SYSTEM, node=node_of(machine))
        status = in_a_process(dying_at(moment))
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert moment > 15, "too few transitions to mean anything"
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert in_a_process(resume) == 0
        operation.refresh_from_db()
        assert operation.status == OperationStatus.SUCCEEDED, (moment, operation.error)
        assert machine.on
        assert machine.bmc.commands == commands + 1, moment
        assert operation.result["boot_id"] != BOOT_BEFORE
        assert Node.objects.get().connection == "online"
        assert Event.objects.filter(kind="power_on_node_succeeded", operation=operation).count() == 1
        pending = operation.steps.filter(status__in=(StepStatus.PENDING, StepStatus.RUNNING))
        assert not pending.exists()
    pytest.fail("the operation never ended by itself")
