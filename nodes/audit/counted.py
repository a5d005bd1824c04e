"""Entries that would come again and again: the first one is written at once, further ones are counted.

Otherwise who guesses passwords would fill the audit log, and push out of sight what matters.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.events import Actor, Target, plain_address, record
from nodes.models import CountedEntry, Node, User
from nodes.models.audit_mac import canonical
from nodes.models.event import Category, Severity

WINDOW = timedelta(minutes=10)
MOST_KEYS = 200
"""Subjects of one kind, and of one user, that are counted apart in one window. Those beyond it are counted
together: an attack from thousands of addresses is one entry as well. What one user is denied hides nothing of
what another one is."""
AT_ONCE = 200


def count(
    kind: str,
    message: str,
    *,
    key: Sequence[str],
    actor: Actor,
    node: Node | None = None,
    target: Target | None = None,
    severity: str = Severity.WARNING,
    data: Mapping[str, Any] | None = None,
    crowd: Mapping[str, Any] | None = None,
    window: timedelta = WINDOW,
) -> None:
    """Write the entry, or count it where one with the same ``kind`` and ``key`` was written in the window.

    ``crowd`` is what is still told apart, beside kind and user, of too many for it.
    """
    now = timezone.now()
    user_id = actor.user.pk if actor.user is not None else None
    together = _digest("crowd", kind, str(user_id or ""), canonical(dict(crowd or {})))
    facts: dict[str, Any] = {
        "kind": kind,
        "message": message,
        "severity": str(severity),
        "user_id": user_id,
        "source_ip": plain_address(actor.source_ip),
        "via": str(actor.via),
        "token": actor.token_name,
        "node": str(node.uuid) if node is not None else "",
        "node_name": node.name if node is not None else "",
        "target": [target.type, target.id, target.name] if target is not None else None,
        "data": dict(data or {}),
        "crowd": together,
    }
    with transaction.atomic():
        digest = _digest(kind, *key)
        if _add(digest, now):
            return
        if CountedEntry.objects.filter(until__gt=now, facts__crowd=together).count() >= MOST_KEYS:
            digest = together
            if _add(digest, now):
                return
            facts |= {"message": _crowd(kind, actor), "source_ip": None, "token": "", "target": None}
            facts |= {"node": "", "node_name": "", "data": dict(crowd or {})}
        ended = CountedEntry.objects.select_for_update().filter(pk=digest).first()
        if ended is not None:
            _tell(ended)
            ended.delete()
        row = CountedEntry(key=digest, since=now, until=now + window, last_at=now, facts=facts)
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:  # another process was faster, and wrote the entry
            _add(digest, now)
            return
        _write(facts, facts["message"], facts["data"])


def _add(digest: str, now: datetime) -> bool:
    """Count one more in a window that is open."""
    rows = CountedEntry.objects.filter(pk=digest, until__gt=now)
    return bool(rows.update(count=F("count") + 1, last_at=now))


def tell_ended() -> int:
    """Write the entries of windows that are over; gives how many windows there were."""
    ended = list(
        CountedEntry.objects.filter(until__lte=timezone.now()).values_list("pk", flat=True)[:AT_ONCE]
    )
    for key in ended:
        with transaction.atomic():
            row = CountedEntry.objects.select_for_update().filter(pk=key).first()
            if row is not None and row.until <= timezone.now():
                _tell(row)
                row.delete()
    return len(ended)


def _tell(row: CountedEntry) -> None:
    if not row.count:
        return
    facts = row.facts
    told = {"count": row.count, "first": _iso(row.since), "last": _iso(row.last_at)}
    words = _("%(message)s Repeated: %(count)d times.") % {"message": facts["message"], "count": row.count}
    _write(facts, words, {**facts["data"], **told})


def _write(facts: Mapping[str, Any], message: str, data: Mapping[str, Any]) -> None:
    user = User.objects.filter(pk=facts["user_id"]).first() if facts["user_id"] is not None else None
    node = Node.objects.filter(uuid=facts["node"]).first() if facts["node"] else None
    record(
        facts["kind"],
        message,
        node=node,
        node_name=facts["node_name"],
        node_ref=facts["node"],
        actor=Actor(user, facts["source_ip"], facts["via"], facts["token"]),
        target=Target(*facts["target"]) if facts["target"] else None,
        severity=facts["severity"],
        data=data,
        category=Category.AUDIT,
    )


def _crowd(kind: str, actor: Actor) -> str:
    if actor.user is not None:
        words = _("“%(kind)s” of %(user)s comes in so many ways that it is counted for all of them together.")
        return words % {"kind": kind, "user": actor.name}
    words = _("“%(kind)s” comes from so many addresses or users that it is counted for all of them together.")
    return words % {"kind": kind}


def _digest(*parts: str) -> str:
    return hashlib.sha256(canonical(list(parts)).encode()).hexdigest()


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def network_of(source_ip: str | None) -> str:
    """What counts as one address: of IPv6 the /64, which one machine has to itself (RFC 6177)."""
    address = plain_address(source_ip)
    if address is None:
        return ""
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if ":" in address else address
