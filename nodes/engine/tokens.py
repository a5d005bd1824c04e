"""API tokens made and revoked: for less than their maker has, never for more."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes import second_factor
from nodes.engine.grants import checked_permissions
from nodes.engine.submit import asking_user
from nodes.errors import InvalidInput, PermissionDenied
from nodes.events import Actor, LoginsEnded, Target, publish, record, told
from nodes.models import ApiToken, Node, TokenScope, User
from nodes.models.event import Severity
from nodes.models.role import check_selector
from nodes.models.token_limits import READING_PERMISSIONS
from nodes.permissions import (
    ADD,
    CHANGE,
    DELETE,
    GRANT,
    MANAGE_SSH,
    NODE_PERMISSIONS,
    POWER,
    VIEW,
    has_for_all,
    held_anywhere,
    limits_of,
)
from nodes.trusted_labels import hold_labels, trusted_keys

SENSITIVE = frozenset((POWER, DELETE, CHANGE, ADD, GRANT, MANAGE_SSH))
"""What a person confirms each time, and a token that has it does not: to be given with care, once."""

MOST_TOKENS = 100
"""Of one user that are not revoked: a list that people can look through."""

MOST_NODES = 500
MOST_NETWORKS = 32


@transaction.atomic
def make_token(
    actor: Actor,
    name: str,
    expires_at: datetime,
    *,
    permissions: Iterable[str],
    read_only: bool,
    labels: Mapping[str, str] | None = None,
    nodes: Sequence[Node] = (),
    networks: Iterable[str] = (),
) -> tuple[ApiToken, str]:
    """A token of the actor's, and its text. ``nodes`` are such as they may see; with neither those nor
    ``labels`` it is for all nodes. ``networks`` (CIDR) are those that it is taken from, none for any.

    Raises InvalidInput with the field, and PermissionDenied for who came with a token: it would be a way
    around its end.
    """
    user = asking_user(actor)
    if limits_of(user) is not None:
        raise PermissionDenied(_("A token makes no tokens."), remedy=_("Sign in to make one."))
    if ApiToken.objects.filter(user=user, revoked_at=None).count() >= MOST_TOKENS:
        raise InvalidInput(_("You have %d tokens.") % MOST_TOKENS, remedy=_("Revoke one first."))
    given = _checked_permissions(user, permissions, read_only=read_only, everywhere=not labels and not nodes)
    scope = TokenScope.ALL
    if labels and nodes:
        raise InvalidInput(_("A token is for labels or for named nodes, not for both."), field="labels")
    if labels:
        scope = TokenScope.LABELS
        _check_selector(user, labels)
    elif nodes:
        scope = TokenScope.NODES
        if len(nodes) > MOST_NODES:
            raise InvalidInput(_("At most %d nodes; use a label for more.") % MOST_NODES, field="nodes")
    taken_from = _checked_networks(networks)
    second_factor.require_fresh(actor, second_factor.TOKEN)
    with told():  # below
        row, text = ApiToken.make(
            user,
            name,
            expires_at,
            read_only=read_only,
            permissions=given,
            scope=scope.value,
            selector=labels,
            node_uuids=[str(node.uuid) for node in nodes],
            networks=taken_from,
            with_factor=second_factor.is_required(actor),
        )
    words = _("API token “%s” made") % row.name
    warns = Severity.WARNING if SENSITIVE.intersection(given) else Severity.INFO
    record("token_made", words, actor=actor, target=_of(row), severity=warns, data={"after": _told(row)})
    return row, text


@transaction.atomic
def revoke_token(actor: Actor, token: ApiToken) -> bool:
    """End a token at once: one of the actor's own, or anybody's for who may grant. False where it had been
    revoked already. Raises PermissionDenied."""
    user = asking_user(actor)
    if (token.user_id != user.pk or limits_of(user) is not None) and not has_for_all(user, GRANT):
        raise PermissionDenied(_("Another user's token is revoked with the permission “%s”.") % GRANT)
    if not ApiToken.objects.select_for_update().filter(pk=token.pk, revoked_at=None).exists():
        return False
    end_token(actor, token)
    return True


def end_token(actor: Actor, token: ApiToken) -> None:
    """Revoke the token, for callers that have checked who asks; in their transaction."""
    token.revoked_at = timezone.now()
    with told():  # below
        token.save(update_fields=["revoked_at"])
    words = _("API token “%s” revoked") % token.name
    record("token_revoked", words, actor=actor, target=_of(token), data={"before": _told(token)})
    publish(LoginsEnded(token.user_id))


def tokens_seen_by(user: User) -> QuerySet[ApiToken]:
    """The user's own tokens; everybody's for who may revoke them."""
    rows = ApiToken.objects.select_related("user")
    return rows if has_for_all(user, GRANT) else rows.filter(user=user.pk)


def _checked_permissions(
    user: User, permissions: Iterable[str], *, read_only: bool, everywhere: bool
) -> list[str]:
    given = checked_permissions(permissions)
    if not given:
        raise InvalidInput(_("A token has one permission at least."), field="permissions")
    held = held_anywhere(user)
    for one in given:
        if one not in held:
            words = _("You do not have “%s” on any node, and cannot grant it to a token.")
            raise InvalidInput(words % one, field="permissions")
        if read_only and one not in READING_PERMISSIONS:
            words = _("“%s” is more than reading.")
            remedy = _("Leave it out, or make a token that is not for reading only.")
            raise InvalidInput(words % one, remedy=remedy, field="permissions")
        if not everywhere and one not in NODE_PERMISSIONS:
            words = _("“%s” belongs to no node: a token that is limited to some nodes cannot have it.")
            raise InvalidInput(words % one, field="permissions")
    on_nodes = [one for one in given if one in NODE_PERMISSIONS]
    if on_nodes and VIEW not in on_nodes:
        words = _("“%s” is of no use to a token that cannot see nodes.")
        raise InvalidInput(words % on_nodes[0], remedy=_("Add “%s”.") % VIEW, field="permissions")
    return given


def _check_selector(user: User, labels: Mapping[str, str]) -> None:
    """A key that a token depends on is trusted from then on: who may not grant takes one that is already.
    Otherwise anybody could keep the labels of others from being changed, by a token of their own."""
    try:
        check_selector(labels)
    except ValidationError as error:
        raise InvalidInput(error.messages[0], field="labels") from None
    hold_labels()
    free = sorted(set(labels) - trusted_keys())
    if free and not has_for_all(user, GRANT):
        raise InvalidInput(
            _("No permission depends on the label “%s” yet: whoever may change nodes can set it.") % free[0],
            remedy=_("Name the nodes, or ask somebody with the permission “%s” to make the token.") % GRANT,
            field="labels",
        )


def _checked_networks(networks: Iterable[str]) -> list[str]:
    found: list[str] = []
    for text in networks:
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError:
            raise InvalidInput(
                _("“%s” is no network.") % text[:64],
                remedy=_("Write it like 192.0.2.0/24, 2001:db8::/32 or 192.0.2.7, without bits of a host."),
                field="networks",
            ) from None
    if len(found) > MOST_NETWORKS:
        raise InvalidInput(_("At most %d networks.") % MOST_NETWORKS, field="networks")
    return list(dict.fromkeys(found))


def _of(token: ApiToken) -> Target:
    return Target("token", str(token.pk), token.name)


def _told(token: ApiToken) -> dict[str, Any]:
    return {
        "user": token.user.get_username(),
        "permissions": token.permissions,
        "read_only": token.read_only,
        "scope": token.scope,
        "labels": token.selector,
        "nodes": token.node_uuids,
        "networks": token.networks,
        "with_factor": token.with_factor,
        "expires_at": token.expires_at.isoformat(),
    }
