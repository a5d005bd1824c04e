"""The record of what happened, and the news of it to whoever is looking.

``record`` writes the audit row in the caller's transaction: what is rolled back was not done, and leaves
no event. News goes out after the commit only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from django.db import transaction
from django.utils.functional import Promise

from nodes.models import Event, Node, Operation, User
from nodes.models.event import Severity, Via

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GivenFactor:
    """A second factor as it came with a request: a code of an authenticator app or a recovery code, or a
    passkey's answer (JSON, WebAuthn's AuthenticationResponseJSON). Verified by nodes/second_factor.py."""

    code: str = field(default="", repr=False)
    passkey: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.code or self.passkey)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asked, from where and how: a user, the address that the request came from, the way in, and the name
    of the API token, where there was one. The system itself has neither user nor address.

    ``session_key`` is of the login that the request came with, "" with a token; ``factor`` is the second
    factor that came with it.
    """

    user: User | None = None
    source_ip: str | None = None
    via: str = Via.SYSTEM
    token_name: str = ""
    session_key: str = field(default="", repr=False)
    factor: GivenFactor = GivenFactor()

    @property
    def name(self) -> str:
        return self.user.get_username() if self.user is not None else ""


SYSTEM = Actor()


@dataclass(frozen=True, slots=True)
class Target:
    """What was changed, where that is no node: a user, a role, a token …"""

    type: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class NodeChanged:
    """A node's row has changed; who shows it reads it anew."""

    node_uuid: str
    node_name: str


@dataclass(frozen=True, slots=True)
class OperationChanged:
    """An operation has moved on."""

    operation_id: str
    node_uuid: str | None
    status: str


Payload = NodeChanged | OperationChanged
Listener = Callable[[str, Mapping[str, Any]], None]
_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Have ``listener(kind, payload)`` called after each commit that published; returns how to stop.

    Called in the thread that committed: a listener hands on and returns at once.
    """
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def publish(payload: Payload) -> None:
    """Send the payload to the listeners once the current transaction has committed."""
    kind = type(payload).__name__
    data = asdict(payload)

    def send() -> None:
        for listener in tuple(_listeners):
            listener(kind, data)

    transaction.on_commit(send, robust=True)


def record(
    kind: str,
    message: str | Promise,
    *,
    node: Node | None = None,
    node_name: str = "",
    actor: Actor = SYSTEM,
    operation: Operation | None = None,
    target: Target | None = None,
    severity: str = Severity.INFO,
    data: Mapping[str, Any] | None = None,
) -> Event:
    """Write one event. ``kind`` is a stable word such as ``node_added``; ``data`` must hold no secret."""
    event = Event.objects.create(
        kind=kind,
        message=str(message),
        node=node,
        node_name=node.name if node is not None else node_name,
        user=actor.user,
        user_name=actor.name,
        source_ip=actor.source_ip,
        via=actor.via,
        token_name=actor.token_name,
        target_type=target.type if target is not None else "",
        target_id=target.id if target is not None else "",
        target_name=target.name if target is not None else "",
        operation=operation,
        severity=severity,
        data=dict(data or {}),
    )
    log.info("event", kind=kind, node=event.node_name, user=event.user_name, detail=message)
    return event
