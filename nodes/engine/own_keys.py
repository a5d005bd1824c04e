"""Calls of users about nodeadmin's own key pair: replaced on all hosts, and the old one retired.

Both are confirmed. A confirmation is bound to the user, the call and whom it concerns.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from nodes import access, second_factor
from nodes.engine import confirm
from nodes.engine.submit import asking_user, submit
from nodes.errors import ConfirmationRequired, NodeBusy, PlanChanged
from nodes.events import Actor
from nodes.models import Credential, IdempotencyKey, JumpHost, Operation, OwnKeyPair, User
from nodes.operations import own_keys
from nodes.operations.rotate_own_key import RotateOwnKey
from nodes.permissions import MANAGE_SSH, nodes_for, require

ROTATE, RETIRE = RotateOwnKey.kind, "retire-own-key"


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """What a call would do: ``continues`` goes on with a replacement that has left somebody out. The nodes
    and jump hosts are those that it concerns, by name."""

    kind: str
    continues: bool
    current: str
    old: str | None
    nodes: tuple[str, ...]
    jump_hosts: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_rotation() -> tuple[KeyPlan, own_keys.Lacking]:
    """The plan of replacing the key, and whom it concerns."""
    current, old = access.own_key_pair(), own_keys.retiring()
    if old is None:
        found = own_keys.everybody()
    else:
        left, lines = own_keys.lacking(current), own_keys.old_lines(current)
        found = own_keys.Lacking((*left.nodes, *lines.nodes), (*left.jump_hosts, *lines.jump_hosts))
    return _plan(ROTATE, current, old, found), found


def plan_retirement() -> KeyPlan:
    """The plan of destroying the old pair: whom that leaves without."""
    current = access.own_key_pair()
    return _plan(RETIRE, current, own_keys.retiring(), own_keys.lacking(current))


def _plan(kind: str, current: OwnKeyPair, old: OwnKeyPair | None, found: own_keys.Lacking) -> KeyPlan:
    return KeyPlan(
        kind,
        old is not None,
        current.fingerprint,
        old.fingerprint if old is not None else None,
        tuple(name for _number, name in found.nodes),
        tuple(name for _number, name in found.jump_hosts),
    )


def rotate(
    actor: Actor, confirm_token: str = "", *, request_id: str = "", idempotency: IdempotencyKey | None = None
) -> Operation:
    """Replace the key on all hosts, or go on with that. Raises PermissionDenied, ConfirmationRequired with
    the plan, ConfirmationInvalid, PlanChanged, SecondFactorRequired, NodeBusy."""
    user = asking_user(actor)
    require(user, MANAGE_SSH)
    _refuse_busy()
    plan, found = plan_rotation()
    _expect_factor(actor, confirm_token)
    with transaction.atomic():
        _confirmed(user, ROTATE, plan, confirm_token)
        _use_factor(actor, confirm_token)
        return submit(
            ROTATE,
            actor=actor,
            params={
                "continues": plan.continues,
                "nodes": [list(row) for row in found.nodes],
                "jump_hosts": [list(row) for row in _nearest_first(found.jump_hosts)],
            },
            request_id=request_id,
            idempotency=idempotency,
        )


def retire(actor: Actor, *, force: bool = False, confirm_token: str = "") -> own_keys.Lacking:
    """Destroy the old key pair; gives who lacks the current one then.

    Raises PermissionDenied, InvalidInput where there is none, OwnKeyNeeded while somebody lacks the current
    one unless ``force``, ConfirmationRequired, ConfirmationInvalid, PlanChanged, SecondFactorRequired,
    NodeBusy.
    """
    user = asking_user(actor)
    require(user, MANAGE_SSH)
    _refuse_busy()
    old = own_keys.retiring()
    if old is None:
        raise own_keys.no_old_pair()
    current = access.own_key_pair()
    left = own_keys.lacking(current)
    if left.names and not force:
        raise own_keys.needed(left)
    _expect_factor(actor, confirm_token)
    with transaction.atomic():
        _refuse_busy()
        _confirmed(user, f"{RETIRE} {force}", _plan(RETIRE, current, old, left), confirm_token)
        _use_factor(actor, confirm_token)
        dropped = own_keys.drop_old(actor, old, None, forced=force)
        if dropped != left:
            raise PlanChanged(
                _("Whom it concerns has changed since it was confirmed."),
                remedy=_("Ask for the plan again, and confirm it."),
            )
    access.close_pool()
    return left


def _expect_factor(actor: Actor, token: str) -> None:
    """Verify the second factor of a confirmed call. The first call, for the plan, needs none."""
    if token:
        about = second_factor.of_confirmation(token)
        second_factor.expect_fresh(actor, second_factor.CREDENTIALS, about=about)


def _use_factor(actor: Actor, token: str) -> None:
    """Use it up, in the caller's transaction."""
    second_factor.require_fresh(actor, second_factor.CREDENTIALS, about=second_factor.of_confirmation(token))


