"""Who may do what to which node: the one place that API, pages, sockets and the admin ask.

A right on a node comes from a grant for that node (to the user or to one of their groups), from a role that
the user or one of their groups has for that node, for its labels or for all nodes, from Django's model
permission of the same name, which counts for every node present and future, or from being a superuser.
Without ``view_node`` a node does not exist for the user.

Who came with an API token carries its limits (User.token_limits); every answer given here is what both the
user and the token have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from django.contrib.auth.models import Permission
from django.db.models import CharField, Exists, JSONField, OuterRef, Q, Value
from django.db.models.lookups import Exact
from django.utils.translation import gettext as _

from nodes.errors import PermissionDenied, UnknownNode
from nodes.models import (
    Event,
    Node,
    NodeGroupObjectPermission,
    NodeUserObjectPermission,
    Operation,
    RoleAssignment,
    RoleScope,
    TokenLimits,
    TokenScope,
    User,
)
from nodes.models.event import Category, EventQuerySet
from nodes.models.lookups import LabelText
from nodes.models.node import NodeQuerySet
from nodes.models.operation import OperationQuerySet
from nodes.models.role import Selector, matches, selector_of

VIEW = "view_node"
VIEW_LOGS = "view_node_logs"
CHANGE = "change_node"
MAINTAIN = "maintain_node"
POWER = "power_node"
DELETE = "delete_node"
ADD = "add_node"
SCAN = "scan_host"
GRANT = "grant_access"
AUDIT = "view_audit_log"
MANAGE_SSH = "manage_ssh"

DECLARE_STORAGE = tuple(f"{action}_declaredsharedstorage" for action in ("add", "change", "delete", "view"))
"""What it takes to say which storage several nodes share: it counts for all nodes, and cannot be granted for
one."""

NODE_PERMISSIONS = (VIEW, VIEW_LOGS, CHANGE, MAINTAIN, POWER, DELETE)
"""Those that can be granted for one node."""

FLEET_PERMISSIONS = (ADD, SCAN, GRANT, AUDIT, MANAGE_SSH)
"""Those that belong to no node: they are had for all or not at all."""


ALL_PERMISSIONS = (*NODE_PERMISSIONS, *FLEET_PERMISSIONS, *DECLARE_STORAGE)
"""What roles and tokens are made of."""

BUILTIN_ROLES = {
    "administrator": ALL_PERMISSIONS,
    "operator": (VIEW, VIEW_LOGS, MAINTAIN),
    "viewer": (VIEW,),
}


@dataclass(frozen=True, slots=True)
class Held:
    """Permissions for the nodes with all labels of ``selector``, or for the one node with key ``node``."""

    permissions: frozenset[str]
    selector: Selector = ()
    node: int | None = None


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user has by model permissions and roles, whatever token they came with: for all nodes, and for
    some. Grants for single nodes are not among it."""

    everywhere: frozenset[str] = frozenset()
    scoped: tuple[Held, ...] = ()


NO_RIGHTS = Rights()
EVERY_RIGHT = Rights(frozenset(ALL_PERMISSIONS))


def rights_of(user: User) -> Rights:
    """The rights of the account: one query, none for a superuser, kept on the user.

    Django's own ``has_perm`` takes two queries and loads every permission of every app.
    """
    if not user.is_active or user.is_anonymous:
        return NO_RIGHTS
    if user.is_superuser or user.superuser_by_account:
        return EVERY_RIGHT
    kept: Rights | None = getattr(user, "_nodeadmin_rights", None)
    if kept is None:
        kept = _read_rights(user)
        user._nodeadmin_rights = kept  # type: ignore[attr-defined]
    return kept


