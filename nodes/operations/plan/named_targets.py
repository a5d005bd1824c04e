"""Targets that people name: nodes by name or UUID, turned into UUIDs, or refused by name.

A node that the user may not see and one that does not exist are not told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Q
from django.utils.translation import gettext as _

from nodes.errors import InvalidInput, NodeAdminError, PermissionDenied
from nodes.models import Node, User
from nodes.models.node import as_uuid
from nodes.operations.options import Wish
from nodes.permissions import MAINTAIN, VIEW, nodes_for


def with_targets_as_uuids(
    user: User | None, node: Node, options: Mapping[str, Any], *, strict: bool
) -> dict[str, Any]:
    """The options of a call with every target as the UUID of its node: a node that is renamed between the
    plan and its confirmation is still the one that was meant.

    With ``strict`` raises InvalidInput for a node that is unknown or the plan's own, PermissionDenied for one
    on which the user may not migrate VMs. Otherwise such a target stays as it was given, and the plan says
    of it that it takes no VMs.
    """
    overrides = options.get("vm_overrides") or {}
    wishes = {vm: Wish.of(given) for vm, given in overrides.items()}
    names = [*(options.get("targets") or ()), *(wish.target for wish in wishes.values() if wish.target)]
    if not names:
        return dict(options)
    uuids = _Uuids(user, node, names, strict)
    told: dict[str, Any] = {**options}
    if options.get("targets"):
        found = [uuids.of(name, f"targets.{number}") for number, name in enumerate(options["targets"])]
        told["targets"] = list(dict.fromkeys(found))
    told["vm_overrides"] = {
        vm: {"action": wish.action, "target": uuids.of(wish.target, f"vm_overrides.{vm}.target")}
        if wish.target
        else overrides[vm]
        for vm, wish in wishes.items()
    }
    return told


class _Uuids:
    """The UUIDs of named nodes, in three queries however many they are."""

    def __init__(self, user: User | None, node: Node, names: list[str], strict: bool) -> None:
        self._node, self._strict = node, strict
        by_uuid = [uuid for name in names if (uuid := as_uuid(name)) is not None]
        wanted = Q(name__in=names) | Q(uuid__in=by_uuid)
        seen = nodes_for(user, VIEW) if user is not None else Node.objects.all()
        rows = list(seen.filter(wanted).only("uuid", "name"))
        self._by_name = {row.name: str(row.uuid) for row in rows}
        self._known = {str(row.uuid) for row in rows}
        usable = nodes_for(user, MAINTAIN) if user is not None else Node.objects.all()
        self._usable = set(map(str, usable.filter(wanted).values_list("uuid", flat=True)))

    def of(self, name: str, field: str) -> str:
        uuid = as_uuid(name)
        found = str(uuid) if uuid is not None and str(uuid) in self._known else self._by_name.get(name)
        if found in self._usable and found != str(self._node.uuid):
            return found
        if self._strict:
            raise self._refusal(name, found, field)
        return found or name

    def _refusal(self, name: str, found: str | None, field: str) -> NodeAdminError:
        if found is None:
            return InvalidInput(
                _("There is no node “%(name)s”, or you may not see it.") % {"name": name},
                remedy=_("Name targets by the name or UUID of a node."),
                field=field,
            )
        if found == str(self._node.uuid):
            return InvalidInput(
                _("“%s” is the node itself.") % name,
                remedy=_("Name another node as the target."),
                field=field,
            )
        return PermissionDenied(
            _("Migrating VMs to “%(name)s” needs the permission “%(permission)s” on it.")
            % {"name": name, "permission": MAINTAIN},
            remedy=_("Ask an administrator to grant it, or choose another target."),
            field=field,
        )
