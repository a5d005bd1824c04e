"""Records the lab's hosts, as ``python -m tests.lab.record [rich] [plain]``.

The documents go to tests/fixtures/hosts/lab-NAME/document.json. The rich host runs two VMs while it is
recorded: ``holder`` has a virtual function and the USB tablet, ``bridged`` a port on the bridge. ``resting``
is off.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nodes.hosts.connection import connect
from nodes.hosts.probe import collect
from nodes.hosts.target import HostKey, HostTarget, SshKeyCredential
from nodes.inventory.document import HostDocument
from nodes.inventory.registry import SECTIONS
from nodes.inventory.section import Section
from tests.inventory.documents import save_document
from tests.lab import vm
from tests.lab.host import LabHost
from tests.lab.lab import Lab
from tests.network import ANYWHERE

_TABLET = (
    "<hostdev mode='subsystem' type='usb' managed='yes'><source><vendor id='0x0627'/><product id='0x0001'/>"
    "</source></hostdev><controller type='usb' model='qemu-xhci'/>"
)
_TIMEOUT_S = 120.0
_PATIENCE_S = 60


def patient(sections: Sequence[Section[Any]]) -> tuple[Section[Any], ...]:
    """The sections with deadlines for an emulated host on a machine that has other things to do."""
    return tuple(
        replace(section, sources=tuple(replace(source, timeout_s=_PATIENCE_S) for source in section.sources))
        for section in sections
    )


def target_of(host: LabHost) -> HostTarget:
    """The host as nodeadmin enters it: as root, with its key pinned."""
    [line] = [line for line in host.run("cat /etc/ssh/ssh_host_ed25519_key.pub").stdout.splitlines() if line]
    return HostTarget(
        key=str(host.identity),
        transport="ssh",
        host=host.address,
        port=host.ssh_port,
        user="root",
        credential=SshKeyCredential(host.private_key.read_text()),
        host_key=HostKey.parse(line),
        rules=ANYWHERE,
    )


def record(host: LabHost) -> HostDocument:
    """Its document, taken twice: the second time libvirt has its answers ready."""
    with connect(target_of(host)) as connection:
        collect(connection, patient(SECTIONS), timeout_s=_TIMEOUT_S)
        return collect(connection, patient(SECTIONS), timeout_s=_TIMEOUT_S)


def populate(host: LabHost) -> None:
    """The VMs of the rich host."""
    function = host.run(
        "basename $(dirname $(ls -d /sys/bus/pci/devices/*/physfn | head -n 1))"
    ).stdout.strip()
    holder = vm.VmSpec("holder", pci_device=function)
    host.run("virsh -q define /dev/stdin", stdin=re.sub("</hostdev>", f"</hostdev>{_TABLET}", holder.xml()))
    host.run(["virsh", "-q", "start", "holder"], timeout_s=180)
    vm.start(host, vm.VmSpec("bridged", obedient=True, bridge="br0"))
    vm.define(host, vm.VmSpec("resting"))


def main(names: list[str]) -> None:
    lab = Lab.private()
    try:
        lab.start(names)
        for name in names:
            lab.wait_until_ready([name])
            host = lab.host(name)
            if name == "rich":
                populate(host)
            save_document(f"lab-{name}", record(host))
    finally:
        lab.down()


if __name__ == "__main__":
    main(sys.argv[1:] or ["rich", "plain"])