def _read_rights(user: User) -> Rights:
    by_role = (
        RoleAssignment.objects.in_force()
        .filter(Q(user=user.pk) | Q(group__user=user.pk))
        .order_by()
        .annotate(codename=Value("", output_field=CharField()))
        .values_list("scope", "role__permissions", "selector", "node", "codename")
    )
    nothing = Value(None, output_field=JSONField())
    by_model = (
        Permission.objects.filter(
            Q(user=user.pk) | Q(group__user=user.pk),
            content_type__app_label="nodes",
            content_type__model__in=("node", "declaredsharedstorage"),
        )
        .order_by()
        .annotate(to=Value(RoleScope.ALL.value), names=nothing, labels=nothing, one=Value(None, CharField()))
        .values_list("to", "names", "labels", "one", "codename")
    )
    everywhere: set[str] = set()
    scoped: list[Held] = []
    for scope, names, labels, node, codename in by_role.union(by_model, all=True):
        if codename:
            everywhere.add(codename)
        elif scope == RoleScope.ALL:
            everywhere.update(names)
        else:
            # Those that belong to no node are had for all nodes or not at all.
            held = Held(frozenset(names) & frozenset(NODE_PERMISSIONS), selector_of(labels), node)
            if held.selector or held.node is not None:
                scoped.append(held)
    return Rights(frozenset(everywhere), tuple(scoped))


def limits_of(user: User) -> TokenLimits | None:
    """The limits of the API token that the user came with; None where they signed in themselves."""
    limits: TokenLimits | None = getattr(user, "token_limits", None)
    return limits


def model_permissions(user: User) -> frozenset[str]:
    """Codenames of the permissions that the user has for all nodes, and of those that belong to none."""
    everywhere = rights_of(user).everywhere
    limits = limits_of(user)
    if limits is None:
        return everywhere
    return everywhere & limits.permissions if limits.everywhere else frozenset()


def has_for_all(user: User, permission: str) -> bool:
    """Whether the user has ``permission`` for every node."""
    return permission in model_permissions(user)


def has_for_selector(user: User, permission: str, labels: Mapping[str, str]) -> bool:
    """Whether the user has ``permission`` for every node, present and future, with these labels."""
    if has_for_all(user, permission):
        return True
    if limits_of(user) is not None:
        return False
    wanted = set(labels.items())
    return any(
        permission in held.permissions and held.selector and wanted.issuperset(held.selector)
        for held in rights_of(user).scoped
    )


def held_anywhere(user: User) -> frozenset[str]:
    """Codenames of all permissions that the user has on any node, by themselves: what a token can be given.
    Two queries."""
    rights = rights_of(user)
    if limits_of(user) is not None:
        return frozenset()
    found = rights.everywhere.union(*(held.permissions for held in rights.scoped))
    if not user.is_active or found.issuperset(NODE_PERMISSIONS):
        return found
    by_user = NodeUserObjectPermission.objects.filter(user=user.pk)
    by_group = NodeGroupObjectPermission.objects.filter(group__user=user.pk)
    codenames = by_user.values_list("permission__codename").union(
        by_group.values_list("permission__codename")
    )
    return found | frozenset(row[0] for row in codenames)


def _selected(selector: Selector, node_ref: str) -> Q:
    """A filter: the node ``node_ref`` has all labels of the selector."""
    own = Q(*(Exact(LabelText("labels", key), Value(value)) for key, value in selector))
    return own if node_ref == "pk" else Q(**{f"{node_ref}__in": Node.objects.filter(own).values("pk")})


def _granted(user: User, permission: str, node_ref: str) -> Q:
    """A filter: the user has ``permission`` on the node ``node_ref`` by a grant to them or to a group of
    theirs, or by a role that is not for all nodes."""
    by_user = NodeUserObjectPermission.objects.filter(
        content_object=OuterRef(node_ref), user=user.pk, permission__codename=permission
    )
    by_group = NodeGroupObjectPermission.objects.filter(
        content_object=OuterRef(node_ref), group__user=user.pk, permission__codename=permission
    )
    found = Q(Exists(by_user)) | Q(Exists(by_group))
    held = [one for one in rights_of(user).scoped if permission in one.permissions]
    if single := {one.node for one in held if one.node is not None}:
        found |= Q(**{f"{node_ref}__in": single})
    for selector in {one.selector for one in held if one.selector}:
        found |= _selected(selector, node_ref)
    return found


