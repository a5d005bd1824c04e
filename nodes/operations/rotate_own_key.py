"""rotate-own-key: every host that lets nodeadmin's key in gets a new one, and loses the old one after that.

Each host: enter with the old key, add the new one, log in anew with the new one alone, note that, and only
then take the old line out. A host that is away or refuses keeps the old key, and is named at the end; the old
pair is kept until nobody needs it. Asked for again, it goes on with what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes import access
from nodes.errors import AuthenticationFailed, HostError, NodeBusy, OwnKeyNeeded, OwnKeyNotEverywhere
from nodes.events import Target, record
from nodes.hosts.authorize import authorize_key, explain_refused_key, key_lines, restore_key, revoke_key
from nodes.hosts.target import HostTarget
from nodes.models import Credential, JumpHost, Node, Operation, OwnKeyPair
from nodes.models.credential import CredentialKind
from nodes.operations import own_keys
from nodes.operations.base import JsonObject, OperationKind, Run, StepHandle, StepPlan
from nodes.operations.crew import Job, do_jobs
from nodes.operations.same_account import listed, others_on_account
from nodes.permissions import MANAGE_SSH

AT_ONCE = 8
"""Hosts at once: each costs a few logins, and a slow one holds up no other."""
NAMED = 100
KEY, RETIRE = "key", "retire"


class RotateOwnKey(OperationKind):
    """It concerns no single node; each host's state is on its Credential or JumpHost."""

    kind = "rotate-own-key"
    permission = MANAGE_SSH
    needs_node = False
    patient = True
    retriable = False

    def title(self, operation: Operation) -> str:
        return _("Replace nodeadmin's own key")

    def subject(self, node: Node | None, node_name: str) -> str:
        return "own-key"

    def steps(self, node: Node | None, params: JsonObject) -> Sequence[StepPlan]:
        jump_hosts = [
            StepPlan(f"jump:{number}", _("Jump host %s") % name, target=name)
            for number, name in params["jump_hosts"]
        ]
        nodes = [
            StepPlan(f"node:{number}", _("Node %s") % name, target=name) for number, name in params["nodes"]
        ]
        return (
            StepPlan(KEY, _("Make the new key")),
            *jump_hosts,
            *nodes,
            StepPlan(RETIRE, _("Retire the old key")),
        )

    def execute(self, run: Run) -> JsonObject:
        current = self._current(run)
        params = run.operation.params
        # First, and one after another: nodes are reached through them.
        for number, _name in params["jump_hosts"]:
            do_jobs(
                [Job(f"jump:{number}", partial(_move_jump_host, run, number, current))], at_once=1, go_on=True
            )
        jobs = [
            Job(f"node:{number}", partial(_move_node, run, number, current)) for number, _n in params["nodes"]
        ]
        do_jobs(jobs, at_once=AT_ONCE, go_on=True)
        return self._end(run, current)

    def _current(self, run: Run) -> OwnKeyPair:
        with run.step(KEY) as step:
            number = step.data.get("own_key")
            known = OwnKeyPair.objects.filter(pk=number).first() if isinstance(number, int) else None
            if known is not None:
                return known
            with run.fenced():
                # One that is being replaced already is replaced by the pair that came then.
                going = own_keys.retiring() is not None
                pair = access.own_key_pair() if going else own_keys.make_next(run.actor, run.operation)
                step.report(pair.fingerprint, data={"own_key": pair.pk})
            return pair

    def _end(self, run: Run, current: OwnKeyPair) -> JsonObject:
        old = own_keys.retiring()
        with run.step(RETIRE) as step:
            _remove_late_lines(run, current)
            left, lines = own_keys.lacking(current), own_keys.old_lines(current)
            if old is None:
                step.skip(_("There is none any more."))
            elif left.names or lines.names or not _dropped(run, old):
                left = own_keys.lacking(current)
                step.skip(_("It is kept until no host needs it."))
            else:
                step.report(_("No host has it any more; it is destroyed."))
        if not left.names and not lines.names:
            return {"fingerprint": current.fingerprint}
        count = len(left.names)
        message = (
            ngettext(
                "%(count)d host lacks the new key: %(names)s.",
                "%(count)d hosts lack the new key: %(names)s.",
                count,
            )
            % {"count": count, "names": listed(left.names)}
            if left.names
            else _("The old key's line could not be removed from: %s.") % listed(lines.names)
        )
        raise OwnKeyNotEverywhere(
            message,
            remedy=_(
                "The old key is kept. See the steps for what failed, and replace the key again: it goes on."
            ),
            extra={
                "fingerprint": current.fingerprint,
                "lacking": left.names[:NAMED],
                "lacking_count": count,
                "old_line_left": lines.names[:NAMED],
            },
        )


def _dropped(run: Run, old: OwnKeyPair) -> bool:
    """Destroy the pair; False where somebody has come to need it since one looked."""
    try:
        with run.fenced():
            own_keys.drop_old(run.actor, old, run.operation, forced=False)
    except OwnKeyNeeded:
        return False
    return True


