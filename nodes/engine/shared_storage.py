"""Calls of administrators about storage that several hosts share: declared, changed, withdrawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from nodes.engine.submit import asking_user
from nodes.errors import InvalidInput, PermissionDenied
from nodes.events import Actor, record
from nodes.models import DeclaredSharedStorage, Node, User
from nodes.models.shared_storage import checked_storage_name
from nodes.permissions import has_for_all, nodes_for


def may(user: User, action: str) -> bool:
    """Whether the user may ``add``, ``change`` or ``delete`` declarations: a permission that counts for all
    nodes; no right on single nodes gives it."""
    return has_for_all(user, f"{action}_declaredsharedstorage")


def visible_to(user: User) -> QuerySet[DeclaredSharedStorage]:
    """The declarations with a node that the user may see; all of them for who may withdraw any."""
    rows = DeclaredSharedStorage.objects.order_by("kind", "name", "pk")
    if may(user, "delete"):
        return rows
    return rows.filter(pk__in=DeclaredSharedStorage.objects.filter(nodes__in=nodes_for(user)).values("pk"))


@transaction.atomic
def declare(
    actor: Actor, *, kind: str, name: str, nodes: Sequence[Node], comment: str = ""
) -> DeclaredSharedStorage:
    """Declare that ``nodes`` have the same storage ``name``. Raises PermissionDenied, InvalidInput."""
    user = _require(actor, "add")
    try:
        checked = checked_storage_name(kind, name)
    except ValidationError as error:
        raise InvalidInput(error.messages[0], field="name") from None
    members = _members(nodes)
    row = DeclaredSharedStorage.objects.create(
        kind=kind,
        name=checked,
        comment=comment,
        declared_by=user,
        declared_by_name=user.get_username(),
    )
    row.nodes.set(members)
    text = _("%(storage)s declared shared by %(nodes)s"), _("%(storage)s declared shared by %(count)d nodes")
    _tell("shared_storage_declared", text, row, members, members, actor)
    return row


@transaction.atomic
def change(actor: Actor, row: DeclaredSharedStorage, nodes: Sequence[Node]) -> DeclaredSharedStorage:
    """Replace the nodes of a declaration; it is then the user's who did. Raises PermissionDenied also where
    one of those that it has is not to be seen by the user, InvalidInput."""
    user = _require(actor, "change")
    before, members = list(row.nodes.all()), _members(nodes)
    if len(before) > nodes_for(user).filter(pk__in=[node.pk for node in before]).count():
        raise PermissionDenied(_("The declaration has nodes that you may not see."))
    row.nodes.set(members)
    row.declared_by, row.declared_by_name = user, user.get_username()
    row.save(update_fields=["declared_by", "declared_by_name"])
    text = _("%(storage)s declared shared by %(nodes)s"), _("%(storage)s declared shared by %(count)d nodes")
    concerned = {node.pk: node for node in (*before, *members)}.values()
    _tell("shared_storage_changed", text, row, members, concerned, actor)
    return row


@transaction.atomic
def withdraw(actor: Actor, row: DeclaredSharedStorage) -> None:
    """Take a declaration back. Raises PermissionDenied."""
    _require(actor, "delete")
    members = list(row.nodes.all())
    text = (
        _("%(storage)s no longer declared shared by %(nodes)s"),
        _("%(storage)s no longer declared shared by %(count)d nodes"),
    )
    _tell("shared_storage_withdrawn", text, row, members, members, actor)
    row.delete()


def _require(actor: Actor, action: str) -> User:
    user = asking_user(actor)
    if not may(user, action):
        raise PermissionDenied(
            _("This needs the permission “%(permission)s”. Ask an administrator to grant it.")
            % {"permission": f"{action}_declaredsharedstorage"}
        )
    return user


def _members(nodes: Sequence[Node]) -> list[Node]:
    found = sorted({node.pk: node for node in nodes}.values(), key=lambda node: node.name)
    if len(found) < 2:
        raise InvalidInput(_("Storage is shared by two nodes at least."), field="nodes")
    return found


def _tell(
    kind: str,
    texts: tuple[str, str],
    row: DeclaredSharedStorage,
    members: Sequence[Node],
    concerned: Iterable[Node],
    actor: Actor,
) -> None:
    """One event with the names of all nodes, which who may see all nodes sees, and one for each node that it
    concerns: who sees that node need not be one who may know the others."""
    names = [node.name for node in members]
    storage = f"{row.get_kind_display()} {row.name}"
    of_all, of_one = texts
    told = {"kind": row.kind, "name": row.name, "comment": row.comment}
    words = {"storage": storage, "nodes": ", ".join(names)}
    record(kind, of_all % words, actor=actor, data={**told, "nodes": names})
    for node in concerned:
        counted = {"storage": storage, "count": len(names)}
        record(kind, of_one % counted, node=node, actor=actor, data=told)
