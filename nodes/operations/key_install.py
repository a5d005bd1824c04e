"""nodeadmin's own key on a host: installed by a password that is used once, and taken back where the
operation that installed it fails.

What was there before is recorded in the step before anything is written: whoever resumes the operation after
a crash knows by it whether the key came with this operation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import AuthenticationFailed, HostError, NodeAdminError, OwnKeyNeeded, by_code
from nodes.hosts.authorize import authorize_key, explain_refused_key, key_lines, restore_key, revoke_key
from nodes.hosts.connection import HostConnection
from nodes.hosts.target import HostTarget
from nodes.models import Node, Operation, OwnKeyPair, StepStatus
from nodes.models.credential import CredentialKind
from nodes.models.sealed import BoundSecret
from nodes.operations.base import DATABASE_AWAY, ClaimLost, OperationCancelled, Run, StepHandle, StepPlan
from nodes.operations.own_keys import INSTALL
from nodes.operations.same_account import others_on_account

T = TypeVar("T")
_WORKS = "key_works"
TAKE_BACK = "remove_key"


def login_of(run: Run, node: Node | None = None) -> access.Login:
    """The login that the operation tries: what it was given, or nodeadmin's own key, once an earlier run has
    seen that key open the host. What was given is forgotten by then."""
    login = access.Login.from_operation(run.operation, node)
    data = run.data_of(INSTALL)
    pair = _pair(data)
    return _by_key(login, pair) if pair is not None and data.get(_WORKS) else login


def install_own_key(run: Run, connection: HostConnection, login: access.Login) -> access.Login:
    """Install the key, prove with a fresh connection that it opens the host, and give the login to keep.

    Where sshd refuses it, what was in authorized_keys before is put back over ``connection``. With the proof
    the password is forgotten: in the database in one transaction with the step's report, whatever becomes of
    the steps that follow, and in ``connection``, whose further SSH connections are entered with the key.
    """
    with run.step(INSTALL) as step:
        pair = _pair(step.data) or access.own_key_pair()
        by_key = _by_key(login, pair)
        target = access.by_own_key(by_key.target(), pair)
        if step.data.get(_WORKS):
            access.connect_once(target).close()
        else:
            _write_and_try(connection, step, pair, target)
        with run.fenced():
            # Of what was given the sudo password alone is still needed.
            Operation.objects.filter(pk=run.operation.pk).update(secret=by_key.sudo_to_keep())
            step.report(_("The key opens the host; the password is not kept."), data={_WORKS: True})
        run.operation.refresh_from_db(fields=["secret"])
        connection.enter_with(target)
    return replace(by_key, sudo=BoundSecret.of(run.operation.secret))


def _write_and_try(
    connection: HostConnection, step: StepHandle, pair: OwnKeyPair, target: HostTarget
) -> None:
    """What was there before is on record before anything is written, for who has to take it back."""
    if step.data.get("own_key") != pair.pk:
        before = key_lines(connection, pair.public_key)
        step.report(_("Writing the key."), data={"own_key": pair.pk, "before": list(before)})
    change = authorize_key(connection, pair.public_key, access.key_options())
    try:
        access.connect_once(target).close()
    except AuthenticationFailed as refused:
        explained = explain_refused_key(connection, refused)
        with contextlib.suppress(HostError):  # taken back over another connection then, or reported
            restore_key(connection, pair.public_key, change.before)
        raise access.with_sources_hint(explained) from refused


def _by_key(login: access.Login, pair: OwnKeyPair) -> access.Login:
    return replace(login, kind=CredentialKind.NODEADMIN_KEY, secret=None, keeps_secret=False, own_key=pair.pk)


def taking_key_back(run: Run, work: Callable[[], T]) -> T:
    """Do ``work``; where it fails or is cancelled, take the key that it has installed off the host again, or
    say where it stays: ``key_left_on_host`` of the error, and its message. Where an earlier run died while it
    took the key off, that is ended, and the work is not begun again."""
    try:
        if run.status_of(TAKE_BACK):
            run.check_cancelled()
            raise _failure_before(run)
        return work()
    except (ClaimLost, *DATABASE_AWAY):
        raise
    except OperationCancelled as cancelled:
        left = take_back(run)
        if left:
            words = " ".join([str(cancelled) or _("Cancelled."), _left_words(left)])
            raise OperationCancelled(
                words, result={**(cancelled.result or {}), "key_left_on_host": left}
            ) from cancelled
        raise
    except NodeAdminError as error:
        left = take_back(run)
        if left:
            error.extra["key_left_on_host"] = left
            error.message = f"{error.message} {_left_words(left)}"
        raise
    except Exception:
        take_back(run)
        raise


def take_back(run: Run) -> str:
    """Remove the key from the host where this operation has put it there; gives ``user@host`` where it stays,
    "" otherwise. It stays silently where somebody has come to log in with it."""
    data = run.data_of(INSTALL)
    pair = _pair(data)
    if pair is None or data.get("before"):
        return ""
    run.add_steps([StepPlan(TAKE_BACK, _("Remove nodeadmin's key again"))])
    where = ""
    try:
        with run.step(TAKE_BACK, even_cancelled=True) as step:
            target = _target(run)
            where = f"{target.user}@{target.address}"
            if users := others_on_account(target):
                step.skip(_("%s logs in with it.") % users[0])
                return ""
            try:
                removed = _revoke(step, target, pair)
            except OwnKeyNeeded as needed:
                step.skip(needed.message)
                return ""
            step.report(_("Removed.") if removed else _("The key was not there."))
    except (ClaimLost, *DATABASE_AWAY):
        raise
    except NodeAdminError as failure:
        run.log(_left_words(where or _("the host")) + " " + failure.message, "warning", step_code=TAKE_BACK)
        return where or _("the host")
    return ""


def _revoke(step: StepHandle, target: HostTarget, pair: OwnKeyPair) -> bool:
    """Whether there was anything to remove. Raises HostError."""
    cut_off = bool(step.data.get("removing"))
    try:
        with _entered(target, pair) as connection:
            step.report(_("Removing the key."), data={"removing": True})
            return _without(connection, target, None, [pair]) > 0
    except AuthenticationFailed:
        if cut_off and target.credential is None:
            return True  # by the run before: what else would have opened the host was forgotten by then
        raise


def _failure_before(run: Run) -> NodeAdminError:
    """The error for which an earlier run took the key back, as its step has it."""
    failed = run.operation.steps.filter(status=StepStatus.FAILED).exclude(code=TAKE_BACK).first()
    if failed is None:
        return NodeAdminError(_("The operation was interrupted."))
    return by_code(str(failed.data.get("error", "")))(failed.message)


def _pair(data: Mapping[str, Any]) -> OwnKeyPair | None:
    """The key pair that the step has recorded."""
    number = data.get("own_key")
    return OwnKeyPair.objects.filter(pk=number).first() if isinstance(number, int) else None


def _left_words(where: str) -> str:
    return _("nodeadmin's key stays in authorized_keys of %s: remove it there.") % where


def _target(run: Run) -> HostTarget:
    """The host of the operation, with the key that it has shown in it."""
    login = access.Login.from_operation(run.operation, run.operation.node)
    shown = run.data_of("host_key").get("host_key")
    return access.pinned_target(login, str(shown) if shown else "")


def _entered(target: HostTarget, pair: OwnKeyPair) -> HostConnection:
    """By the key itself where sshd takes it, and otherwise as the operation was told to log in."""
    try:
        return access.connect_once(access.by_own_key(target, pair))
    except AuthenticationFailed:
        return access.connect_once(target)


def remove_own_keys(target: HostTarget, node: Node) -> int:
    """Take all lines of nodeadmin's keys out of authorized_keys of the target's user; how many keys had one.

    Raises HostError, OwnKeyNeeded where somebody has come to log in with them meanwhile.
    """
    with access.connect_once(target) as connection:
        return _without(connection, target, node, list(OwnKeyPair.objects.all()))


def _without(
    connection: HostConnection, target: HostTarget, node: Node | None, pairs: Sequence[OwnKeyPair]
) -> int:
    """Take the lines of the pairs out, and put them back where a node or jump host was stored meanwhile that
    logs in by them: its login was tried while they were there."""
    changes = [(pair, revoke_key(connection, pair.public_key)) for pair in pairs]
    if users := others_on_account(target, node):
        for pair, change in changes:
            if change.changed:
                restore_key(connection, pair.public_key, change.before)
        raise OwnKeyNeeded(_("%s logs in with it.") % users[0])
    return sum(change.changed for _pair, change in changes)
