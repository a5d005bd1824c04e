"""Roles made and granted, by those who may grant, and never more than they have themselves."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.errors import InvalidInput, PermissionDenied
from nodes.events import Actor, Target, record, told
from nodes.models import Node, Role, RoleAssignment, RoleScope, User
from nodes.models.event import Severity, Via
from nodes.models.role import check_selector
from nodes.permissions import (
    ALL_PERMISSIONS,
    BUILTIN_ROLES,
    GRANT,
    NODE_PERMISSIONS,
    has_for_all,
    has_for_selector,
    permissions_on,
    require,
)
from nodes.second_factor import GRANT as FACTOR
from nodes.second_factor import require_fresh
from nodes.trusted_labels import hold_labels


@dataclass(frozen=True, slots=True)
class Scope:
    """What a role is granted for: one node, the nodes with all of some labels, or all nodes (neither)."""

    node: Node | None = None
    labels: Mapping[str, str] | None = None

    @property
    def kind(self) -> str:
        if self.node is not None:
            return RoleScope.NODE.value
        return RoleScope.LABELS.value if self.labels is not None else RoleScope.ALL.value


@transaction.atomic
def make_role(actor: Actor, name: str, permissions: Iterable[str]) -> Role:
    """A new role. It gives nobody anything yet. Raises PermissionDenied, InvalidInput."""
    _require_granting(actor)
    require_fresh(actor, FACTOR)
    role = Role(name=_checked_name(name), permissions=checked_permissions(permissions))
    try:
        with transaction.atomic(), told():  # below
            role.save(force_insert=True)
    except IntegrityError:
        raise _name_taken(name) from None
    text = _("Role “%s” made") % role.name
    record("role_made", text, actor=actor, target=_of_role(role), data={"after": _told(role)})
    return role


@transaction.atomic
def change_role(actor: Actor, role: Role, *, name: str, permissions: Iterable[str]) -> Role:
    """Change a role for all who have it. What is added to it, the actor must have for all nodes.

    Raises PermissionDenied, InvalidInput for a built-in one and for a name that is taken.
    """
    user = _require_granting(actor)
    require_fresh(actor, FACTOR)
    role = Role.objects.select_for_update().get(pk=role.pk)
    _refuse_builtin(role)
    before, wanted = _told(role), checked_permissions(permissions)
    if user is not None:
        missing = [one for one in wanted if one not in role.permissions and not has_for_all(user, one)]
        _refuse_missing(missing, _("all nodes"))
    role.name, role.permissions = _checked_name(name), wanted
    if before == _told(role):
        return role
    try:
        with transaction.atomic(), told():  # below
            role.save()
    except IntegrityError:
        raise _name_taken(name) from None
    text = _("Role “%s” changed") % role.name
    data = {"before": before, "after": _told(role)}
    record("role_changed", text, actor=actor, target=_of_role(role), severity=Severity.WARNING, data=data)
    return role


def remove_role(actor: Actor, role: Role) -> None:
    """Remove a role, and revoke it from all who have it. Raises PermissionDenied, InvalidInput for a built-in
    one."""
    remove_roles(actor, [role])


@transaction.atomic
def remove_roles(actor: Actor, roles: Iterable[Role]) -> None:
    """As :func:`remove_role`, several with one second factor: all of them or none."""
    _require_granting(actor)
    require_fresh(actor, FACTOR)
    for role in roles:
        _remove(actor, role)


def _remove(actor: Actor, role: Role) -> None:
    _refuse_builtin(role)
    for assignment in role.assignments.select_related("role", "user", "group", "node"):
        _revoke(actor, assignment)
    text = _("Role “%s” removed") % role.name
    record("role_removed", text, actor=actor, target=_of_role(role), data={"before": _told(role)})
    with told():
        role.delete()


@transaction.atomic
def assign_role(
    actor: Actor, role: Role, holder: User | Group, scope: Scope, *, expires_at: datetime | None = None
) -> RoleAssignment:
    """Grant the role to a user, or to the members of a group. The labels of the scope can from then on be
    changed by those alone who may grant.

    Raises PermissionDenied also where the actor does not have for the scope what the role grants there,
    InvalidInput for labels that are none, an end that is past, and a role that the holder has already.
    """
    check_assignment(actor, role, scope, expires_at=expires_at)
    require_fresh(actor, FACTOR)
    if scope.labels is not None:
        hold_labels()
    assignment = RoleAssignment(
        role=role,
        user=holder if isinstance(holder, User) else None,
        group=holder if isinstance(holder, Group) else None,
        scope=scope.kind,
        selector=dict(scope.labels or {}),
        node=scope.node,
        granted_by=actor.user,
        expires_at=expires_at,
    )
    try:
        with transaction.atomic(), told():  # below
            assignment.save(force_insert=True)
    except IntegrityError:
        raise InvalidInput(
            _("%(holder)s has the role “%(role)s” for that already.")
            % {"holder": assignment.holder, "role": role.name},
            remedy=_("Revoke it first, then grant it with another end."),
            field="role",
        ) from None
    words = {"role": role.name, "holder": assignment.holder, "scope": assignment.scope_words}
    record(
        "role_assigned",
        _("Role “%(role)s” granted to %(holder)s for %(scope)s") % words,
        node=scope.node,
        actor=actor,
        target=_of_holder(assignment),
        severity=Severity.WARNING,
        data={"after": _told_assignment(assignment)},
    )
    return assignment


def revoke_role(actor: Actor, assignment: RoleAssignment) -> None:
    """Revoke a role from its holder. Raises PermissionDenied, SecondFactorRequired."""
    revoke_roles(actor, [assignment])


@transaction.atomic
def revoke_roles(actor: Actor, assignments: Iterable[RoleAssignment]) -> None:
    """As :func:`revoke_role`, several with one second factor: all of them or none."""
    _require_granting(actor)
    require_fresh(actor, FACTOR)
    for assignment in assignments:
        _revoke(actor, assignment)


def _revoke(actor: Actor, assignment: RoleAssignment) -> None:
    words = {
        "role": assignment.role.name,
        "holder": assignment.holder,
        "scope": assignment.scope_words,
    }
    record(
        "role_revoked",
        _("Role “%(role)s” revoked from %(holder)s for %(scope)s") % words,
        node=assignment.node,
        actor=actor,
        target=_of_holder(assignment),
        severity=Severity.WARNING,
        data={"before": _told_assignment(assignment)},
    )
    with told():
        assignment.delete()


def check_assignment(actor: Actor, role: Role, scope: Scope, *, expires_at: datetime | None = None) -> None:
    """Raise as :func:`assign_role`, and change nothing."""
    user = _require_granting(actor)
    if scope.node is not None and scope.labels is not None:
        raise InvalidInput(_("A role is granted for one node or for labels, not for both."), field="scope")
    if scope.labels is not None:
        try:
            check_selector(scope.labels)
        except ValidationError as error:
            raise InvalidInput(error.messages[0], field="labels") from None
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidInput(_("The end is in the past."), remedy=_("Choose a later time."), field="expires_at")
    if user is not None:
        _refuse_missing(*_missing(user, role, scope))


def _missing(user: User, role: Role, scope: Scope) -> tuple[list[str], str]:
    """What the role would give for the scope and the user does not have there, and the scope in words."""
    if scope.node is not None:
        own = permissions_on(user, scope.node)
        given = [one for one in role.permissions if one in NODE_PERMISSIONS]
        return [one for one in given if one not in own], scope.node.name
    if scope.labels is not None:
        labels = scope.labels
        given = [one for one in role.permissions if one in NODE_PERMISSIONS]
        words = ", ".join(f"{key}={value}" for key, value in labels.items())
        return [one for one in given if not has_for_selector(user, one, labels)], words
    return [one for one in role.permissions if not has_for_all(user, one)], _("all nodes")


def ensure_roles() -> list[str]:
    """Bring the built-in roles to what the code says; gives the names of those that were not like it. An own
    role that has the name of a built-in one becomes that."""
    found = {role.name: role for role in Role.objects.filter(name__in=BUILTIN_ROLES)}
    changed = []
    for name, permissions in BUILTIN_ROLES.items():
        role = found.get(name) or Role(name=name)
        if role.pk is None or not role.builtin or role.permissions != list(permissions):
            role.builtin, role.permissions = True, list(permissions)
            role.save()
            changed.append(name)
    return changed


def checked_permissions(permissions: Iterable[str]) -> list[str]:
    """The codenames in the order in which they are always told. Raises InvalidInput for an unknown one."""
    wanted = set(permissions)
    unknown = sorted(wanted.difference(ALL_PERMISSIONS))
    if unknown:
        raise InvalidInput(
            _("There is no permission “%s”.") % unknown[0][:80],
            remedy=_("Known: %s.") % ", ".join(ALL_PERMISSIONS),
            field="permissions",
        )
    return [one for one in ALL_PERMISSIONS if one in wanted]


def _require_granting(actor: Actor) -> User | None:
    """The user who grants; None for who runs a command on the server, and could write to the database.

    Raises PermissionDenied.
    """
    if actor.user is None:
        if actor.via == Via.COMMAND:
            return None
        raise PermissionDenied(_("This needs a user who asks for it."))
    require(actor.user, GRANT)
    return actor.user


def _refuse_missing(missing: list[str], where: str) -> None:
    if missing:
        raise PermissionDenied(
            _("You do not have “%(permission)s” for %(where)s, and cannot grant it.")
            % {"permission": missing[0], "where": where},
            remedy=_("Ask a superuser, or grant a role without it."),
            field="role",
        )


def _refuse_builtin(role: Role) -> None:
    if role.builtin:
        raise InvalidInput(
            _("“%s” is built in: it is what this version says.") % role.name,
            remedy=_("Make a role of your own."),
            field="role",
        )


def _checked_name(name: str) -> str:
    found = name.strip()
    if not found or len(found) > 63 or not found.isprintable():
        raise InvalidInput(_("A role's name has 1 to 63 printable characters."), field="name")
    # However it is written: "Administrator" would be taken for the built-in one.
    if unicodedata.normalize("NFKC", found).casefold() in BUILTIN_ROLES:
        raise _name_taken(found)
    return found


def _name_taken(name: str) -> InvalidInput:
    return InvalidInput(
        _("There is a role “%s” already.") % name, remedy=_("Choose another name."), field="name"
    )


def _of_role(role: Role) -> Target:
    return Target("role", str(role.pk), role.name)


def _of_holder(assignment: RoleAssignment) -> Target:
    if assignment.user is not None:
        return Target("user", str(assignment.user.pk), assignment.user.get_username())
    return Target("group", str(assignment.group_id), assignment.holder)


def _told(role: Role) -> dict[str, Any]:
    return {"name": role.name, "permissions": list(role.permissions)}


def _told_assignment(assignment: RoleAssignment) -> dict[str, Any]:
    expires_at = assignment.expires_at
    return {
        "role": assignment.role.name,
        "permissions": list(assignment.role.permissions),
        "holder": assignment.holder,
        "scope": assignment.scope_words,
        "expires_at": expires_at.isoformat() if expires_at is not None else None,
    }