def _within(limits: TokenLimits, node_ref: str) -> Q:
    """A filter: the node ``node_ref`` is one of those that the token is for."""
    if limits.everywhere:
        return Q()
    if limits.scope == TokenScope.NODES:
        named = Node.objects.filter(uuid__in=limits.nodes)
        return Q(**{f"{node_ref}__in": named.values("pk")})
    # No token is for labels that are none; one that were would be for no node.
    return _selected(limits.selector, node_ref) if limits.selector else Q(pk__in=())


def _where(user: User, permission: str, node_ref: str) -> Q:
    """A filter: the user, by what they have and by the token they came with, has ``permission`` on the node
    ``node_ref``."""
    found = Q()
    if permission not in rights_of(user).everywhere:
        found = _granted(user, permission, node_ref)
    limits = limits_of(user)
    if limits is None:
        return found
    return found & _within(limits, node_ref) if permission in limits.permissions else Q(pk__in=())


def nodes_for(user: User, permission: str = VIEW) -> NodeQuerySet:
    """The nodes on which the user has ``permission`` and which they may see."""
    nodes = Node.objects.all()
    if not user.is_active or user.is_anonymous:
        return nodes.none()
    for needed in {permission, VIEW}:
        nodes = nodes.filter(_where(user, needed, "pk"))
    return nodes


def permissions_on(user: User, node: Node) -> frozenset[str]:
    """All permissions of the user on one node, with those that belong to no node: at most three queries,
    none for a superuser.

    The labels that count are those that are stored: what somebody is about to store gives nobody anything.
    """
    if not user.is_active or user.is_anonymous:
        return frozenset()
    rights, limits = rights_of(user), limits_of(user)
    found = rights.everywhere
    by_labels = any(held.selector for held in rights.scoped)
    if found.issuperset(NODE_PERMISSIONS):
        by_labels = False
    else:
        found |= _granted_on(user, node)
    if by_labels or (limits is not None and limits.selector):
        stored = Node.objects.filter(pk=node.pk).values_list("labels", flat=True).first() or {}
        if by_labels:
            on_labels = (held for held in rights.scoped if matches(held.selector, stored))
            found = found.union(*(held.permissions for held in on_labels))
        if limits is not None and limits.selector and not matches(limits.selector, stored):
            return frozenset()
    if limits is not None:
        if limits.scope == TokenScope.NODES and str(node.uuid) not in limits.nodes:
            return frozenset()
        found &= limits.permissions if limits.everywhere else limits.permissions & frozenset(NODE_PERMISSIONS)
    return found - frozenset(DECLARE_STORAGE)


def _granted_on(user: User, node: Node) -> frozenset[str]:
    """By grants for the node, and by roles for it."""
    by_user = NodeUserObjectPermission.objects.filter(content_object=node, user=user.pk)
    by_group = NodeGroupObjectPermission.objects.filter(content_object=node, group__user=user.pk)
    codenames = by_user.values_list("permission__codename").union(
        by_group.values_list("permission__codename")
    )
    granted = frozenset(row[0] for row in codenames)
    return granted.union(*(held.permissions for held in rights_of(user).scoped if held.node == node.pk))


def get_node(user: User, name_or_uuid: str, permission: str = VIEW, *, columns: Sequence[str] = ()) -> Node:
    """The node, if the user may see it and has ``permission`` on it.

    ``columns`` are all that the caller will read of it; the others are then not loaded.

    Raises UnknownNode where there is none or the user may not see it (the two are not told apart), and
    PermissionDenied where they may see it but not do this.
    """
    found = nodes_for(user).named(name_or_uuid).order_by().only(*columns)[:1]
    node = next(iter(found), None)
    if node is None:
        hidden = Node.objects.named(name_or_uuid).order_by().first()
        if hidden is not None:
            _tell_denied(user, VIEW, hidden)
        raise UnknownNode(
            _("There is no node “%(name)s”, or you may not see it.") % {"name": name_or_uuid}, field="node"
        )
    if permission != VIEW:
        require(user, permission, node)
    return node


