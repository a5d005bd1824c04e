"""Who may do what to which node: the one place that API, pages, sockets and the admin ask.

A right on a node comes from a grant for that node (to the user or to one of their groups), from Django's
model permission of the same name, which counts for every node present and future, or from being a
superuser. Without ``view_node`` a node does not exist for the user.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib.auth.models import Permission
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from nodes.errors import PermissionDenied, UnknownNode
from nodes.models import Event, Node, NodeGroupObjectPermission, NodeUserObjectPermission, Operation, User
from nodes.models.node import NodeQuerySet
from nodes.models.operation import OperationQuerySet

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


def model_permissions(user: User) -> frozenset[str]:
    """Codenames of the node permissions that the user has for all nodes: one query, kept on the user.

    Django's own ``has_perm`` takes two queries and loads every permission of every app.
    """
    if not user.is_active or user.is_anonymous:
        return frozenset()
    if user.is_superuser:
        return frozenset((*NODE_PERMISSIONS, *FLEET_PERMISSIONS))
    kept: frozenset[str] | None = getattr(user, "_nodeadmin_permissions", None)
    if kept is None:
        rows = Permission.objects.filter(
            Q(user=user.pk) | Q(group__user=user.pk),
            content_type__app_label="nodes",
            content_type__model="node",
        )
        kept = frozenset(rows.values_list("codename", flat=True))
        user._nodeadmin_permissions = kept  # type: ignore[attr-defined]
    return kept


def has_for_all(user: User, permission: str) -> bool:
    """Whether the user has ``permission`` for every node."""
    return permission in model_permissions(user)


def _granted(user: User, permission: str, node_ref: str) -> Q:
    """A filter: a grant of ``permission`` to the user, or to a group of theirs, on the node ``node_ref``."""
    by_user = NodeUserObjectPermission.objects.filter(
        content_object=OuterRef(node_ref), user=user.pk, permission__codename=permission
    )
    by_group = NodeGroupObjectPermission.objects.filter(
        content_object=OuterRef(node_ref), group__user=user.pk, permission__codename=permission
    )
    return Q(Exists(by_user)) | Q(Exists(by_group))


def nodes_for(user: User, permission: str = VIEW) -> NodeQuerySet:
    """The nodes on which the user has ``permission`` and which they may see."""
    nodes = Node.objects.all()
    if not user.is_active or user.is_anonymous:
        return nodes.none()
    for needed in {permission, VIEW}:
        if not has_for_all(user, needed):
            nodes = nodes.filter(_granted(user, needed, "pk"))
    return nodes


def permissions_on(user: User, node: Node) -> frozenset[str]:
    """All node permissions of the user on one node: at most three queries, none for a superuser."""
    everywhere = model_permissions(user)
    if not user.is_active or everywhere.issuperset(NODE_PERMISSIONS):
        return everywhere
    by_user = NodeUserObjectPermission.objects.filter(content_object=node, user=user.pk)
    by_group = NodeGroupObjectPermission.objects.filter(content_object=node, group__user=user.pk)
    codenames = by_user.values_list("permission__codename").union(
        by_group.values_list("permission__codename")
    )
    return everywhere | frozenset(row[0] for row in codenames)


def get_node(user: User, name_or_uuid: str, permission: str = VIEW, *, columns: Sequence[str] = ()) -> Node:
    """The node, if the user may see it and has ``permission`` on it.

    ``columns`` are all that the caller will read of it; the others are then not loaded.

    Raises UnknownNode where there is none or the user may not see it (the two are not told apart), and
    PermissionDenied where they may see it but not do this.
    """
    found = nodes_for(user).named(name_or_uuid).order_by().only(*columns)[:1]
    node = next(iter(found), None)
    if node is None:
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
    raise PermissionDenied(
        _("This needs the permission “%(permission)s”. Ask an administrator to grant it.")
        % {"permission": permission}
    )


def operations_for(user: User) -> OperationQuerySet:
    """Operations of the nodes that the user may see, and those that they asked for themselves and that have
    no node (any more), or brought one: who may add nodes need not be one who sees them."""
    operations = Operation.objects.all()
    if not user.is_active or user.is_anonymous:
        return operations.none()
    if has_for_all(user, VIEW):
        return operations
    own = Q(requested_by=user.pk) & (Q(node=None) | Q(kind="add-node"))
    return operations.filter(_granted(user, VIEW, "node") | own)


def events_for(user: User) -> QuerySet[Event]:
    """Events of the nodes that the user may see; those of no node only for who may see all nodes."""
    events = Event.objects.all()
    if not user.is_active or user.is_anonymous:
        return events.none()
    if has_for_all(user, VIEW):
        return events
    return events.filter(_granted(user, VIEW, "node") | Q(node=None, user=user.pk))
