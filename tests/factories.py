"""Rows for tests: users, nodes, inventories built from recorded documents, operations."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from django.db import transaction
from django.utils import timezone
from guardian.shortcuts import assign_perm

from nodes import access
from nodes.hosts.target import HostKey
from nodes.inventory.build import build
from nodes.inventory.document import HostDocument
from nodes.models import (
    Bmc,
    Connection,
    Credential,
    Node,
    Operation,
    OperationStatus,
    OperationStep,
    Snapshot,
    StepStatus,
    User,
)
from nodes.models.sealed import BoundSecret, SecretFor
from nodes.operations.snapshots import Taken, store_snapshot
from tests.inventory.documents import host_document

PASSWORD = "correct horse battery"
NOBODYS_KEY = HostKey.from_blob(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"n" * 32)
"""A host key for rows that nobody connects to."""
_numbers = count(1)


def make_user(name: str = "", **fields: Any) -> User:
    return User.objects.create_user(name or f"user{next(_numbers)}", password=PASSWORD, **fields)


def grant(user: User, node: Node, *permissions: str) -> None:
    """Give ``permissions`` on one node alone."""
    for permission in permissions:
        assign_perm(permission, user, node)


def make_node(name: str = "", **fields: Any) -> Node:
    """An online node without an inventory, unless ``fields`` say otherwise."""
    now = timezone.now()
    values: dict[str, Any] = {
        "name": name or f"kvm-{next(_numbers):02d}",
        "uri": "qemu:///system",
        "connection": Connection.ONLINE,
        "connection_since": now,
        "last_seen_at": now,
    }
    return Node.objects.create(**values | fields)


def make_credential(node: Node, kind: str = "password", **secret: Any) -> Credential:
    """A stored login of the node, bound to its address and host key as they are now."""
    kept = SecretFor(access.binding_of_node(node), secret) if secret else None
    return Credential.objects.create(node=node, kind=kind, secret=kept)


def secret_of(node: Node) -> dict[str, Any]:
    """The stored secret, opened for the node as it is now."""
    found = Credential.objects.get(node=node).secret
    assert isinstance(found, BoundSecret)
    return found.open_for(access.binding_of_node(node))


def move_node(node: Node, uri: str) -> None:
    """Give the node another address, and its credential with it, as an update of the connection does."""
    secret, row = secret_of(node), Credential.objects.get(node=node)
    node.uri = uri
    node.save()
    row.secret = SecretFor(access.binding_of_node(node), secret)
    row.save()


def secret_given(operation: Operation) -> dict[str, Any]:
    """The secret that an operation carries, opened for the address that it was given with."""
    params, found = operation.params, operation.secret
    assert isinstance(found, BoundSecret)
    pinned = params["fingerprint"] or (operation.node.host_key_fingerprint if operation.node else "")
    return found.open_for(access.binding_of(access.read_uri(params["uri"]), pinned))


def set_bmc_password(bmc: Bmc, password: str) -> None:
    """Store the password for the BMC's address, user and certificate as they are now."""
    address = access.parse_bmc_url(bmc.url)
    binding = access.bmc_binding(address, bmc.user, bmc.certificate_fingerprint)
    bmc.secret = SecretFor(binding, {"password": password})
    bmc.save()


ANYWHERE = access.binding_of(access.read_uri("qemu+ssh://root@192.0.2.1/system"), "")
"""What a secret is for that a test needs for nothing but being there."""


def make_snapshot(
    node: Node, recorded: str | HostDocument = "two-socket", *, observed_at: datetime | None = None
) -> Snapshot:
    """The inventory of a recorded document, stored as a refresh stores it, and as if it were just taken."""
    document = host_document(recorded) if isinstance(recorded, str) else recorded
    moment = observed_at or timezone.now()
    document = replace(document, observed_at=moment.isoformat())
    with transaction.atomic():  # as its callers have one
        snapshot, _changes = store_snapshot(node, Taken(document, build(document), duration_s=0.8))
    return snapshot


def make_operation(
    node: Node | None = None,
    kind: str = "refresh-node",
    status: str = OperationStatus.SUCCEEDED,
    **fields: Any,
) -> Operation:
    """An operation without a runner: for pages that show it."""
    now = timezone.now()
    values: dict[str, Any] = {
        "kind": kind,
        "node": node,
        "node_name": node.name if node is not None else "",
        "subject": f"test:{next(_numbers)}",
        "status": status,
        "requested_by_name": "ada",
        "started_at": now - timedelta(seconds=4) if status != OperationStatus.QUEUED else None,
        "finished_at": now
        if status in (OperationStatus.SUCCEEDED, OperationStatus.FAILED, OperationStatus.CANCELLED)
        else None,
    }
    return Operation.objects.create(**values | fields)


def make_steps(operation: Operation, *steps: tuple[str, str, str]) -> list[OperationStep]:
    """Steps as (title, status, message)."""
    now = timezone.now()
    made = []
    for position, (title, status, message) in enumerate(steps):
        begun = status != StepStatus.PENDING
        ended = begun and status != StepStatus.RUNNING
        made.append(
            OperationStep.objects.create(
                operation=operation,
                position=position,
                code=f"step-{position}",
                title=title,
                status=status,
                message=message,
                started_at=now - timedelta(seconds=2) if begun else None,
                finished_at=now if ended else None,
            )
        )
    return made
