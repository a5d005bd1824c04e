"""A host with a BMC, made of this machine: its power is a libvirt domain's, which the BMC really switches;
its system is an sshd and a libvirtd, which come up a moment after the power does.
"""

from __future__ import annotations

import subprocess
import threading

from nodes import access
from nodes.models import Bmc, ConnectionReason, Node, Scheduling
from nodes.models.sealed import SecretFor
from tests.factories import make_credential, make_node
from tests.libvirtd import LibvirtHost
from tests.software_bmc import PASSWORD, USER, SoftwareBmc

MACHINE = "11111111-2222-4333-8444-555555555555"
BOOT_BEFORE = "00000000-0000-4000-8000-000000000000"


class Machine:
    """A host whose power is a domain; its system is an sshd and a libvirtd that follow the power."""

    def __init__(self, host: LibvirtHost, bmc: SoftwareBmc) -> None:
        self.host, self.bmc = host, bmc
        self.boots = True
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def on(self) -> bool:
        return self.host.virsh("domstate", "machine").strip() == "running"

    def switch_off(self) -> None:
        """Pull its plug, and let its system follow the power from now on."""
        self.end()
        self.host.sshd.stop()
        if self.on:
            self.host.virsh("destroy", "machine")
        self._stop.clear()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30)
            self._thread = None

    def _follow(self) -> None:
        while not self._stop.wait(0.3):
            try:
                if self.boots and self.on:
                    self.host.sshd.start()
                    return
            except (OSError, RuntimeError, subprocess.SubprocessError):
                # Asked of a busy machine in an unlucky moment: a host that is on comes up all the same.
                self.host.sshd.stop()


def node_of(machine: Machine) -> Node:
    """The machine as a node that was shut down, in maintenance, with its BMC."""
    sshd = machine.host.sshd
    made = make_node(
        "kvm-01",
        uri=f"qemu+ssh://root@127.0.0.1:{sshd.port}/system",
        host_key=sshd.host_key().to_text(),
        host_key_fingerprint=sshd.host_key().fingerprint,
        firmware_uuid=MACHINE,
        boot_id=BOOT_BEFORE,
        connection="offline",
        connection_reason=ConnectionReason.POWERED_OFF,
        scheduling=Scheduling.MAINTENANCE,
    )
    make_credential(made, "ssh_key", private_key=sshd.user_key.read_text())
    Bmc.objects.create(
        node=made,
        url=machine.bmc.address.url,
        system_path=f"/redfish/v1/Systems/{MACHINE}",
        user=USER,
        secret=SecretFor(
            access.bmc_binding(machine.bmc.address, USER, machine.bmc.fingerprint), {"password": PASSWORD}
        ),
        certificate_fingerprint=machine.bmc.fingerprint,
    )
    return made
