"""The target has what the VM's network interfaces are plugged into.

libvirt starts the incoming half of a migration with the same bridges and networks by name, and refuses it
where one is not there (https://libvirt.org/formatdomain.html#network-interfaces).
"""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    """What is unknown of the target is left to libvirt."""
    there = target.networks
    for card in vm.xml.interfaces if vm.xml is not None else ():
        plug = {"bridge": card.bridge, "direct": card.source_device}.get(card.type)
        if card.type == "network" and card.network and _lacks(there.networks, card.network):
            yield _missing(_("has no active libvirt network “%s”") % card.network)
        elif plug and _lacks(there.interfaces, plug):
            yield _missing(_("has no network interface “%s”") % plug)


def _lacks(known: frozenset[str] | None, name: str) -> bool:
    return known is not None and name not in known


def _missing(message: str) -> Reason:
    return Reason("network_not_on_target", message, _("Set the same network up on the target."))
