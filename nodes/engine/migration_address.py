"""A node's migration address as somebody sets it: one that the host's own inventory shows, or a forced one.

VMs, with all that is in their memory, are sent to it. Who may change one node is not to have them sent
elsewhere, so an address that is not known to be the host's takes who may add nodes (nobody is given that for
one node alone), and is an event of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import HostError, InvalidInput
from nodes.events import Actor, record
from nodes.hosts.migration_path import checked_address
from nodes.hosts.name_lookup import addresses_of
from nodes.hosts.network_rules import Purpose
from nodes.models import Node, SnapshotSection, User
from nodes.models.event import Severity
from nodes.operations.plan.migration_address import (
    IpAddress,
    leads_nowhere,
    listed,
    literal,
    shown_addresses,
)
from nodes.permissions import ADD, require

LOOKUP_S = 3.0
FIELD_PURPOSE: Purpose = "migration"
FIELD, FORCED = "migration_address", "migration_address_forced"


def with_checked_address(user: User, node: Node, changes: Mapping[str, Any]) -> dict[str, Any]:
    """``changes`` with what they mean for whether the address is forced.

    Raises InvalidInput for an address that cannot be or that the inventory does not show, AddressDenied,
    PermissionDenied where one is forced by who may not.
    """
    found = dict(changes)
    if FIELD not in found and FORCED not in found:
        return found
    address = found.get(FIELD, node.migration_address)
    forced = bool(found.get(FORCED, False))
    if (address, forced) == (node.migration_address, node.migration_address_forced) or (
        FORCED not in found and address == node.migration_address
    ):
        found.pop(FORCED, None)
        return found
    found[FORCED] = forced
    if forced and not address:
        raise InvalidInput(
            _("No address is given that could be forced."),
            remedy=_("Set migration_address together with migration_address_forced."),
            field=FIELD,
        )
    if address:
        checked_address(address)
        if forced:
            require(user, ADD)
            _require_permitted(address)
        else:
            _require_shown(node, address)
    return found


def record_forced(node: Node, actor: Actor, changed: Mapping[str, Any]) -> None:
    """The event of an address that was forced just now; in the transaction that saves it."""
    if node.migration_address_forced and {FIELD, FORCED} & changed.keys():
        words = {"node": node.name, "address": node.migration_address}
        record(
            "migration_address_forced",
            _("%(node)s: migrations are sent to %(address)s, which its inventory need not show") % words,
            node=node,
            actor=actor,
            severity=Severity.WARNING,
            data={"migration_address": node.migration_address},
        )


def _require_permitted(address: str) -> None:
    """Raise AddressDenied where the settings forbid what the address leads to, as far as this server knows;
    it is judged again where a migration begins, by what the source's host knows."""
    rules = access.network_rules()
    if rules.check_literal(address, FIELD_PURPOSE):
        return
    try:
        texts = addresses_of(address, timeout_s=LOOKUP_S)
    except HostError:
        return
    for text in texts:
        rules.check(text, FIELD_PURPOSE, name=address)


def _require_shown(node: Node, address: str) -> None:
    """Raise InvalidInput unless every address that ``address`` leads to is one that the inventory shows."""
    section = SnapshotSection.objects.filter(snapshot=node.snapshot_id, slug="net").first()
    shown = shown_addresses(section.facts if section is not None else None)
    rules = access.network_rules()
    for found in _addresses(address):
        if leads_nowhere(found):
            raise _refused(
                _("%s is no address at which other hosts reach this one.") % _led(address, found), shown
            )
        if shown is None:
            raise _refused(_("The inventory of %s shows no addresses.") % node.name, shown)
        if found not in shown:
            words = {"address": _led(address, found), "node": node.name}
            raise _refused(_("The inventory of %(node)s does not show %(address)s.") % words, shown)
        rules.check(str(found), FIELD_PURPOSE, name=address)


def _addresses(address: str) -> tuple[IpAddress, ...]:
    own = literal(address)
    if own is not None:
        return (own,)
    try:
        texts = addresses_of(address, timeout_s=LOOKUP_S)
    except HostError as error:
        raise InvalidInput(
            _("%s does not lead to an address on the server that nodeadmin runs on.") % address,
            remedy=_("Give an IP address of the host, or correct the name (getent ahosts %s).") % address,
            field=FIELD,
        ) from error
    return tuple(found for text in texts if (found := literal(text)) is not None)


def _led(address: str, found: IpAddress) -> str:
    return address if literal(address) is not None else f"{address} ({found})"


def _refused(message: str, shown: tuple[IpAddress, ...] | None) -> InvalidInput:
    if shown:
        remedy = _(
            "Give one of its addresses (%s), or have an administrator set it with migration_address_forced."
        ) % listed(shown)
    else:
        remedy = _("Refresh the node, or have an administrator set it with migration_address_forced.")
    return InvalidInput(message, remedy=remedy, field=FIELD)
