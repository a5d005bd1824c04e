"""A host of Debian 13, whose systemd (257) lets a block inhibitor stop root's reboot too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nodes import access
from nodes.hosts.host_key_scan import scan_host_keys
from nodes.models import Node, OperationStatus, Scheduling
from nodes.operations.power_steps import PowerSteps
from tests.engine.running import run_queued
from tests.factories import make_credential, make_node
from tests.lab import vm
from tests.lab.host import LabHost
from tests.light_nodes import ask, plan_of
from tests.network import ANYWHERE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.lab]


@pytest.fixture
def node(lab_trixie: LabHost) -> Iterator[Node]:
    """The lab host as a node, entered as root."""
    keys = scan_host_keys("127.0.0.1", lab_trixie.ssh_port, timeout_s=60, rules=ANYWHERE)
    made = make_node("lab-trixie", uri=lab_trixie.uri())
    access.pin(made, next(key for key in keys if "25519" in key.type))
    made.save()
    make_credential(made, "ssh_key", private_key=lab_trixie.private_key.read_text())
    yield made
    access.close_pool()


@contextmanager
def inhibited(host: LabHost) -> Iterator[None]:
    """Something on the host keeps it from going down, in words that are no easy ones."""
    command = ["systemd-run", "--quiet", "--unit=restore", "systemd-inhibit", "--what=shutdown"]
    command += ['--who=Backup "x"', "--why=a restore\nis running: 50% é", "--mode=block", "sleep", "3600"]
    host.run(command)
    host.run("until systemd-inhibit --list | grep -q Backup; do sleep 0.2; done")
    try:
        yield
    finally:
        host.run("systemctl stop restore", check=False)


def test_an_inhibitor_blocks_the_plan_stops_roots_command_and_is_ignored_where_that_was_confirmed(
    lab_trixie: LabHost, node: Node, monkeypatch: pytest.MonkeyPatch, settings
) -> None:
    # An emulated host takes seconds for each command.
    settings.NODEADMIN_HOST_TIMEOUT_S = settings.NODEADMIN_LEASE_S = 60.0
    vm.start(lab_trixie, vm.VmSpec("web", obedient=True))
    boot = lab_trixie.boot_id()
    assert plan_of("reboot-node", node, vm_policy="stop").blockers == ()
    confirmed = ask("reboot-node", node, vm_policy="stop")

    with inhibited(lab_trixie):
        (reason,) = plan_of("reboot-node", node, vm_policy="stop").blockers
        assert reason.code == "shutdown_inhibited"
        assert reason.message.startswith(
            '“Backup "x"” inhibits the shutdown: “a restore is running: 50% é” (process '
        )
        assert reason.message.endswith(" of user root).")
        with monkeypatch.context() as patched:
            # As where it begins between the last look and the command: what refuses is the host alone.
            patched.setattr(PowerSteps, "_ensure_not_refused", lambda _steps: None)
            patched.setattr("nodes.operations.plan_run.PlanRun.check", lambda _work: None)
            (refused,) = run_queued()
        assert (refused.pk, refused.status) == (confirmed.pk, OperationStatus.FAILED)
        assert refused.error["code"] == "shutdown_inhibited", refused.error
        assert "Access denied" in refused.error["detail"]
        assert [row["outcome"] for row in refused.error["vms"]] == ["started_again"]
        assert vm.state(lab_trixie, "web") == "running"
        assert Node.objects.get(pk=node.pk).scheduling == Scheduling.ENABLED
        assert lab_trixie.boot_id() == boot

        ask("reboot-node", node, vm_policy="stop", ignore_inhibitors=True)
        (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert (ended.result["boot_id_before"], ended.result["boot_id"]) == (boot, lab_trixie.boot_id())