def require(user: User, permission: str, node: Node | None = None) -> None:
    """Raise PermissionDenied unless the user has ``permission`` (on ``node`` where one is given)."""
    if has_for_all(user, permission):
        return
    if node is not None and permission in permissions_on(user, node):
        return
    _tell_denied(user, permission, node)
    if limits_of(user) is not None:
        raise PermissionDenied(
            _("The API token does not have the permission “%(permission)s” here.")
            % {"permission": permission},
            remedy=_("Use a token that has it, of a user who has it."),
        )
    raise PermissionDenied(
        _("This needs the permission “%(permission)s”. Ask an administrator to grant it.")
        % {"permission": permission}
    )


DeniedListener = Callable[[User, str, Node | None], None]
_denied_listeners: list[DeniedListener] = []


def _tell_denied(user: User, permission: str, node: Node | None) -> None:
    for listener in tuple(_denied_listeners):
        listener(user, permission, node)


def on_denied(listener: DeniedListener) -> None:
    """Have ``listener(user, permission, node)`` called whenever :func:`require` refuses, and
    of a node that :func:`get_node` hides from its user."""
    if listener not in _denied_listeners:
        _denied_listeners.append(listener)


def require_starting(user: User | None) -> None:
    """Raise PermissionDenied for who came with a token for reading only: it starts nothing, and has the
    server reach out to no host, whatever permission that needs."""
    limits = limits_of(user) if user is not None else None
    if limits is not None and limits.read_only:
        raise PermissionDenied(
            _("This API token is for reading only: it starts nothing."),
            remedy=_("Use a token that is not for reading only."),
        )


def _seen(user: User) -> Q:
    """A filter of rows with a ``node``: it is one that the user may see."""
    return _where(user, VIEW, "node")


def _sees_own(user: User) -> bool:
    """Whether the user may see what they did that is of no node: with a token, if it shows all nodes."""
    limits = limits_of(user)
    return limits is None or (limits.everywhere and VIEW in limits.permissions)


def operations_for(user: User) -> OperationQuerySet:
    """Operations of the nodes that the user may see, and those that they asked for themselves and that have
    no node (any more), or brought one: who may add nodes need not be one who sees them. Of those a token
    that does not show all nodes shows what was asked for with it."""
    operations = Operation.objects.all()
    if not user.is_active or user.is_anonymous:
        return operations.none()
    if has_for_all(user, VIEW):
        return operations
    own = Q(requested_by=user.pk) & (Q(node=None) | Q(kind="add-node"))
    limits = limits_of(user)
    if limits is not None and not _sees_own(user):
        own &= Q(token=limits.token)
    return operations.filter(_seen(user) | own)


def events_for(user: User) -> EventQuerySet:
    """Events of the nodes that the user may see; of those that concern no node their own, those of the
    monitor for who may see all nodes, and entries of the audit log (sign-ins, users, roles, tokens …) with
    the permission to read it."""
    events = Event.objects.all()
    if not user.is_active or user.is_anonymous:
        return events.none()
    own = Q(node=None, user=user.pk) if _sees_own(user) else Q(pk__in=())
    reads_log, sees_all = has_for_all(user, AUDIT), has_for_all(user, VIEW)
    if reads_log and sees_all:
        return events
    # A node that is gone is known by its name.
    of_nodes = Q(node__isnull=False) | ~Q(node_name="") | Q(category=Category.HOST)
    seen = of_nodes if sees_all else _seen(user)
    log = Q(node=None, node_name="", category=Category.AUDIT) if reads_log else Q()
    return events.filter(seen | own | log) if log else events.filter(seen | own)
