"""Calls of users about jump hosts: added, changed, removed. Each is tried before it is kept.

Adding and changing reach out to the jump host, for ``NODEADMIN_HOST_TIMEOUT_S`` at most and outside of any
transaction. A stored secret is tried at the address, user and host key that it was given for, and nowhere
else: whoever changes one of these gives the credential again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _

from nodes import access, events, second_factor
from nodes.engine.submit import asking_user
from nodes.engine.waits import waiting
from nodes.errors import (
    HostKeyRequired,
    InvalidInput,
    InvalidUri,
    JumpHostExists,
    JumpHostInUse,
    PermissionDenied,
    UnknownJumpHost,
)
from nodes.events import Actor, Target, record
from nodes.hosts.target import HostKey
from nodes.hosts.uri import NodeUri
from nodes.models import JumpHost, User
from nodes.models.credential import CredentialKind
from nodes.models.jump_host import LONGEST_CHAIN
from nodes.models.node import name_validator
from nodes.models.sealed import SecretFor
from nodes.permissions import ADD, MANAGE_SSH, has_for_all, require

UNCHANGED: Any = object()
"""In place of a jump host in front: leave it as it is."""
SECRETS = ("private_key", "passphrase", "password")
ADDED = second_factor.of_call("add-jump-host")
"""What a fresh second factor for a new jump host counts for."""


def all_rows() -> QuerySet[JumpHost]:
    """All jump hosts, as they are shown."""
    rows = JumpHost.objects.select_related("jump_host", "own_key")
    return rows.defer("secret", "jump_host__secret", "own_key__secret").order_by("name")


def require_management(user: User) -> None:
    """Raise PermissionDenied for who may not manage jump hosts."""
    require(user, MANAGE_SSH)


def require_sight(user: User) -> None:
    """Raise PermissionDenied for who may neither manage jump hosts nor add nodes."""
    if not has_for_all(user, ADD):
        require(user, MANAGE_SSH)


def visible_to(user: User) -> QuerySet[JumpHost]:
    """The jump hosts, for who may manage them or add nodes; none for others."""
    seen = has_for_all(user, MANAGE_SSH) or has_for_all(user, ADD)
    return all_rows() if seen else JumpHost.objects.none()


def choices() -> list[str]:
    """The names of all jump hosts, for forms in which one is chosen."""
    return list(JumpHost.objects.order_by("name").values_list("name", flat=True))


def counted(rows: QuerySet[JumpHost]) -> QuerySet[JumpHost]:
    """The same with ``node_count`` and ``behind_count``: what is reached through each directly."""
    return rows.annotate(
        node_count=Count("nodes", distinct=True), behind_count=Count("behind", distinct=True)
    )


def find(user: User, name: str) -> JumpHost:
    """The jump host of that name, for who may manage them or add nodes. Raises PermissionDenied,
    UnknownJumpHost."""
    require_sight(user)
    return named(name)


def named(name: str) -> JumpHost:
    """The jump host of that name, with those in front of it. Raises UnknownJumpHost."""
    row = JumpHost.objects.select_related("jump_host__jump_host").filter(name=name).first()
    if row is None:
        raise UnknownJumpHost(_("There is no jump host “%s”.") % name, field="jump_host")
    return row


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a jump host is to be."""

    name: str
    uri: NodeUri
    fingerprint: str
    kind: str
    jump_host: JumpHost | None


