"""nodeadmin on a host that it manages itself and reboots: its process ends with the host, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import installed, vm
from tests.lab.client import ApiClient
from tests.lab.cluster import boots, until
from tests.lab.host import LabHost

NODE = "lab-plain"


@pytest.fixture
def token(lab_plain: LabHost, tmp_path: Path) -> Iterator[str]:
    try:
        yield installed.install(lab_plain, tmp_path)
    finally:
        vm.remove(lab_plain, "obedient")
        installed.remove(lab_plain)


def test_it_reboots_its_own_host_and_finds_the_operation_done_when_it_is_back(
    lab_plain: LabHost, token: str
) -> None:
    vm.start(lab_plain, vm.VmSpec("obedient", obedient=True))
    boot, booted = lab_plain.boot_id(), boots(lab_plain)

    with installed.reached(lab_plain) as url:
        api = ApiClient(url, token)
        until(
            lambda: api("describe-node", node=NODE)[1].get("status") == "online", "it manages its host", 240
        )
        assert api("describe-node", node=NODE)[1]["uri"] == "qemu:///system"
        status, refused = api("reboot-node", node=NODE, vm_policy="refuse")
        assert (status, refused["code"]) == (409, "node_has_running_vms")
        operation = api.confirmed("reboot-node", node=NODE, vm_policy="stop", restart_vms=True)
        lab_plain.wait_for_reboot(boot)

    with installed.reached(lab_plain) as url:
        api = ApiClient(url, token)
        ended = api.succeeded(operation)
        assert ended["result"]["boot_id_before"] == boot
        assert ended["result"]["boot_id"] == lab_plain.boot_id() != boot
        assert api("describe-node", node=NODE)[1]["scheduling"]["state"] == "enabled"
    assert boots(lab_plain) == booted + 1
    assert vm.state(lab_plain, "obedient") == "running"
