"""Virtual machines inside lab hosts behave as the tests that use them need."""

from collections.abc import Iterator

import pytest

from tests.lab import vm
from tests.lab.host import LabHost

_WAIT_FOR_STATE = (
    'for i in $(seq 60); do [ "$(virsh domstate %s)" = "%s" ] && exit 0; sleep 0.5; done; exit 1'
)


@pytest.fixture
def machines(lab_rich: LabHost, lab_plain: LabHost) -> Iterator[None]:
    yield
    for host in (lab_rich, lab_plain):
        vm.remove(host, "obedient", "deaf", "passed", "traveller")


@pytest.mark.usefixtures("machines")
class TestVms:
    def test_obedient_one_powers_off_when_asked(self, lab_rich: LabHost) -> None:
        vm.start(lab_rich, vm.VmSpec("obedient", obedient=True, bridge="br0"))
        assert "vnet" in lab_rich.run("ls /sys/class/net/br0/brif").stdout

        # Its firmware runs for some seconds first, and hears nothing then: ask until it does.
        lab_rich.run(
            "for i in $(seq 30); do virsh -q shutdown obedient 2>/dev/null; sleep 1; "
            '[ "$(virsh domstate obedient)" = "shut off" ] && exit 0; done; exit 1',
            timeout_s=120,
        )

    def test_other_one_ignores_it(self, lab_plain: LabHost) -> None:
        vm.start(lab_plain, vm.VmSpec("deaf"))
        lab_plain.run("sleep 5; virsh -q shutdown deaf; sleep 5")

        assert vm.state(lab_plain, "deaf") == "running"

    def test_virtual_function_can_be_passed_through(self, lab_rich: LabHost) -> None:
        address = lab_rich.run(
            "basename $(dirname $(ls -d /sys/bus/pci/devices/*/physfn | head -n 1))"
        ).stdout.strip()
        vm.start(lab_rich, vm.VmSpec("passed", pci_device=address))

        driver = lab_rich.run(f"basename $(readlink /sys/bus/pci/devices/{address}/driver)").stdout.strip()
        assert driver == "vfio-pci"

    def test_live_migration_goes_over_the_hosts_own_network(
        self, lab_rich: LabHost, lab_plain: LabHost
    ) -> None:
        vm.start(lab_rich, vm.VmSpec("traveller"))
        lab_rich.run("[ -e .ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519")
        lab_plain.run("cat >> .ssh/authorized_keys", stdin=lab_rich.run("cat .ssh/id_ed25519.pub").stdout)
        lab_rich.run(f"ping -c 1 -w 30 {lab_plain.lan_address}", timeout_s=60)

        target = f"qemu+ssh://root@{lab_plain.lan_address}/system?no_verify=1&no_tty=1"
        lab_rich.run(
            ["virsh", "migrate", "--live", "--p2p", "traveller", target, f"tcp://{lab_plain.lan_address}"],
            timeout_s=180,
        )

        lab_plain.run(_WAIT_FOR_STATE % ("traveller", "running"), timeout_s=60)
        assert vm.state(lab_rich, "traveller") == "shut off"