def add(
    actor: Actor,
    *,
    name: str,
    host: str,
    port: int = 22,
    fingerprint: str = "",
    key_type: str = "",
    credential: Mapping[str, Any],
    jump_host: JumpHost | None = None,
) -> JumpHost:
    """Add a jump host that was reached, whose key is the confirmed one, and that takes the credential.

    Raises PermissionDenied, SecondFactorRequired, InvalidInput, JumpHostExists, HostKeyRequired before any
    contact; HostError.
    """
    require(asking_user(actor), MANAGE_SSH)
    second_factor.expect_fresh(actor, second_factor.CREDENTIALS, about=ADDED)
    _check_name(name)
    _check_chain(None, jump_host)
    wanted = _Wanted(
        name, _address(host, port, credential.get("user") or ""), fingerprint, credential["kind"], jump_host
    )
    _check_fingerprint(fingerprint)
    row = JumpHost(name=name, credential_kind=wanted.kind)
    _refuse_taken(name)
    _fill(row, wanted, _secret(credential, wanted.uri, fingerprint))
    _try(actor, row, fingerprint, key_type)
    try:
        with transaction.atomic():
            second_factor.require_fresh(actor, second_factor.CREDENTIALS, about=ADDED)
            _lock_chain(jump_host)
            with events.told():  # below
                row.save(force_insert=True)
            text = _("Jump host %s added") % name
            record("jump_host_added", text, actor=actor, target=_target(row), data={"after": told(row)})
    except IntegrityError as error:
        raise _lost(name) from error
    return row


def update(
    actor: Actor,
    row: JumpHost,
    *,
    name: str = "",
    host: str = "",
    port: int | None = None,
    user: str = "",
    fingerprint: str = "",
    key_type: str = "",
    credential: Mapping[str, Any] | None = None,
    jump_host: Any = UNCHANGED,
) -> JumpHost:
    """Change a jump host; what is left out stays. What decides how it is entered is tried first, and only
    then replaces what was in force; the connections that stand are then closed, and made anew.

    Raises as :func:`add`; InvalidInput where a stored secret would go elsewhere than it was given for.
    """
    require(asking_user(actor), MANAGE_SSH)
    second_factor.expect_fresh(actor, second_factor.CREDENTIALS, about=about_update(row))
    before = told(row)
    if name and name != row.name:
        _check_name(name)
        _refuse_taken(name)
    front = row.jump_host if jump_host is UNCHANGED else jump_host
    _check_chain(row, front)
    given = (credential or {}).get("user") or user or row.user
    uri = _address(host or row.host, port or row.port, given)
    moved = (uri.host, uri.port) != (row.host, row.port)
    if moved and not fingerprint:
        raise _fingerprint_missing(uri.host)
    if fingerprint:
        _check_fingerprint(fingerprint)
    pinned = access.confirmed_fingerprint(row)
    confirmed = fingerprint or pinned
    rekeyed = confirmed != pinned
    kept_secret = credential is None and row.credential_kind != CredentialKind.NODEADMIN_KEY
    if kept_secret and (moved or rekeyed or uri.user != row.user):
        raise InvalidInput(
            _("The stored credential is not sent to another address, user or host key."),
            remedy=_("Give the credential again, together with the change."),
            field="credential",
        )
    draft = JumpHost.objects.get(pk=row.pk)
    secret: Any = draft.secret if credential is None else _secret(credential, uri, confirmed)
    kind = credential["kind"] if credential is not None else row.credential_kind
    if kind != draft.credential_kind or moved:
        draft.own_key = None
    _fill(draft, _Wanted(name or row.name, uri, fingerprint, kind, front), secret)
    front_before = before["jump_host"]
    entrance = moved or rekeyed or credential is not None or uri.user != row.user
    if entrance or (front.name if front is not None else None) != front_before:
        _check_fingerprint(confirmed)
        _try(actor, draft, confirmed, key_type)
    try:
        with transaction.atomic():
            second_factor.require_fresh(actor, second_factor.CREDENTIALS, about=about_update(row))
            found = JumpHost.objects.select_for_update().filter(pk=row.pk).first()
            if found is None:
                raise UnknownJumpHost(_("The jump host has been removed."), field="jump_host")
            if found.updated_at != draft.updated_at:
                raise JumpHostInUse(
                    _("Somebody else has changed the jump host meanwhile."), remedy=_("Try again.")
                )
            _lock_chain(front)
            _check_chain(found, front)
            with events.told():  # below
                draft.save()
            after = told(draft)
            changed = {name: value for name, value in after.items() if value != before[name]}
            if credential is not None:
                changed["credential"] = "replaced"
            if changed:
                text = _("Jump host %(name)s: changed %(what)s")
                record(
                    "jump_host_changed",
                    text % {"name": draft.name, "what": ", ".join(changed)},
                    actor=actor,
                    target=_target(draft),
                    data={"before": {name: before.get(name) for name in changed}, "after": changed},
                )
    except IntegrityError as error:
        raise _lost(name) from error
    access.drop_jump_host(draft)
    return draft


