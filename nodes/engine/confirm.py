"""Confirmations: a signed token that says who agreed to which plan, for five minutes and once.

A token is bound to the user, the API token they came with, the call, the node, all options and the plan's
decisions (never its estimates). It also carries the decisions themselves, so that what has changed can be
named, and so that the plan made again when the call comes back keeps their targets wherever they are still
possible: nobody is asked twice because two nodes were equally good.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core import signing
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.errors import ConfirmationInvalid
from nodes.hosts.power_preflight import Inhibitor
from nodes.models import Node, UsedConfirmation, User
from nodes.operations.plans import Action, Plan, Reason, VmDecision

LIVES_S = 300
SALT = "nodeadmin.confirmation"
PLAIN_SALT = "nodeadmin.confirmation.plain"
FORM = 3
"""Of what a token carries: one of another version is refused, whatever its members mean there."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A token that fits its call. ``shown`` is the plan that was agreed to: its decisions, nothing else."""

    nonce: str
    digest: str
    shown: Plan

    @property
    def targets(self) -> dict[str, str]:
        """The targets that were shown, as node UUIDs by VM UUID."""
        return {vm.vm_uuid: vm.target_uuid for vm in self.shown.of(Action.MIGRATE)}


def issue(user: User, call: str, node: Node, options: Mapping[str, Any], plan: Plan) -> tuple[str, datetime]:
    """A token for ``plan``, and when it ends."""
    targets = sorted({(vm.target_uuid, vm.target) for vm in plan.of(Action.MIGRATE)})
    place = {uuid: number for number, (uuid, _name) in enumerate(targets)}
    agreed = {
        "form": FORM,
        "nonce": secrets.token_urlsafe(18),
        "bound": _bound(user, call, node, options),
        "plan": plan.digest(),
        "targets": targets,
        "inhibitors": [asdict(row) for row in plan.ignored_inhibitors],
        "vms": [[place.get(vm.target_uuid), *_agreed(vm)] for vm in plan.decisions],
    }
    expires_at = timezone.now() + timedelta(seconds=LIVES_S)
    return signing.dumps(agreed, salt=SALT, compress=True), expires_at


def read(token: str, user: User, call: str, node: Node, options: Mapping[str, Any]) -> Confirmation:
    """What ``token`` agreed to.

    Raises ConfirmationInvalid for one that is not ours, has ended, was used, or belongs to another user,
    call, node or other options.
    """
    try:
        agreed = signing.loads(token, salt=SALT, max_age=LIVES_S)
    except signing.SignatureExpired:
        raise _invalid(_("The confirmation is older than five minutes.")) from None
    except signing.BadSignature:
        raise _invalid(_("This is no confirmation that was given out here.")) from None
    if agreed.get("form") != FORM:
        raise _invalid(_("The confirmation was given by another version of nodeadmin."))
    if not secrets.compare_digest(agreed["bound"], _bound(user, call, node, options)):
        raise _invalid(
            _("The confirmation was given for another call, other options, another user or API token.")
        )
    if UsedConfirmation.objects.filter(nonce=agreed["nonce"]).exists():
        raise _used()
    decisions = tuple(_decision(row, agreed["targets"]) for row in agreed["vms"])
    shown = Plan(
        call,
        node.name,
        str(node.uuid),
        dict(options),
        decisions,
        ignored_inhibitors=tuple(Inhibitor(**row) for row in agreed["inhibitors"]),
    )
    return Confirmation(agreed["nonce"], agreed["plan"], shown)


_AGREED = (
    "vm_uuid", "vm_name", "source_uuid", "restart", "encrypted", "verified_name", "auto_converge", "shape",
    "skip_storage_check", "autostart", "hold_autostart",
)  # fmt: skip
"""Members of a decision that a token carries as they are."""


def _agreed(vm: VmDecision) -> list[Any]:
    codes = [reason.code for reason in vm.blockers]
    return [vm.action.value, codes, dict(vm.disk_paths), *(getattr(vm, name) for name in _AGREED)]


def _decision(row: Sequence[Any], targets: Sequence[Sequence[str]]) -> VmDecision:
    place, action, codes, disk_paths, *members = row
    target_uuid, target = targets[place] if place is not None else ("", "")
    return VmDecision(
        state=None,
        action=Action(action),
        target=target,
        target_uuid=target_uuid,
        blockers=tuple(Reason(code, code) for code in codes),
        disk_paths=disk_paths,
        **dict(zip(_AGREED, members, strict=True)),
    )


def redeem(confirmation: Confirmation) -> None:
    """Use it, in the transaction that acts on it: if that is rolled back, it was not used.

    Raises ConfirmationInvalid where somebody else has used it.
    """
    try:
        with transaction.atomic():
            UsedConfirmation.objects.create(nonce=confirmation.nonce)
    except IntegrityError:
        raise _used() from None


def issue_plain(user: User, call: str, decisions: Mapping[str, Any]) -> tuple[str, datetime]:
    """A token for a call that concerns no single node, and when it ends; as :func:`issue`."""
    agreed = {"nonce": secrets.token_urlsafe(18), "call": [user.pk, call], "plan": _digest(decisions)}
    expires_at = timezone.now() + timedelta(seconds=LIVES_S)
    return signing.dumps(agreed, salt=PLAIN_SALT), expires_at


def redeem_plain(token: str, user: User, call: str, decisions: Mapping[str, Any]) -> bool:
    """Use up a token of :func:`issue_plain`, within the caller's transaction; False, and it is not used,
    where it was given for other decisions. Raises ConfirmationInvalid as :func:`read`."""
    try:
        agreed = signing.loads(token, salt=PLAIN_SALT, max_age=LIVES_S)
    except signing.SignatureExpired:
        raise _invalid(_("The confirmation is older than five minutes.")) from None
    except signing.BadSignature:
        raise _invalid(_("This is no confirmation that was given out here.")) from None
    if agreed["call"] != [user.pk, call]:
        raise _invalid(_("The confirmation was given for another call, other options or by somebody else."))
    if agreed["plan"] != _digest(decisions):
        return False
    try:
        with transaction.atomic():
            UsedConfirmation.objects.create(nonce=agreed["nonce"])
    except IntegrityError:
        raise _used() from None
    return True


def _digest(decisions: Mapping[str, Any]) -> str:
    text = json.dumps(dict(decisions), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _bound(user: User, call: str, node: Node, options: Mapping[str, Any]) -> str:
    """SHA-256 over what a confirmation holds for. An API token is part of it: what was planned with one is
    not done with another, which may be for less."""
    limits = user.token_limits
    parts = [user.pk, limits.token if limits else None, call, str(node.uuid), dict(options)]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _used() -> ConfirmationInvalid:
    return _invalid(_("The confirmation has been used; each counts once."))


def _invalid(message: str) -> ConfirmationInvalid:
    return ConfirmationInvalid(
        message,
        remedy=_("Make the call without it: it answers with the plan and a new confirmation."),
        field="confirm_token",
    )