def _remove_late_lines(run: Run, new: OwnKeyPair) -> None:
    """From jump hosts whose old line had to stay until a node on the same host was moved as well."""
    for number, name in own_keys.old_lines(new).jump_hosts:
        row = _jump_host(number)
        if row is None or run.data_of(f"jump:{number}").get("waits") is not True:
            continue
        note = _Note(run, row, new)
        target = access.jump_target(row).target
        try:
            if not others_on_account(target, row, lacking=new):
                _remove_lines(access.by_own_key(target, new), new)
                note(left=False)
        except HostError as failure:
            run.log(f"{name}: {failure.message}", "warning", step_code=RETIRE)


class _Note:
    """Writes what was seen of a host into its row, as long as the row still leads there: of a node or jump
    host that was changed meanwhile nobody has seen a login with the new key."""

    def __init__(self, run: Run, row: Credential | JumpHost, new: OwnKeyPair) -> None:
        self._run, self._row, self._new = run, row, new

    def __call__(self, *, left: bool, moved: bool = False) -> None:
        run, row, stamp = self._run, self._row, timezone.now()
        with run.fenced():
            seen = type(row).objects.filter(pk=row.pk, updated_at=row.updated_at)
            if not seen.update(own_key=self._new, old_line_left=left, updated_at=stamp):
                raise NodeBusy(
                    _("How %s is reached was changed meanwhile.") % self._name,
                    remedy=_("Replace the key again: it goes on."),
                )
            if moved:
                self._record()
        row.updated_at = stamp
        if not moved:
            return
        if isinstance(row, JumpHost):
            access.drop_jump_host(row)
        else:
            access.pool().drop_node(str(row.node.uuid))

    @property
    def _name(self) -> str:
        return self._row.name if isinstance(self._row, JumpHost) else self._row.node.name

    def _record(self) -> None:
        run, row = self._run, self._row
        text = _("%(name)s lets nodeadmin's key %(key)s in") % {
            "name": self._name,
            "key": self._new.fingerprint,
        }
        if isinstance(row, JumpHost):
            target = Target("jump_host", str(row.pk), row.name)
            record("own_key_moved", text, actor=run.actor, operation=run.operation, target=target)
        else:
            record("own_key_moved", text, node=row.node, actor=run.actor, operation=run.operation)


def _move_node(run: Run, number: int, new: OwnKeyPair) -> None:
    with run.step(f"node:{number}") as step:
        rows = Credential.objects.filter(node=number, kind=CredentialKind.NODEADMIN_KEY)
        row = rows.select_related("node").first()
        if row is None:
            step.skip(_("It does not log in with nodeadmin's key any more."))
            return
        _move(step, access.target_for(row.node), row, new, _Note(run, row, new))


def _move_jump_host(run: Run, number: int, new: OwnKeyPair) -> None:
    with run.step(f"jump:{number}") as step:
        row = _jump_host(number)
        if row is None:
            step.skip(_("It does not log in with nodeadmin's key any more."))
            return
        _move(step, access.jump_target(row).target, row, new, _Note(run, row, new))


def _jump_host(number: int) -> JumpHost | None:
    rows = JumpHost.objects.filter(pk=number, credential_kind=CredentialKind.NODEADMIN_KEY)
    return rows.select_related("jump_host__jump_host").first()


def _move(
    step: StepHandle,
    target: HostTarget,
    row: Credential | JumpHost,
    new: OwnKeyPair,
    note: _Note,
) -> None:
    """Bring one host from the old key to the new one. Raises HostError; what was there before is then in
    force. NodeBusy where the row came to lead elsewhere."""
    by_new = access.by_own_key(target, new)
    if row.own_key_id != new.pk:
        _install(step, target, by_new, new)
        note(left=True, moved=True)
    elif not row.old_line_left:
        step.report(_("It has the new key already."))
        return
    owner = row if isinstance(row, JumpHost) else row.node
    if users := others_on_account(target, owner, lacking=new):
        words = _(
            "It lets the new key in. The old one stays as well: %s has not been seen to log in by the new."
        )
        step.report(words % listed(users), data={"waits": True})
        return
    # A login with the new key: only by that is the old one taken out.
    _remove_lines(by_new, new)
    note(left=False)
    step.report(_("It lets the new key in, and the old one no more."))


def _remove_lines(by_new: HostTarget, new: OwnKeyPair) -> None:
    with access.connect_once(by_new) as connection:
        for old in OwnKeyPair.objects.exclude(pk=new.pk):
            revoke_key(connection, old.public_key)


def _install(step: StepHandle, target: HostTarget, by_new: HostTarget, new: OwnKeyPair) -> None:
    with access.connect_once(target) as connection:
        if "before" not in step.data:
            step.report(
                _("Adding the new key."), data={"before": list(key_lines(connection, new.public_key))}
            )
        authorize_key(connection, new.public_key, access.key_options())
        try:
            access.connect_once(by_new).close()
        except HostError as failure:
            restore_key(connection, new.public_key, list(step.data["before"]))
            if isinstance(failure, AuthenticationFailed):
                raise access.with_sources_hint(explain_refused_key(connection, failure)) from failure
            raise
