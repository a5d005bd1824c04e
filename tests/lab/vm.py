"""Small virtual machines to run inside lab hosts: no disk, no network unless asked, seconds to start."""

import shlex
from dataclasses import dataclass

from tests.lab.host import LabHost

# Put into the image by image.py.
OBEDIENT_KERNEL = "/usr/share/lab/obedient"
LADEN_KERNEL = "/usr/share/lab/laden"


@dataclass(frozen=True)
class VmSpec:
    """A VM. One that is not `obedient` sits in its firmware, runs and migrates, and ignores an ACPI shutdown.

    A `laden` one is obedient, and its memory takes a migration recipe.LADEN_MIB MiB to carry.

    `bridge` gives it a port on that bridge, `pci_device` (as `0000:01:00.1`) hands it that device of the
    host.
    """

    name: str
    obedient: bool = False
    laden: bool = False
    memory_mib: int = 64
    bridge: str | None = None
    pci_device: str | None = None
    # Emulated again inside the emulated host. `kvm` works there too, with the nested kind that the host
    # offers.
    hypervisor: str = "qemu"

    def xml(self) -> str:
        """The definition, in libvirt's format (https://libvirt.org/formatdomain.html)."""
        path = LADEN_KERNEL if self.laden else OBEDIENT_KERNEL if self.obedient else ""
        kernel = f"<kernel>{path}</kernel>" if path else ""
        return f"""
<domain type='{self.hypervisor}'>
  <name>{self.name}</name>
  <memory unit='MiB'>{self.memory_mib}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='{"q35" if self.pci_device else "pc"}'>hvm</type>{kernel}</os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <serial type='pty'/>
    {self._interface()}
    {self._passthrough()}
    <memballoon model='none'/>
  </devices>
</domain>
"""

    def _interface(self) -> str:
        if self.bridge is None:
            return ""
        return f"<interface type='bridge'><source bridge='{self.bridge}'/><model type='virtio'/></interface>"

    def _passthrough(self) -> str:
        if self.pci_device is None:
            return ""
        domain, bus, rest = self.pci_device.split(":")
        slot, function = rest.split(".")
        address = f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
        return f"<hostdev mode='subsystem' type='pci' managed='yes'><source>{address}</source></hostdev>"


def define(host: LabHost, vm: VmSpec) -> None:
    """Makes the VM known to the host's libvirt, switched off."""
    host.run("virsh -q define /dev/stdin", stdin=vm.xml())


def start(host: LabHost, vm: VmSpec) -> None:
    """Defines the VM and switches it on."""
    define(host, vm)
    host.run(["virsh", "-q", "start", vm.name], timeout_s=180)


def state(host: LabHost, name: str) -> str | None:
    """libvirt's word for the VM's state, as `running` or `shut off`; None where the host does not know it."""
    answer = host.run(["virsh", "domstate", name], check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None


def remove(host: LabHost, *names: str) -> None:
    """Ends the VMs and their definitions, whatever is left of either."""
    each = "virsh -q destroy $vm; virsh -q undefine $vm"
    host.run(f"for vm in {shlex.join(names)}; do {each}; done", check=False, timeout_s=180)
