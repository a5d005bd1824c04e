"""nodeadmin on a host that it manages itself and reboots: its process ends with the host, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import installed, vm
from tests.lab.client import ApiClient
from tests.lab.cluster import boots, qemu_pid, until
from tests.lab.host import LabHost

NODE = "lab-plain"
STATES = "virsh domstate obedient; virsh domstate deaf"


@pytest.fixture
def token(lab_plain: LabHost, tmp_path: Path) -> Iterator[str]:
    try:
        yield installed.install(lab_plain, tmp_path)
    finally:
        vm.remove(lab_plain, "obedient", "deaf")
        installed.remove(lab_plain)


def test_it_reboots_its_own_host_and_finds_the_operation_done_when_it_is_back(
    lab_plain: LabHost, token: str
) -> None:
    vm.start(lab_plain, vm.VmSpec("obedient", obedient=True))
    vm.start(lab_plain, vm.VmSpec("deaf"))
    boot, booted, deaf = lab_plain.boot_id(), boots(lab_plain), qemu_pid(lab_plain, "deaf")

    with installed.reached(lab_plain) as url:
        api = ApiClient(url, token)
        until(lambda: api("describe-node", node=NODE)[1].get("status") == "online", "it manages its host")
        assert api("describe-node", node=NODE)[1]["uri"] == "qemu:///system"
        status, refused = api("reboot-node", node=NODE, vm_policy="refuse")
        assert (status, refused["code"]) == (409, "node_has_running_vms")

        # Nobody has said that the deaf one may be forced off: nothing is rebooted, and the other is back.
        stop = {"node": NODE, "vm_policy": "stop", "stop_timeout_s": 8, "restart_vms": True}
        ended = api.ended(api.confirmed("reboot-node", **stop))
        assert ended["status"] == "failed"
        assert [found["code"] for found in ended["error"]["vms"]] == ["vm_did_not_stop"]
        assert (lab_plain.boot_id(), qemu_pid(lab_plain, "deaf")) == (boot, deaf)
        assert lab_plain.run(STATES).stdout.split() == ["running", "running"]

        assert api("enable-node", node=NODE)[0] == 200
        operation = api.confirmed("reboot-node", **stop, force_stop=True)
        lab_plain.wait_for_reboot(boot)

    with installed.reached(lab_plain) as url:
        api = ApiClient(url, token)
        ended = api.succeeded(operation)
        assert ended["result"]["boot_id_before"] == boot
        assert ended["result"]["boot_id"] == lab_plain.boot_id() != boot
        node = api("describe-node", node=NODE)[1]
        assert node["scheduling"]["state"] == "enabled"
    assert boots(lab_plain) == booted + 1
    assert lab_plain.run(STATES).stdout.split() == ["running", "running"]
