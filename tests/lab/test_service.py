"""Lab hosts taken in and out of service through the API of a real server, which is killed again and again.

Where every VM is, is read from the hosts themselves, never from what the server says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import vm
from tests.lab.client import ApiClient
from tests.lab.cluster import Cluster, boots, qemu_pid, until
from tests.lab.host import LabHost
from tests.lab.silence import silent_when_off

PLAIN, RICH = "lab-plain", "lab-rich"


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, lab_rich: LabHost, lab_plain: LabHost
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("service") / "data"
    with Cluster(folder, lab_rich, lab_plain, NODEADMIN_SETTLE_S="15") as cluster:
        yield cluster


@pytest.fixture
def cluster(served: Cluster) -> Iterator[Cluster]:
    served.clear()
    served.ready()
    yield served
    served.clear()


@pytest.fixture
def api(cluster: Cluster) -> ApiClient:
    return cluster.api


def slowly(host: LabHost, name: str) -> None:
    """Let the VM's memory leave the host at 1 MiB a second, until :func:`fast`."""
    host.run(["virsh", "migrate-setspeed", name, "1"])


def fast(host: LabHost, name: str) -> None:
    host.run(["virsh", "migrate-setspeed", name, "1000"])


def in_the_middle(api: ApiClient, operation: str) -> dict[str, Any]:
    """Waits until a migration of the operation has sent some of the memory; gives its step."""

    def moving(answer: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            step
            for step in answer["steps"]
            if step["code"].startswith("vm:")
            and step["status"] == "running"
            and (step["progress"] or 0) > 0.02
        ]

    return moving(api.until(operation, moving, "a migration under way", 120))[0]


def test_a_drain_moves_every_vm_live_and_enabling_brings_them_back(
    cluster: Cluster, api: ApiClient, lab_rich: LabHost, lab_plain: LabHost
) -> None:
    vm.start(lab_plain, vm.VmSpec("deaf"))
    vm.start(lab_plain, vm.VmSpec("laden", laden=True))
    vm.define(lab_plain, vm.VmSpec("resting"))

    shown = api.plan("disable-node", node=PLAIN, drain=True)["plan"]
    actions = {vm["vm_name"]: (vm["action"], vm["target"]) for vm in shown["decisions"]}
    assert actions["deaf"] == actions["laden"] == ("migrate", RICH)
    api.succeeded(api.confirmed("disable-node", node=PLAIN, drain=True, reason="A fan is replaced."))

    cluster.runs_once(deaf=lab_rich, laden=lab_rich, migrated=True)
    assert vm.state(lab_plain, "deaf") is None
    assert vm.state(lab_plain, "resting") == "shut off"
    assert cluster.describe(lab_plain)["status"] == "maintenance"
    status, refused = api("disable-node", node=RICH, drain=True)
    assert (status, refused["code"]) == (409, "last_eligible_node")

    api.succeeded(api.confirmed("enable-node", node=PLAIN, return_vms=True))

    cluster.runs_once(deaf=lab_plain, laden=lab_plain, migrated=True)
    assert cluster.describe(lab_plain)["status"] == "online"


def test_a_vm_stays_and_runs_where_the_target_dies_and_where_the_source_is_cut_off(
    cluster: Cluster, api: ApiClient, lab_rich: LabHost, lab_plain: LabHost
) -> None:
    vm.start(lab_plain, vm.VmSpec("laden", laden=True))
    process = qemu_pid(lab_plain, "laden")
    slowly(lab_plain, "laden")

    operation = api.confirmed("disable-node", node=PLAIN, drain=True)
    in_the_middle(api, operation)
    lab_rich.run(f"kill -9 {qemu_pid(lab_rich, 'laden')}")
    ended = api.ended(operation)
    assert ended["status"] == "failed"
    cluster.runs_once(laden=lab_plain)

    operation = api.confirmed("disable-node", node=PLAIN, drain=True)
    in_the_middle(api, operation)
    lab_plain.cut_network()
    try:
        ended = api.ended(operation)
    finally:
        lab_plain.restore_network()
    assert ended["status"] == "failed"
    assert ended["error"]["vms"][0]["code"] == "vm_state_unknown", ended
    lab_plain.wait_for_ssh()
    cluster.runs_once(laden=lab_plain, migrated=False)
    assert qemu_pid(lab_plain, "laden") == process

    fast(lab_plain, "laden")
    until(lambda: cluster.describe(lab_plain)["connection"]["state"] == "online", "online again")
    token = api.plan("retry-operation", operation=operation)["confirm_token"]
    status, again = api("retry-operation", operation=operation, confirm_token=token)
    assert status == 202, again
    api.succeeded(again["id"])
    cluster.runs_once(laden=lab_rich, migrated=True)