def remove(actor: Actor, row: JumpHost) -> None:
    """Forget a jump host. Raises PermissionDenied, SecondFactorRequired, JumpHostInUse while something is
    reached through it."""
    require(asking_user(actor), MANAGE_SSH)
    about = about_removal(row)
    second_factor.expect_fresh(actor, second_factor.CREDENTIALS, about=about)
    with transaction.atomic():
        second_factor.require_fresh(actor, second_factor.CREDENTIALS, about=about)
        found = JumpHost.objects.select_for_update().filter(pk=row.pk).first()
        if found is None:
            raise UnknownJumpHost(_("The jump host has been removed."), field="jump_host")
        nodes, behind = found.nodes.count(), found.behind.count()
        if nodes or behind:
            raise JumpHostInUse(
                _("%(name)s is in use: nodes behind it: %(nodes)d, jump hosts behind it: %(jump_hosts)d.")
                % {"name": found.name, "nodes": nodes, "jump_hosts": behind},
                remedy=_("Change how they are reached first."),
                field="jump_host",
                extra={"nodes": nodes, "jump_hosts": behind},
            )
        text = _("Jump host %s removed") % found.name
        record("jump_host_removed", text, actor=actor, target=_target(found), data={"before": told(found)})
        with events.told():
            found.delete()
    access.drop_jump_host(row)


def about_update(row: JumpHost) -> str:
    """What a fresh second factor for a change of this one counts for."""
    return second_factor.of_call("update-jump-host", row.pk)


def about_removal(row: JumpHost) -> str:
    """What one for its removal counts for."""
    return second_factor.of_call("remove-jump-host", row.pk)


def told(row: JumpHost) -> dict[str, Any]:
    """What the record says of a jump host: everything but its secret."""
    return {
        "name": row.name,
        "host": row.host,
        "port": row.port,
        "user": row.user,
        "host_key_fingerprint": row.host_key_fingerprint,
        "credential_kind": row.credential_kind,
        "jump_host": row.jump_host.name if row.jump_host is not None else None,
    }


def _target(row: JumpHost) -> Target:
    return Target("jump_host", str(row.pk), row.name)


def _check_name(name: str) -> None:
    try:
        name_validator(name)
    except ValidationError as error:
        raise InvalidInput(str(error.messages[0]), field="name") from None


def _lost(name: str) -> JumpHostInUse:
    """The error where somebody else was quicker. Raises JumpHostExists where they have taken the name."""
    _refuse_taken(name)
    return JumpHostInUse(
        _("The key pair or the jump host that it was reached by has been removed meanwhile."),
        remedy=_("Try again."),
    )


def _refuse_taken(name: str) -> None:
    if JumpHost.objects.filter(name=name).exists():
        raise JumpHostExists(
            _("The name “%s” is taken.") % name, remedy=_("Choose another name."), field="name"
        )


def checked_address(host: str, port: int) -> NodeUri:
    """The address of a jump host as somebody types it. Raises InvalidInput."""
    return _address(host, port, "")


def _address(host: str, port: int, user: str) -> NodeUri:
    """Checked by the rules of a node's address. Raises InvalidInput with the field."""
    bare = host.strip().strip("[]")
    written = f"[{bare}]" if ":" in bare else bare
    if not 1 <= port <= 65535:
        raise InvalidInput(_("A port is a number from 1 to 65535."), field="port")
    if not bare or set(bare) & set("@/?#[]"):
        raise InvalidInput(_("The host is not a valid name or address."), field="host")
    try:
        return access.read_uri(f"qemu+ssh://{user or access.DEFAULT_USER}@{written}:{port}/system")
    except InvalidUri as error:
        raise InvalidInput(error.message, field="user" if "user" in error.message else "host") from None


