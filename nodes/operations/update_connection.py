"""update-node with a new address, credential or host key: tried on the host before the old ones go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from django.db import transaction
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import InvalidInput
from nodes.events import NodeChanged, publish
from nodes.models import Credential, Node, Operation, StepStatus, User
from nodes.operations.add_node import check_libvirt, known_identity, refuse_duplicate
from nodes.operations.base import JsonObject, OperationKind, Run, StepPlan, removed
from nodes.operations.connection_rules import check_update
from nodes.operations.connection_state import note_contact
from nodes.operations.key_install import install_own_key, login_of, take_back, taking_key_back
from nodes.operations.reaching import check_rights, open_connection, reach_steps
from nodes.operations.snapshots import Taken, identity_of, store_snapshot, take_inventory
from nodes.permissions import CHANGE

REPLACE = "replace"


class UpdateConnection(OperationKind):
    """The old connection data stays in force until the new has proved to reach the same host."""

    kind = "update-node"
    permission = CHANGE

    def title(self, operation: Operation) -> str:
        return _("Change how %s is reached") % operation.node_name

    def steps(self, node: Node | None, params: JsonObject) -> Sequence[StepPlan]:
        install = (
            (StepPlan("install_key", _("Install nodeadmin's key")),) if params.get("install_key") else ()
        )
        return (
            *reach_steps(),
            StepPlan("rights", _("Check the user's rights")),
            *install,
            StepPlan("libvirt", _("Ask libvirt")),
            StepPlan("inventory", _("Take the inventory")),
            StepPlan("identity", _("Check that it is the same host")),
            StepPlan(REPLACE, _("Replace the connection")),
        )

    def check(self, user: User, node: Node | None, node_name: str, params: JsonObject) -> None:
        if node is None:
            raise removed()
        check_update(user, node, params)

    def execute(self, run: Run) -> JsonObject:
        node = run.operation.node
        if node is not None and _is_replaced(run):
            # The process died after that commit: whatever has happened since, the new connection is in force.
            with run.step(REPLACE, even_cancelled=True):
                return {"node": node.name, "uri": node.uri}
        return taking_key_back(run, lambda: self._change(run))

    def denied(self, run: Run) -> bool:
        if _is_replaced(run):
            return True
        take_back(run)
        return False

    def _change(self, run: Run) -> JsonObject:
        node = run.operation.node
        if node is None:
            raise removed()
        run.check_request()
        login = login_of(run, node)
        opened, login = open_connection(run, login, run.operation.params.get("fingerprint", ""))
        with opened as connection:
            check_rights(run, connection)
            if run.operation.params.get("install_key"):
                login = install_own_key(run, connection, login)
            check_libvirt(run, connection)
            with run.step("inventory"):
                taken = take_inventory(connection, None, node)
        with run.step("identity"):
            self._check_same_host(run, node, taken)
        with run.step(REPLACE):
            run.require_rights()
            self._replace(run, node, login, taken)
        return {"node": node.name, "uri": node.uri}

    def _check_same_host(self, run: Run, node: Node, taken: Taken) -> None:
        identity = identity_of(taken)
        refuse_duplicate(run.operation.requester, identity, own=node)
        if node.identity is not None and (identity is None or not identity.same_host(known_identity(node))):
            raise InvalidInput(
                _("Another host answers at this address: its machine ID and firmware UUID differ."),
                remedy=_("Check the address. A replaced machine is added as a new node."),
                field="uri",
            )

    def _replace(self, run: Run, node: Node, login: access.Login, taken: Taken) -> None:
        with run.fenced():
            node.uri = login.uri.canonical()
            access.pin(node, login.host_key)
            access.lock_jump_host(login.jump_host)
            node.jump_host = login.jump_host
            node.save(update_fields=["uri", "host_key", "host_key_fingerprint", "jump_host", "updated_at"])
            if login.kind:
                defaults = {"kind": login.kind, "own_key_id": login.own_key, **login.secrets_to_keep()}
                Credential.objects.update_or_create(node=node, defaults=defaults)
            else:
                Credential.objects.filter(node=node).delete()
            # In the row alone: the step at hand is written also where this transaction fails.
            run.operation.steps.filter(code=REPLACE).update(data={"replaced": True})
            # What was opened with the old login ends with it.
            transaction.on_commit(partial(access.pool().drop_node, str(node.uuid)))
            store_snapshot(node, taken)
            note_contact(node)
            publish(NodeChanged(str(node.uuid), node.name))


def _is_replaced(run: Run) -> bool:
    """Whether an earlier run has committed the new connection."""
    return run.status_of(REPLACE) == StepStatus.SUCCEEDED or bool(run.data_of(REPLACE).get("replaced"))
