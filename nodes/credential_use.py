"""Openings of secrets: of a person, an event each; of nodeadmin itself, a count a node, kind and day.

Whoever acts for somebody says so with :func:`asked_by`; what is opened inside of it is that person's. One
request or operation leaves one event for a node and kind of secret, however many connections it needs.
Requests that repeat themselves, as those of a script that reads journals do, leave one in ten minutes; the
others are counted as nodeadmin's own. An operation leaves its event always.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import structlog
from django.db import DatabaseError, connection, transaction
from django.db.models import F, OuterRef, QuerySet, Subquery, Sum
from django.utils.translation import gettext as _

from nodes.events import Actor, Target, record
from nodes.models import Credential, CredentialUse, JumpHost, Node, Operation
from nodes.models.credential_use import SecretKind

log = structlog.get_logger(__name__)

FLUSH_S = 60.0
"""Counts are written at most this often, and when the process ends; one that is killed loses those since."""
REPEATED_S = 600.0
"""The same login that opens the same secret for the same purpose is told once in so long."""
_MOST_LATELY = 10_000
_CHUNK = 500


@dataclass(slots=True)
class Request:
    """What somebody has asked for, and of which secrets (kind and node, or jump host) the opening has been
    told."""

    actor: Callable[[], Actor]
    purpose: Callable[[], str]
    operation: Operation | None = None
    noted: set[tuple[str, int | None]] = field(default_factory=set)


_request: ContextVar[Request | None] = ContextVar("credential_use", default=None)


@contextmanager
def asked_by(request: Request | None) -> Iterator[None]:
    """Secrets that are opened inside are opened for this request."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def current() -> Request | None:
    """For whom this thread works, to be handed to another thread."""
    return _request.get()


def note(nodes: Collection[Node], kind: str, *, node_name: str = "") -> None:
    """A secret of each of the nodes was opened; none of them: of a host that is no node yet."""
    request = _request.get()
    actor = request.actor() if request is not None else None
    if request is None or actor is None or actor.user is None:
        _counts.add((node.pk for node in nodes), kind)
        return
    fresh = [node for node in nodes if (kind, node.pk) not in request.noted]
    if (nodes and not fresh) or (not nodes and (kind, None) in request.noted):
        return
    request.noted |= {(kind, node.pk) for node in fresh} or {(kind, None)}
    in_operation = request.operation is not None
    repeated = {node.pk for node in fresh if not in_operation and lately.has(request, actor, kind, node.pk)}
    _counts.add(repeated, kind)
    told = [node for node in fresh if node.pk not in repeated]
    if told or not nodes:
        _record(request, actor, told, kind)
    if told and not in_operation:
        # One that is rolled back tells nothing.
        transaction.on_commit(lambda: lately.add(request, actor, kind, [node.pk for node in told]))


def note_jump_host(row: JumpHost, nodes: Collection[Node]) -> None:
    """The credential of a jump host was opened, on the way to the nodes; none of them: to try the jump host
    itself, or for a host that is no node yet."""
    request = _request.get()
    actor = request.actor() if request is not None else None
    if request is None or actor is None or actor.user is None:
        _counts.add((node.pk for node in nodes), SecretKind.JUMP_HOST)
        return
    key = (str(SecretKind.JUMP_HOST), row.pk)
    if key in request.noted:
        return
    request.noted.add(key)
    in_operation = request.operation is not None
    # Without a node there is nothing to count it for: such an opening is told always.
    if nodes and not in_operation and lately.has(request, actor, *key):
        _counts.add((node.pk for node in nodes), SecretKind.JUMP_HOST)
        return
    purpose = request.purpose()
    record(
        "credential_opened",
        _("Credential of the jump host %(name)s opened for %(purpose)s.")
        % {"name": row.name, "purpose": purpose},
        actor=actor,
        operation=request.operation,
        target=Target("jump_host", str(row.pk or ""), row.name),
        data={"kind": row.credential_kind, "purpose": purpose},
    )
    if row.pk is not None and not in_operation:
        transaction.on_commit(lambda: lately.add(request, actor, key[0], [row.pk]))