def _check_fingerprint(fingerprint: str) -> None:
    if not fingerprint:
        raise _fingerprint_missing("")
    if not HostKey.is_fingerprint(fingerprint):
        raise InvalidInput(
            _("A fingerprint is “SHA256:” and 43 characters, as scan-host-key and ssh-keygen -l print it."),
            field="host_key_fingerprint",
        )


def _fingerprint_missing(host: str) -> HostKeyRequired:
    return HostKeyRequired(
        _("The host key of %s has not been confirmed.") % host
        if host
        else _("The host key has not been confirmed."),
        remedy=_(
            "Scan the host's key, compare its fingerprint on the host, and send it as host_key_fingerprint."
        ),
        field="host_key_fingerprint",
    )


def _check_chain(row: JumpHost | None, front: JumpHost | None) -> None:
    """Raise InvalidInput for a cycle, and for a chain that is too long with what is behind ``row``."""
    if front is None:
        return
    chain = front.chain()
    if row is not None and any(link.pk == row.pk for link in chain):
        raise InvalidInput(
            _("A jump host cannot be reached through itself."),
            remedy=_("Choose another jump host in front of it."),
            field="jump_host",
        )
    if len(chain) + 1 + (_depth_behind(row) if row is not None else 0) > LONGEST_CHAIN:
        raise InvalidInput(
            _("A chain has %d jump hosts at most.") % LONGEST_CHAIN,
            remedy=_("Choose a jump host that is nearer."),
            field="jump_host",
        )


def _depth_behind(row: JumpHost) -> int:
    """How many jump hosts in a row are behind this one."""
    if JumpHost.objects.filter(jump_host__jump_host=row.pk).exists():
        return 2
    return 1 if JumpHost.objects.filter(jump_host=row.pk).exists() else 0


def _lock_chain(front: JumpHost | None) -> None:
    """Two that are put behind one another at once would make a cycle."""
    if front is not None:
        ids = [link.pk for link in front.chain()]
        if JumpHost.objects.select_for_update().filter(Q(pk__in=ids)).count() < len(ids):
            raise UnknownJumpHost(_("The jump host has been removed."), field="jump_host")
        front.refresh_from_db(fields=["jump_host"])


def _secret(credential: Mapping[str, Any], uri: NodeUri, fingerprint: str) -> SecretFor | None:
    """What is stored, for the address and the host key that it was given with."""
    if credential.get("install_key"):
        raise InvalidInput(
            _("nodeadmin installs no key on a jump host."),
            remedy=_("Add the line that the settings show to authorized_keys on the jump host."),
            field="credential.install_key",
        )
    found = {name: credential[name] for name in SECRETS if credential.get(name)}
    return SecretFor(access.binding_of(uri, fingerprint), found) if found else None


def _fill(row: JumpHost, wanted: _Wanted, secret: Any) -> None:
    row.name = wanted.name
    row.host, row.port, row.user = wanted.uri.host, wanted.uri.port, wanted.uri.user
    row.credential_kind = wanted.kind
    row.secret = secret
    row.jump_host = wanted.jump_host


def _try(actor: Actor, row: JumpHost, fingerprint: str, key_type: str) -> None:
    """Reach the jump host of the unsaved ``row``, pin the key that was confirmed, and log in. Raises
    HostError, RateLimited where too many calls wait for hosts."""
    with waiting(actor):
        pinned, own_key = access.try_jump_host(
            row, fingerprint, key_type, timeout_s=settings.NODEADMIN_HOST_TIMEOUT_S - 1.0
        )
    row.host_key, row.host_key_fingerprint = pinned.to_text(), pinned.fingerprint
    row.own_key = own_key


def chosen(user: User, name: str) -> JumpHost | None:
    """The jump host that a node is to be behind, by the name that a call gives; None for "".

    Who may add or change a node may choose among those there are. Raises UnknownJumpHost.
    """
    if not user.is_active:
        raise PermissionDenied
    return named(name) if name else None
