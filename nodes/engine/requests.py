"""Calls of users turned into operations: the same checks for API, pages and admin.

Each checks the permission, the input and what the database knows, and then submits; none reaches a host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from nodes import access, second_factor
from nodes.engine import jump_hosts
from nodes.engine.migration_address import record_forced, with_checked_address
from nodes.engine.service import (
    delete_node,
    disable_node,
    enable_node,
    reboot_node,
    retry_planned,
    shutdown_node,
)
from nodes.engine.submit import asking_user, submit
from nodes.errors import InvalidInput, NodeExists
from nodes.events import Actor, NodeChanged, publish, record
from nodes.hosts.uri import NodeUri
from nodes.models import Node, NodeType, Operation, User
from nodes.models.operation import IdempotencyKey
from nodes.models.sealed import SecretFor
from nodes.operations.base import removed
from nodes.operations.connection_rules import (
    check_fingerprint,
    credential_missing,
    fingerprint_missing,
    invalid,
    refuse_bad_labels,
    refuse_uuid,
)
from nodes.permissions import ADD, CHANGE, VIEW, require
from nodes.trusted_labels import hold_labels, require_label_change

__all__ = [
    "EDITABLE",
    "add_node",
    "delete_node",
    "disable_node",
    "enable_node",
    "reboot_node",
    "refresh_node",
    "retry_planned",
    "shutdown_node",
    "update_connection",
    "update_node",
]

CredentialInput = Mapping[str, Any]
EDITABLE = {"name": "name", "type": "node_type", "labels": "labels", "notes": "notes"}
EDITABLE["migration_address"] = "migration_address"
EDITABLE["migration_address_forced"] = "migration_address_forced"


def add_node(
    actor: Actor,
    *,
    name: str,
    uri: str,
    node_type: str = NodeType.COMPUTE.value,
    labels: Mapping[str, str] | None = None,
    fingerprint: str = "",
    key_type: str = "",
    credential: CredentialInput | None = None,
    jump_host: str = "",
    request_id: str = "",
    idempotency: IdempotencyKey | None = None,
) -> Operation:
    """Ask for a new node, reached through ``jump_host`` where one is named. ``key_type`` is that of the key
    whose ``fingerprint`` it is, "" where not known.

    Raises PermissionDenied (TrustedLabel for a label that permissions depend on), InvalidUri, InvalidInput,
    NodeExists, NodeBusy, UnknownJumpHost, and HostKeyRequired where an SSH address comes without the
    fingerprint that somebody has compared: before any contact.
    """
    user = asking_user(actor)
    require(user, ADD)
    login_uri, fields, secret = _login(uri, fingerprint, credential, required=True)
    params = {"uri": login_uri.canonical(), "type": node_type, "labels": dict(labels or {}), **fields}
    params["key_type"] = key_type
    params |= _jump_host(user, login_uri, jump_host)
    if credential is not None:
        second_factor.expect_fresh(actor, second_factor.CREDENTIALS, about="add-node")
    with transaction.atomic():
        if credential is not None:
            second_factor.require_fresh(actor, second_factor.CREDENTIALS, about="add-node")
        return submit(
            "add-node",
            actor=actor,
            node_name=name,
            params=params,
            secret=secret,
            request_id=request_id,
            idempotency=idempotency,
        )


def refresh_node(
    actor: Actor, node: Node, *, request_id: str = "", idempotency: IdempotencyKey | None = None
) -> Operation:
    """Ask for a new inventory; one that is under way already is the answer to all who ask."""
    require(asking_user(actor), VIEW, node)
    return submit("refresh-node", actor=actor, node=node, request_id=request_id, idempotency=idempotency)


def update_node(actor: Actor, node: Node, changes: Mapping[str, Any]) -> Node:
    """Change what is only ours to know: name, type, labels, notes, migration address.

    A migration address that the node's inventory does not show is taken with ``migration_address_forced``
    alone, for which the permission to add nodes is needed. Raises InvalidInput with the field,
    PermissionDenied, TrustedLabel for a label that permissions depend on, NodeExists for a taken name.
    """
    user = asking_user(actor)
    require(user, CHANGE, node)
    changes = with_checked_address(user, node, changes)
    fields = {EDITABLE[name]: value for name, value in changes.items() if name in EDITABLE}
    if "labels" in fields:
        refuse_bad_labels(fields["labels"])
    try:
        with transaction.atomic():
            if "labels" in fields:
                # Against the labels that are stored, which may have changed since the node was read.
                hold_labels()
                node.labels = _stored_labels(node)
                require_label_change(user, node.labels, fields["labels"])
            _save_changes(actor, node, fields)
    except IntegrityError:
        raise NodeExists(_("The name “%s” is taken.") % fields.get("name"), field="name") from None
    return node


def _stored_labels(node: Node) -> dict[str, str]:
    stored = Node.objects.select_for_update().filter(pk=node.pk).values_list("labels", flat=True).first()
    if stored is None:
        raise removed()
    return dict(stored)


def _save_changes(actor: Actor, node: Node, fields: Mapping[str, Any]) -> None:
    """Write the columns that differ, and the event that says so. Raises InvalidInput, IntegrityError."""
    before = {column: getattr(node, column) for column in fields}
    changed = {column: value for column, value in fields.items() if before[column] != value}
    if not changed:
        return
    if "name" in changed:
        refuse_uuid(changed["name"])
    for column, value in changed.items():
        setattr(node, column, value)
    try:
        node.clean_fields(exclude=[f.name for f in Node._meta.concrete_fields if f.name not in changed])
    except ValidationError as error:
        raise invalid(error, {column: name for name, column in EDITABLE.items()}) from None
    node.save(update_fields=[*changed, "updated_at"])
    details = {name: {"before": before[name], "after": changed[name]} for name in changed}
    text = _("%(name)s: changed %(what)s") % {"name": node.name, "what": ", ".join(changed)}
    record("node_updated", text, node=node, actor=actor, data=details)
    record_forced(node, actor, changed)
    publish(NodeChanged(str(node.uuid), node.name))


def expect_factor(actor: Actor, node: Node) -> None:
    """Verify the second factor that a change of the node's connection or BMC needs, before a transaction is
    begun: a wrong one stays on record. Raises PermissionDenied, SecondFactorRequired, RateLimited."""
    require(asking_user(actor), CHANGE, node)
    second_factor.expect_fresh(actor, second_factor.CREDENTIALS, about=about_update(node))


def about_update(node: Node) -> str:
    """What a fresh second factor for a call of update-node counts for."""
    return second_factor.of_call("update-node", node.uuid)


def update_connection(
    actor: Actor,
    node: Node,
    *,
    uri: str = "",
    fingerprint: str = "",
    key_type: str = "",
    credential: CredentialInput | None = None,
    jump_host: str | None = None,
    factor_used: bool = False,
    request_id: str = "",
    idempotency: IdempotencyKey | None = None,
) -> Operation:
    """Ask for another address, credential, host key or jump host ("" for none), to be checked before they
    replace the old ones.

    Another jump host alone asks for no credential: whatever lies in between, the secret goes to the host that
    proves the pinned key. Each of them asks for a second factor; ``factor_used``: the same call has used it
    up, in this transaction, for the node's BMC.

    Raises as :func:`nodes.operations.connection_rules.check_update`, SecondFactorRequired, UnknownJumpHost
    and NodeBusy.
    """
    require(asking_user(actor), CHANGE, node)
    current = access.read_uri(node.uri)
    wanted = access.read_uri(uri) if uri else current
    moved = wanted.transport == "ssh" and (wanted.host, wanted.port) != (current.host, current.port)
    if moved and not fingerprint:
        raise fingerprint_missing(wanted)
    if uri and not wanted.user and wanted.transport == "ssh" and not (credential or {}).get("user"):
        wanted = access.with_user(wanted, current.user)
    elif not uri and credential and credential.get("user"):
        # Only the credential was named: its user replaces the one in the stored address.
        bare = NodeUri(current.transport, current.host, current.port, "", current.path)
        wanted = access.with_user(bare, credential["user"])
    login_uri, fields, secret = _login(
        wanted.canonical(),
        fingerprint or access.confirmed_fingerprint(node),
        credential,
        required=not node.uri.startswith("qemu+ssh"),
    )
    if not fingerprint:
        fields["fingerprint"] = ""
    way = _jump_host(asking_user(actor), login_uri, jump_host) if jump_host is not None else {}
    if login_uri.transport != "ssh":
        way = {"jump_host": None}
    if not factor_used:
        expect_factor(actor, node)
    with transaction.atomic():
        if not factor_used:
            second_factor.require_fresh(actor, second_factor.CREDENTIALS, about=about_update(node))
        return submit(
            "update-node",
            actor=actor,
            node=node,
            params={"uri": login_uri.canonical(), "key_type": key_type, **fields, **way},
            secret=secret,
            request_id=request_id,
            idempotency=idempotency,
        )


def _login(
    uri: str, fingerprint: str, credential: CredentialInput | None, *, required: bool
) -> tuple[NodeUri, dict[str, Any], SecretFor | None]:
    """The checked address, the operation's parameters that are no secret, and the secret for that address."""
    parsed = access.read_uri(uri)
    if parsed.transport != "ssh":
        if credential:
            raise InvalidInput(
                _("An address without SSH takes no credential."),
                field="credential",
                remedy=_("Leave it out."),
            )
        return parsed, {}, None
    check_fingerprint(parsed, fingerprint)
    if credential is None:
        if required:
            raise credential_missing()
        return parsed, {"fingerprint": fingerprint}, None
    kind = credential["kind"]
    secret = {
        name: credential[name]
        for name in ("private_key", "passphrase", "password", "sudo_password")
        if credential.get(name)
    }
    fields = {
        "fingerprint": fingerprint,
        "credential_kind": kind,
        "has_secret": bool(secret),
        "has_sudo_password": "sudo_password" in secret,
        "forget_sudo_password": credential.get("sudo_password") == "",
        "install_key": bool(credential.get("install_key")),
    }
    uri_of_login = access.with_user(parsed, credential.get("user") or "")
    kept = SecretFor(access.binding_of(uri_of_login, fingerprint), secret) if secret else None
    return uri_of_login, fields, kept


def _jump_host(user: User, uri: NodeUri, name: str) -> dict[str, Any]:
    """The parameter of an operation that names the jump host. Raises InvalidInput, UnknownJumpHost."""
    if name and uri.transport != "ssh":
        raise InvalidInput(
            _("An address without SSH takes no jump host."), field="jump_host", remedy=_("Leave it out.")
        )
    row = jump_hosts.chosen(user, name)
    return {"jump_host": row.pk if row is not None else None}