def _record(request: Request, actor: Actor, nodes: list[Node], kind: str) -> None:
    operation, purpose = request.operation, request.purpose()
    one = nodes[0] if len(nodes) == 1 else None
    name = one.name if one else (operation.node_name if operation is not None else "")
    words = _("Credential of %(node)s opened for %(purpose)s.") % {"node": name, "purpose": purpose}
    if len(nodes) > 1:
        words = _("Credentials of %(count)d nodes opened for %(purpose)s.") % {
            "count": len(nodes),
            "purpose": purpose,
        }
    data: dict[str, object] = {"kind": kind, "purpose": purpose}
    if len(nodes) > 1:
        data["nodes"] = [node.name for node in nodes]
    record("credential_opened", words, node=one, node_name=name, actor=actor, operation=operation, data=data)


def with_uses_today(credentials: QuerySet[Credential]) -> QuerySet[Credential, Any]:
    """The rows with ``uses_today``: how often nodeadmin itself has opened secrets of their nodes today (UTC),
    as far as it is written; None for never."""
    rows = CredentialUse.objects.filter(node=OuterRef("node"), day=datetime.now(UTC).date())
    total = rows.order_by().values("node").annotate(total=Sum("count")).values("total")
    return credentials.annotate(uses_today=Subquery(total))


class _Lately:
    """Which openings have been told in the last :data:`REPEATED_S`, in this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._told: OrderedDict[tuple[object, ...], float] = OrderedDict()

    def has(self, request: Request, actor: Actor, kind: str, owner: int | None) -> bool:
        """``owner`` is the node or jump host whose secret it is, by its number."""
        at = self._told.get(self._key(request, actor, kind, owner))
        return at is not None and time.monotonic() - at < REPEATED_S

    def add(self, request: Request, actor: Actor, kind: str, owners: Collection[int]) -> None:
        with self._guard:
            for owner in owners:
                key = self._key(request, actor, kind, owner)
                self._told[key] = time.monotonic()
                self._told.move_to_end(key)
            while len(self._told) > _MOST_LATELY:
                self._told.popitem(last=False)

    def clear(self) -> None:
        with self._guard:
            self._told.clear()

    def _key(self, request: Request, actor: Actor, kind: str, owner: int | None) -> tuple[object, ...]:
        user = actor.user.pk if actor.user is not None else None
        login = (user, actor.source_ip, actor.via, actor.token_name, actor.session_key)
        return (*login, request.purpose(), kind, owner)


lately = _Lately()


class _Counts:
    """What this process has counted and not yet written."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: Counter[tuple[int, str, date]] = Counter()
        self._flushed_at = time.monotonic()

    def add(self, nodes: Iterable[int], kind: str) -> None:
        today = datetime.now(UTC).date()
        with self._guard:
            for node in nodes:
                self._waiting[node, kind, today] += 1
            due = time.monotonic() - self._flushed_at >= FLUSH_S
        # Not with somebody's transaction: where that is rolled back, the openings happened all the same.
        if due and not connection.in_atomic_block:
            self.flush()

    def flush(self) -> None:
        with self._guard:
            counted, self._waiting = self._waiting, Counter()
            self._flushed_at = time.monotonic()
        if not counted:
            return
        try:
            with transaction.atomic():
                _write(counted)
        except DatabaseError as error:
            log.warning("uses of credentials could not be counted yet", error=str(error))
            with self._guard:
                self._waiting.update(counted)


def _write(counted: Counter[tuple[int, str, date]]) -> None:
    """Add the counts to their rows, in few queries however many nodes there are."""
    keys = sorted(counted)
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        known = set(Node.objects.filter(pk__in={node for node, _k, _d in chunk}).values_list("pk", flat=True))
        chunk = [key for key in chunk if key[0] in known]
        CredentialUse.objects.bulk_create(
            [CredentialUse(node_id=node, kind=kind, day=day) for node, kind, day in chunk],
            ignore_conflicts=True,
        )
        alike: dict[tuple[str, date, int], list[int]] = {}
        for node, kind, day in chunk:
            alike.setdefault((kind, day, counted[node, kind, day]), []).append(node)
        for (kind, day, times), nodes in alike.items():
            rows = CredentialUse.objects.filter(node__in=nodes, kind=kind, day=day)
            rows.update(count=F("count") + times)


_counts = _Counts()


def flush() -> None:
    """Write what has been counted: at the process's end, and in tests."""
    _counts.flush()