def _confirmed(user: User, call: str, plan: KeyPlan, token: str) -> None:
    """Use the token up, in the caller's transaction."""
    decisions = plan.to_dict()
    if not token:
        fresh, expires_at = confirm.issue_plain(user, call, decisions)
        raise ConfirmationRequired(
            _("Nothing has been changed. The plan says what would be done."),
            remedy=_("Look at the plan, and make the same call with its confirm_token within five minutes."),
            extra={"plan": decisions, "confirm_token": fresh, "expires_at": expires_at.isoformat()},
        )
    if not confirm.redeem_plain(token, user, call, decisions):
        fresh, expires_at = confirm.issue_plain(user, call, decisions)
        raise PlanChanged(
            _("Whom it concerns has changed since it was confirmed."),
            remedy=_("Look at the new plan and confirm it."),
            extra={"plan": decisions, "confirm_token": fresh, "expires_at": expires_at.isoformat()},
        )


def _nearest_first(jump_hosts: tuple[tuple[int, str], ...]) -> list[tuple[int, str]]:
    rows = JumpHost.objects.select_related("jump_host__jump_host").in_bulk(
        [number for number, _n in jump_hosts]
    )
    return sorted(jump_hosts, key=lambda row: (len(rows[row[0]].chain()) if row[0] in rows else 0, row[1]))


def _refuse_busy() -> None:
    if Operation.objects.unfinished().filter(kind=ROTATE).exists():
        raise NodeBusy(
            _("nodeadmin's key is being replaced."),
            remedy=_("Wait for that operation to end, and try again."),
        )


# -- what is shown ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holder:
    """A node or jump host that logs in with nodeadmin's key; ``fingerprint`` is that of the pair that it is
    known to let in."""

    kind: str
    name: str
    has_current: bool
    fingerprint: str | None
    old_line_left: bool


class Holders:
    """All of them, jump hosts first; read a page at a time."""

    def __init__(
        self, jump_hosts: QuerySet[JumpHost], credentials: QuerySet[Credential], current: int
    ) -> None:
        self._jump_hosts = jump_hosts.select_related("own_key").defer("secret", "own_key__secret")
        self._credentials = credentials.select_related("node", "own_key").defer("secret", "own_key__secret")
        self._current = current
        self._jump_count = jump_hosts.count()
        self.count = self._jump_count + credentials.count()

    def page(self, start: int, size: int) -> list[Holder]:
        found = [self._holder("jump_host", row.name, row) for row in self._jump_hosts[start : start + size]]
        first = max(0, start - self._jump_count)
        rows = self._credentials[first : first + size - len(found)]
        return [*found, *(self._holder("node", row.node.name, row) for row in rows)]

    def _holder(self, kind: str, name: str, row: JumpHost | Credential) -> Holder:
        pair = row.own_key
        known = pair.fingerprint if pair is not None else None
        return Holder(kind, name, row.own_key_id == self._current, known, row.old_line_left)


def holders(user: User, *, lacking: bool = False) -> Holders:
    """Those that the user may see; with ``lacking`` only those that lack the current pair."""
    current = access.own_key_pair().pk
    jump_hosts = JumpHost.objects.filter(own_keys.OWN_JUMP).order_by("name")
    credentials = Credential.objects.filter(own_keys.OWN, node__in=nodes_for(user)).order_by("node__name")
    if lacking:
        jump_hosts = jump_hosts.exclude(own_key=current, own_key__isnull=False)
        credentials = credentials.exclude(own_key=current, own_key__isnull=False)
    return Holders(jump_hosts, credentials, current)


def pairs() -> list[OwnKeyPair]:
    """The key pairs, the current one first; it is made where there is none yet."""
    access.own_key_pair()
    return list(OwnKeyPair.objects.defer("secret").order_by("-pk"))


def counts_of(row: OwnKeyPair) -> tuple[int, int]:
    """How many nodes and jump hosts are known to let the pair in."""
    nodes = Credential.objects.filter(own_keys.OWN, own_key=row).count()
    return nodes, JumpHost.objects.filter(own_keys.OWN_JUMP, own_key=row).count()


def lacking_count() -> int:
    return len(own_keys.lacking(access.own_key_pair()).names)


def current_fingerprint() -> str:
    return access.own_key_pair().fingerprint


def line_of(row: OwnKeyPair) -> str:
    """The line for authorized_keys on a host of today (OpenSSH 7.8 or newer)."""
    return access.key_line(row)
