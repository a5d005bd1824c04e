"""refresh-node: a new inventory of a node, and what it tells about the node's state."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import F
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import HostError
from nodes.hosts.connection import HostConnection
from nodes.models import Node, Operation
from nodes.operations.base import JsonObject, OperationKind, Run, StepPlan, removed
from nodes.operations.connection_state import note_contact, note_failure, note_mute_libvirt
from nodes.operations.node_state.maintenance_vms import note_running
from nodes.operations.run.autostart import put_back_due
from nodes.operations.run.wanted import while_wanted
from nodes.operations.snapshots import store_snapshot, take_inventory
from nodes.permissions import VIEW

MOST_FAILURES = 100
"""Where counting them ends: nothing depends on more."""

SECOND_LOOK_S = 45.0
"""A libvirt that has just been started, and has many VMs to find again, answers nobody for half a minute."""


class RefreshNode(OperationKind):
    """Several asked for at once are one: it excludes only other refreshes, never work on the node."""

    kind = "refresh-node"
    permission = VIEW
    audited = False

    def title(self, operation: Operation) -> str:
        return _("Refresh the inventory of %s") % operation.node_name

    def subject(self, node: Node | None, node_name: str) -> str:
        return f"refresh:{node.uuid if node is not None else node_name}"

    def steps(self, node: Node | None, params: JsonObject) -> Sequence[StepPlan]:
        return (
            StepPlan("connect", _("Connect")),
            StepPlan("inventory", _("Take the inventory")),
            StepPlan("store", _("Store it")),
        )

    def execute(self, run: Run) -> JsonObject:
        node = run.operation.node
        if node is None:
            raise removed()
        login: access.Login | None = None
        try:
            with run.step("connect"):
                login = access.Login.of_node(node)
                connection = access.connect(login.target())
            put_back_due(run, node, connection)
            return self._refresh(run, node, connection)
        except HostError as error:
            with run.fenced():
                _count_failure(node)
                # Of a login that was replaced meanwhile the failure tells nothing.
                if login is None or access.Login.of_node(node) == login:
                    note_failure(node, error)
            raise

    def _refresh(self, run: Run, node: Node, connection: HostConnection) -> JsonObject:
        with run.step("inventory") as step:
            with while_wanted(run):
                taken = take_inventory(connection, access.last_good(node), node)
            step.report(_("%d sources read") % len(taken.document.sources))
            is_mute = taken.libvirt_is_mute and not libvirt_answers(connection)
        with run.step("store") as step:
            with run.fenced():
                failures = (
                    Node.objects.filter(pk=node.pk).values_list("inventory_failures", flat=True).first()
                )
                snapshot, changes = store_snapshot(node, taken)
                note_running(node, taken.inventory)
                if is_mute:
                    # It has held a thread for as long as one whose probe hangs: no end of its failures.
                    Node.objects.filter(pk=node.pk).update(inventory_failures=failures or 0)
                    _count_failure(node)
                    note_mute_libvirt(node)
                else:
                    note_contact(node)
            step.report(_("%d changes") % len(changes))
        # Once more, for what has become due since: who asked for it was answered with this refresh.
        put_back_due(run, node, connection)
        return {"snapshot": snapshot.pk, "observed_at": taken.document.observed_at, "changes": len(changes)}


def _count_failure(node: Node) -> None:
    """Hosts that fail again and again are asked ever more seldom, and hold few threads (engine/queues.py)."""
    known = Node.objects.filter(pk=node.pk, inventory_failures__lt=MOST_FAILURES)
    known.update(inventory_failures=F("inventory_failures") + 1)


def libvirt_answers(connection: HostConnection) -> bool:
    """Whether libvirt answers one who is more patient: the second sign, before it counts as mute."""
    try:
        connection.hypervisor(SECOND_LOOK_S).version_text()
    except HostError:
        return False
    return True
