"""delete-node: nodeadmin lets go of a host, whose VMs move away first where that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import AuthenticationFailed, AutostartHeld, NodeAdminError, NodeBusy
from nodes.events import NodeChanged, publish, record
from nodes.models import Node, Operation, StepStatus
from nodes.models.event import Severity
from nodes.operations.base import ClaimLost, JsonObject, PlannedKind, Run, StepPlan, removed
from nodes.operations.key_install import remove_own_keys
from nodes.operations.plan_run import PlanRun, check_step
from nodes.operations.plans import Plan
from nodes.operations.run.autostart import put_back_all
from nodes.operations.same_account import listed, others_on_account
from nodes.operations.scheduling import cordon
from nodes.operations.slots import in_use
from nodes.operations.vm_steps import vm_step_plans
from nodes.permissions import DELETE

REMOVE_KEY = "remove_key"


class DeleteNode(PlannedKind):
    """The host is left as it is, but for nodeadmin's own key where its removal was asked for. One that is
    gone for good, as ``force`` says and the plan has found, is not even asked about VMs.

    The node's row goes with its credential, BMC and inventories; events and operations stay, by name.
    """

    kind = "delete-node"
    permission = DELETE
    removes_node = True

    def title(self, operation: Operation) -> str:
        return _("Delete %s") % operation.node_name

    def steps_of(self, plan: Plan, params: JsonObject) -> Sequence[StepPlan]:
        vms = vm_step_plans(plan)
        # Otherwise VMs could come while others go.
        first = (StepPlan("cordon", _("Enter maintenance")),) if vms else ()
        key = (StepPlan(REMOVE_KEY, _("Remove nodeadmin's key from the host")),)
        last = key if params.get("remove_key") else ()
        return (check_step(), *first, *vms, *last, StepPlan("remove", _("Remove the node")))

    def execute(self, run: Run) -> JsonObject:
        if run.operation.node is None:
            return self._removed_before(run)
        work = PlanRun(run)
        forced = work.options.force and not work.plan.vms_known
        if not run.data_of(REMOVE_KEY).get("removing"):
            self._empty(work, forced=forced)
            if work.options.remove_key and not forced:
                work.ensure_empty()  # once the key is gone, nobody looks again
        left = self._remove_key(run, work.node) if work.options.remove_key else ""
        with run.step("remove"):
            if not forced and not run.data_of(REMOVE_KEY).get("removing"):
                work.ensure_empty()
            self._remove(run, work.node, forced=forced, key_left_on_host=left)
        return {"node": run.operation.node_name, **({"key_left_on_host": left} if left else {})}

    def _empty(self, work: PlanRun, *, forced: bool) -> None:
        run = work.run
        if forced:
            with run.step("check") as step:
                step.skip(_("The host is gone, and is not asked."))
        else:
            work.check()
        if run.status_of("cordon") and not work.done("cordon"):
            with run.step("cordon"), run.fenced():
                reason = _("Is being deleted")
                cordon(work.node, reason=reason, actor=run.actor, operation=run.operation)
        work.deal_with_vms(go_on=False, empties=not forced)
        if not forced:
            self._put_autostart_back(work)

    def _remove_key(self, run: Run, node: Node) -> str:
        """Gives ``user@host`` where the key stays, "" where it is gone. A host that does not answer or
        refuses raises nothing: the node goes all the same."""
        with run.step(REMOVE_KEY) as step:
            target = access.target_for(node)
            where = f"{target.user}@{target.address}"
            if target.transport != "ssh":
                step.skip(_("This kind of node has no authorized_keys."))
                return ""
            if users := others_on_account(target, node):
                step.warn(
                    _("The key stays on %(host)s: %(user)s needs it.")
                    % {"host": where, "user": listed(users)}
                )
                return where
            cut_off = bool(step.data.get("removing"))
            try:
                access.connect_once(target).close()
                step.report(_("Removing the key."), data={"removing": True})
                count = remove_own_keys(target, node)
            except NodeAdminError as failure:
                if isinstance(failure, ClaimLost):
                    raise
                if cut_off and isinstance(failure, AuthenticationFailed):
                    step.report(_("Removed from %s.") % where)  # by the run before
                    return ""
                step.warn(
                    _("nodeadmin's key stays in authorized_keys of %(host)s: %(why)s")
                    % {"host": where, "why": failure.message}
                )
                return where
            words = _("Removed from %s.") if count else _("%s had none of nodeadmin's keys.")
            step.report(words % where)
            return ""

    def _put_autostart_back(self, work: PlanRun) -> None:
        """Raise where that fails: once the node is gone, nobody knows of what is held on its host."""
        left = put_back_all(work.run, work.node)
        if left:
            raise AutostartHeld(
                _("The held autostart of these VMs could not be put back: %s. The node is not removed.")
                % ", ".join(left),
                remedy=_("See that libvirt on the host answers, and try again."),
                extra={"vms": left},
            )

    def _remove(self, run: Run, node: Node, *, forced: bool, key_left_on_host: str) -> None:
        key = str(node.uuid)
        with run.fenced():
            record(
                "node_removed",
                _("%s was removed without asking its host.") % node.name
                if forced
                else _("%s was removed; its host was left as it is.") % node.name,
                node_name=node.name,
                actor=run.actor,
                operation=run.operation,
                severity=Severity.WARNING,
                data={
                    "uuid": key,
                    "uri": node.uri,
                    "forced": forced,
                    "key_left_on_host": key_left_on_host or None,
                },
            )
            busy = in_use(node)
            _count, gone = Node.objects.filter(pk=node.pk).delete()
            # Counted again: a place that was taken in between goes with the node.
            if (busy or gone.get("nodes.MigrationSlot")) and not forced:
                raise NodeBusy(
                    _("A VM is on its way to this node or off it, by another operation."),
                    remedy=_("Wait for it to end, and try again."),
                )
            run.operation.node = None
            publish(NodeChanged(key, node.name))
        access.pool().drop_node(key)

    def _removed_before(self, run: Run) -> JsonObject:
        """The process died after the commit that removed the node; what was left to do is little."""
        if run.status_of("remove") not in (StepStatus.RUNNING, StepStatus.SUCCEEDED):
            raise removed()
        with run.step("remove", even_cancelled=True):
            access.pool().drop_node(run.operation.plan["node_uuid"] if run.operation.plan else "")
        return {"node": run.operation.node_name}
