"""The address at which the target takes migrations is the target's own, and the source gets through to it.

At another host's address the VM's memory would go to whatever waits for a migration there. Loopback is the
source itself; so is an address that both hosts have (libvirt's default network has the same on every host).
"""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.migration_address import leads_nowhere, listed, literal, shown_addresses
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    """A target without any address takes no VM at all, which is told once, of the target."""
    yield from _of_its_own(source, target)
    reached, words = source.reaches.get(target.uuid, (None, ""))
    if reached is False and target.address:
        text = _("%(source)s does not reach it at %(address)s") % {
            "source": source.name,
            "address": target.address,
        }
        yield Reason(
            "migration_network",
            f"{text} ({words})" if words else text,
            _("Open the network between the hosts, or set the target's migration address."),
        )
    elif reached is None and words:
        yield Note(_("Whether the network fits cannot be told: %s") % words)


def _of_its_own(source: HostState, target: HostState) -> Iterable[Reason | Note]:
    """Judges IP addresses; where a name leads to is looked up on the source, as part of reaching it."""
    address = literal(target.address)
    if address is None or target.address_forced:
        return
    shown = shown_addresses(target.inventory.get("net"))
    remedy = _("Set the migration address of %(node)s to one of its own: %(addresses)s.") % {
        "node": target.name,
        "addresses": listed(shown or ()),
    }
    words = {"address": target.address, "source": source.name}
    if leads_nowhere(address):
        text = _("would take migrations at %(address)s, which leads to no other host") % words
        yield Reason("migration_network", text, remedy)
    elif shown is None:
        yield Note(
            _("Not verified: the inventory of %(node)s does not show whether %(address)s is its address.")
            % {"node": target.name, "address": target.address}
        )
    elif address not in shown:
        text = _("no longer shows %(address)s, at which it takes migrations, in its inventory") % words
        yield Reason("migration_network", text, remedy)
    elif address in (shown_addresses(source.inventory.get("net")) or ()):
        text = _("takes migrations at %(address)s, which %(source)s has as well") % words
        yield Reason("migration_network", text, remedy)
