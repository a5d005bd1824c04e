"""The record of what happened, and the news of it to whoever is looking.

``record`` writes the event in the caller's transaction: what is rolled back was not done, and leaves
no event. News goes out after the commit only.

Whoever acts is given to ``record``, or is the one that :func:`acting` has named for this thread or task: the
middleware does so for a request, the engine for an operation, manage.py for a command.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from django.db import transaction
from django.utils.functional import Promise

from nodes.errors import shown
from nodes.models import Event, Node, Operation, User
from nodes.models.event import Category, Severity, Via

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
    factor that came with it. ``operation`` is what is carried out for them.
    """

    user: User | None = None
    source_ip: str | None = None
    via: str = Via.SYSTEM
    token_name: str = ""
    session_key: str = field(default="", repr=False)
    factor: GivenFactor = GivenFactor()
    operation: Operation | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.user.get_username() if self.user is not None else ""


SYSTEM = Actor()
_acting: ContextVar[Actor | Callable[[], Actor] | None] = ContextVar("nodeadmin_actor", default=None)
_told: ContextVar[bool] = ContextVar("nodeadmin_told", default=False)
_of_process = SYSTEM


@contextmanager
def acting(actor: Actor | Callable[[], Actor]) -> Iterator[None]:
    """Name who acts in this block, in this thread or task and in those that get its context (asgiref's
    sync_to_async does); with a callable, who it is when it is asked for."""
    before = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(before)


@contextmanager
def told() -> Iterator[None]:
    """What is changed in this block is recorded by its own code: the audit log's watch writes nothing
    then."""
    before = _told.set(True)
    try:
        yield
    finally:
        _told.reset(before)


def is_told() -> bool:
    return _told.get()


def set_process_actor(actor: Actor) -> None:
    """Name who acts in this process where nobody else is named: the command line."""
    global _of_process
    _of_process = actor


def current_actor() -> Actor:
    """Who acts here and now; the system itself where nobody was named."""
    named = _acting.get()
    if named is None:
        return _of_process
    return named() if callable(named) else named


@dataclass(frozen=True, slots=True)
class Target:
    """What was changed, where that is no node: a user, a role, a token …"""

    type: str
    id: str
    name: str


def target_of(user: User) -> Target:
    """The target of an event about a user's account."""
    return Target("user", str(user.pk), user.get_username())


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


@dataclass(frozen=True, slots=True)
class LoginsEnded:
    """Logins or tokens of a user have ended; open sockets look at once whether theirs is among them."""

    user_id: int


Payload = NodeChanged | OperationChanged | LoginsEnded
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
    node_ref: str = "",
    actor: Actor | None = None,
    operation: Operation | None = None,
    target: Target | None = None,
    severity: str = Severity.INFO,
    data: Mapping[str, Any] | None = None,
    category: str = "",
) -> Event:
    """Write one event. ``kind`` is a stable word such as ``node_added``; ``data`` must hold no secret.

    Without ``actor`` it is :func:`current_actor`, without ``operation`` what is carried out for them. It is
    an entry of the audit log where anybody but the system itself is behind it, or ``category`` says so.
    ``node_name`` and ``node_ref`` (its UUID) are for a node that is gone or going.
    """
    actor = current_actor() if actor is None else actor
    operation = operation or actor.operation
    target = target or Target("", "", "")
    details = dict(data or {})
    if actor.via == Via.COMMAND:
        details |= operating_system_user()
    event = Event(
        kind=kind,
        message=shown(_clean(str(message))),
        category=category or category_of(actor),
        node=node,
        node_ref=str(node.uuid) if node is not None else node_ref,
        node_name=node.name if node is not None else node_name,
        user=actor.user,
        user_ref=str(actor.user.pk) if actor.user is not None else "",
        user_name=actor.name,
        source_ip=plain_address(actor.source_ip),
        via=actor.via,
        token_name=_clean(actor.token_name)[:80],
        target_type=target.type[:32],
        target_id=_clean(target.id)[:64],
        target_name=_clean(target.name)[:255],
        operation=operation,
        operation_ref=str(operation.pk) if operation is not None else "",
        severity=severity,
        data=_clean_data(details),
    )
    if event.category == Category.AUDIT:
        event.authenticate()
    event.save(force_insert=True)
    if event.category == Category.AUDIT:
        for listener in tuple(_entry_listeners):
            listener()
    log.info("event", kind=kind, node=event.node_name, user=event.user_name, detail=message)
    return event


_entry_listeners: list[Callable[[], None]] = []


def on_entry(listener: Callable[[], None]) -> None:
    """Have ``listener`` called for each entry of the audit log, in the transaction that writes it."""
    if listener not in _entry_listeners:
        _entry_listeners.append(listener)


def category_of(actor: Actor) -> str:
    """Of an event of which nothing else is said."""
    return Category.HOST if actor == SYSTEM else Category.AUDIT


def operating_system_user() -> dict[str, str]:
    """Who runs this process, and who called sudo for it."""
    try:
        names = {"os_user": getpass.getuser()}
    except (KeyError, OSError):  # an id that has no name
        names = {"os_user": str(os.getuid())}
    sudo = os.environ.get("SUDO_USER", "")
    return names | ({"sudo_user": sudo[:64]} if sudo else {})


def plain_address(text: str | None) -> str | None:
    """An IP address in its one form, as the database gives it back; None for what is none."""
    try:
        address = ipaddress.ip_address((text or "").partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


def _clean(text: str) -> str:
    """Without what no database takes: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _clean_data(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_clean(str(key)): _clean_data(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean_data(inner) for inner in value]
    if isinstance(value, str | Promise):
        return _clean(str(value))
    return value
