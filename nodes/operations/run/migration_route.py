"""Where a migration is sent: an address that was judged, not a name that may lead elsewhere a moment later.

The source's QEMU connects by itself, and asks the source's resolver. So that resolver is asked first, each
answer is judged by the network rules and the target's inventory, and QEMU is given the address. TLS goes on
verifying the name, which libvirt is told beside it (VIR_MIGRATE_PARAM_TLS_DESTINATION, libvirt 6.0). Where an
older libvirt verifies the name in the URI alone, the name has to stay there: between the judgement and QEMU's
own look-up it may then come to lead elsewhere, where nobody has a certificate for it.
"""

from __future__ import annotations

from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import AddressDenied, HostUnreachable, MigrationFailed
from nodes.hosts.connection import HostConnection
from nodes.hosts.name_lookup import addresses_of, addresses_there
from nodes.models import Node, SnapshotSection
from nodes.operations.plan.migration_address import literal, shown_addresses


def migration_address(node: Node) -> str:
    """Where QEMU on other hosts reaches this one: what was set for it, else the host of its address."""
    address = node.migration_address or access.read_uri(node.uri).host
    if not address:
        raise MigrationFailed(
            _("%s has no address for migrations.") % node.name,
            remedy=_("Set the node's migration address."),
        )
    return address


def pinned_address(source: HostConnection, target: Node, *, name_is_verified: bool) -> str:
    """The address to which the source's QEMU is sent. ``name_is_verified``: TLS looks at the name in the URI.

    Raises AddressDenied, and MigrationFailed where the name leads nowhere or to another host.
    """
    address = migration_address(target)
    bare = address.strip("[]")
    rules = access.network_rules()
    if rules.check_literal(bare, "migration"):
        return address
    found = _found(source, bare)
    refused: AddressDenied | None = None
    fit: list[str] = []
    shown = None if target.migration_address_forced else _shown(target)
    for text in found:
        try:
            judged = literal(str(rules.check(text, "migration", name=bare)))
        except AddressDenied as error:
            refused = refused or error
        else:
            if shown is None or judged in shown:
                fit.append(text)
    if refused is not None and (name_is_verified or not fit):
        raise refused
    if not fit:
        raise MigrationFailed(
            _("The name %(name)s leads to %(addresses)s on the source, which is no address of %(node)s.")
            % {"name": bare, "addresses": ", ".join(found) or "–", "node": target.name},
            remedy=_("Set the node's migration address to one of its IP addresses."),
        )
    return address if name_is_verified else fit[0]


def _found(source: HostConnection, name: str) -> tuple[str, ...]:
    """What the source's resolver says of the name, or ours where the source cannot be asked."""
    there = addresses_there(source.shell, name) if source.has_shell else None
    if there is not None:
        return there
    try:
        return addresses_of(name)
    except HostUnreachable:
        return ()


def _shown(node: Node) -> tuple[object, ...] | None:
    """The addresses that the node's inventory shows; None where it shows none."""
    section = SnapshotSection.objects.filter(snapshot=node.snapshot_id, slug="net").first()
    return shown_addresses(section.facts if section is not None else None)
