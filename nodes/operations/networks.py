"""What a VM's network cards are plugged into, and whether a target has the same.

libvirt starts the incoming half of a migration with the same bridges and networks by name, and refuses it
where one is not there (https://libvirt.org/formatdomain.html#network-interfaces).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from nodes.inventory.domain_devices import NetworkInterface
from nodes.operations.plans import Reason


@dataclass(frozen=True, slots=True)
class HostNetworks:
    """Names of the host's network interfaces and of libvirt's active networks; None where they could not be
    read."""

    interfaces: frozenset[str] | None = None
    networks: frozenset[str] | None = None


def missing_networks(cards: Sequence[NetworkInterface], target: HostNetworks) -> tuple[Reason, ...]:
    """What the cards are plugged into and ``target`` does not have; what is unknown is left to libvirt."""
    found: dict[str, Reason] = {}
    for card in cards:
        plug = {"bridge": card.bridge, "direct": card.source_device}.get(card.type)
        if card.type == "network" and card.network and _lacks(target.networks, card.network):
            found[card.network] = _missing(_("has no active libvirt network “%s”") % card.network)
        elif plug and _lacks(target.interfaces, plug):
            found[plug] = _missing(_("has no network interface “%s”") % plug)
    return tuple(found.values())


def _lacks(known: frozenset[str] | None, name: str) -> bool:
    return known is not None and name not in known


def _missing(message: str) -> Reason:
    return Reason("network_not_on_target", message, _("Set the same network up on the target."))
