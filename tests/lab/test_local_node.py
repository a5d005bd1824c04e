"""nodeadmin installed on a host: in the sandbox of its unit, and as manager of the very host it runs on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import installed, vm
from tests.lab.client import ApiClient
from tests.lab.cluster import boots, until
from tests.lab.host import LabHost

NODE = "lab-plain"


@pytest.fixture(scope="module")
def token(lab_plain: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        yield installed.install(lab_plain, tmp_path_factory.mktemp("installed"))
    finally:
        vm.remove(lab_plain, "obedient")
        installed.remove(lab_plain)


def test_in_the_sandbox_of_its_unit_it_adds_a_host_watches_it_and_reads_its_journal(
    lab_plain: LabHost, token: str
) -> None:
    uri = "qemu+ssh://root@127.0.0.1/system"
    with installed.shipped_unit(lab_plain) as url:
        api = ApiClient(url, token)
        shown = api("scan-host-key", uri=uri)[1]["keys"]
        status, operation = api(
            "add-node",
            name="sandboxed",
            uri=uri,
            host_key_fingerprint=shown[0]["fingerprint"],
            credential={"kind": "ssh_key", "private_key": lab_plain.private_key.read_text()},
        )
        assert status == 202, operation
        api.succeeded(operation["id"])
        until(lambda: api("describe-node", node="sandboxed")[1]["status"] == "online", "it is watched", 120)
        status, logs = api("describe-node-logs", node="sandboxed", limit=5, keyword="[a-z]", regex=True)
        assert logs.get("entries"), (status, logs)
        pid = lab_plain.run("systemctl show -P MainPID nodeadmin").stdout.strip()
        status_file = lab_plain.run(f"cat /proc/{pid}/status").stdout
    confined = dict(line.split(":", 1) for line in status_file.splitlines())
    assert confined["Uid"].split()[0] != "0"
    assert confined["CapBnd"].strip() == "0000000000000000"
    assert (confined["NoNewPrivs"].strip(), confined["Seccomp"].strip()) == ("1", "2")


def test_it_reboots_its_own_host_and_finds_the_operation_done_when_it_is_back(
    lab_plain: LabHost, token: str
) -> None:
    installed.start_local(lab_plain)
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