def test_a_reboot_whose_server_is_killed_four_times_reboots_once(
    cluster: Cluster, api: ApiClient, lab_rich: LabHost, lab_plain: LabHost
) -> None:
    vm.start(lab_plain, vm.VmSpec("laden", laden=True))
    slowly(lab_plain, "laden")
    boot, booted = lab_plain.boot_id(), boots(lab_plain)

    status, refused = api("reboot-node", node=PLAIN)
    assert (status, refused["code"]) == (409, "node_has_running_vms")
    operation = api.confirmed("reboot-node", node=PLAIN, vm_policy="migrate")
    in_the_middle(api, operation)
    cluster.server.kill()
    cluster.runs_once(laden=lab_plain)
    fast(lab_plain, "laden")

    cluster.server.start("tests.lab.mortal", "before")
    cluster.server.wait_for_death(180)
    cluster.runs_once(laden=lab_rich)
    assert lab_plain.boot_id() == boot
    cluster.server.start("tests.lab.mortal", "after")
    cluster.server.wait_for_death(120)

    cluster.server.start()
    api.until(operation, lambda answer: status_of(answer, "back") == "running", "the wait for the host")
    cluster.server.kill()
    cluster.server.start()
    ended = api.succeeded(operation)

    assert ended["result"]["boot_id_before"] == boot
    assert ended["result"]["boot_id"] == lab_plain.boot_id() != boot
    assert boots(lab_plain) == booted + 1
    cluster.runs_once(laden=lab_rich, migrated=True)
    assert cluster.describe(lab_plain)["scheduling"]["state"] == "enabled"
    until(lambda: cluster.describe(lab_plain)["status"] == "online", "online again")


# The last one: it leaves the cluster without its nodes.
def test_a_node_is_deleted_once_its_vms_have_moved_and_the_last_host_is_shut_down_with_proof(
    cluster: Cluster, api: ApiClient, lab_rich: LabHost, lab_plain: LabHost
) -> None:
    vm.start(lab_rich, vm.VmSpec("deaf"))

    status, refused = api("delete-node", node=RICH)
    assert (status, refused["code"]) == (409, "node_has_running_vms")
    api.succeeded(api.confirmed("delete-node", node=RICH, vm_policy="migrate"))
    cluster.runs_once(deaf=lab_plain, migrated=True)
    assert api("describe-node", node=RICH)[0] == 404

    # Nobody has said that the VM may be forced off, so the host stays on.
    boot, process = lab_plain.boot_id(), qemu_pid(lab_plain, "deaf")
    stop = {"node": PLAIN, "vm_policy": "stop", "stop_timeout_s": 8}
    ended = api.ended(api.confirmed("shutdown-node", **stop))
    assert ended["status"] == "failed"
    assert [found["code"] for found in ended["error"]["vms"]] == ["vm_did_not_stop"]
    cluster.runs_once(deaf=lab_plain)
    assert (lab_plain.boot_id(), qemu_pid(lab_plain, "deaf")) == (boot, process)

    with silent_when_off(lab_plain):
        ended = api.succeeded(api.confirmed("shutdown-node", **stop, force_stop=True))
        assert not lab_plain.is_running()
        assert ended["result"]["off"] is True
        assert ended["result"]["silent_s"] >= 30
        connection = cluster.describe(lab_plain)["connection"]
        assert (connection["state"], connection["reason"]) == ("offline", "powered_off")
    assert vm.state(lab_rich, "deaf") is None


def status_of(operation: dict[str, Any], code: str) -> str:
    (found,) = [step for step in operation["steps"] if step["code"] == code]
    return str(found["status"])
