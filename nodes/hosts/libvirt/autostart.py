"""Autostart: whether libvirt starts a VM by itself when its host comes up.

The mark is a link in ``/etc/libvirt/qemu/autostart`` that belongs to the VM's definition; libvirt reads it
once after each boot of the host. Setting it starts nothing, and taking it off stops nothing.
Source: https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainSetAutostart.
"""

from __future__ import annotations

import libvirt

from nodes.hosts.hypervisor import Hypervisor

CALL_S = 15.0


def marked_vms(hypervisor: Hypervisor, *, timeout_s: float = CALL_S) -> dict[str, bool]:
    """By UUID every VM that is defined on the host, and whether it has autostart. Raises HostError.

    A transient VM is not among them: without a definition it can have no mark.
    """

    def work(connection: libvirt.virConnect) -> dict[str, bool]:
        defined = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
        marked = connection.listAllDomains(
            libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT | libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART
        )
        found = {domain.UUIDString(): False for domain in defined}
        return found | {domain.UUIDString(): True for domain in marked}

    return hypervisor.run(work, what="Asking which VMs have autostart", timeout_s=timeout_s)


def set_autostart(hypervisor: Hypervisor, uuid: str, wanted: bool, *, timeout_s: float = CALL_S) -> bool:
    """Set the mark, or take it off; no error where it is so already.

    False where the host has no definition of the VM, which then has no mark either. Raises HostError.
    """

    def work(connection: libvirt.virConnect) -> bool:
        try:
            domain = connection.lookupByUUIDString(uuid)
            if not domain.isPersistent():
                return False
            if bool(domain.autostart()) != wanted:
                domain.setAutostart(wanted)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return False
            raise
        return True

    what = "Setting a VM's autostart" if wanted else "Holding a VM's autostart"
    return hypervisor.run(work, what=what, timeout_s=timeout_s)
