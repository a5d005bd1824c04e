"""add-node: from an address to a node, or to a named step that failed with nothing left behind."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import IntegrityError
from django.db.models import Q
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import DuplicateHost
from nodes.events import NodeChanged, publish
from nodes.hosts.connection import HostConnection
from nodes.inventory.identity import HostIdentity
from nodes.models import Credential, Node, Operation, User
from nodes.operations.base import JsonObject, OperationKind, Run, StepPlan
from nodes.operations.connection_rules import check_add, refuse_taken_name
from nodes.operations.connection_state import note_contact
from nodes.operations.key_install import install_own_key, login_of, take_back, taking_key_back
from nodes.operations.reaching import check_rights, open_connection, reach_steps
from nodes.operations.snapshots import Taken, identity_of, store_snapshot, take_inventory
from nodes.permissions import ADD, nodes_for
from nodes.trusted_labels import hold_labels, require_label_change


class AddNode(OperationKind):
    """The node's row appears in the last step, whole: with its credential, host key and inventory.

    Run again after a crash, every step before the last repeats what only reads the host; the last one
    finds by ``joined_by`` whether it had committed.
    """

    kind = "add-node"
    permission = ADD
    needs_node = False

    def title(self, operation: Operation) -> str:
        return _("Add %(name)s (%(uri)s)") % {
            "name": operation.node_name,
            "uri": operation.params.get("uri", ""),
        }

    def subject(self, node: Node | None, node_name: str) -> str:
        return f"name:{node_name}"

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
            StepPlan("identity", _("Compare with known hosts")),
            StepPlan("join", _("Join")),
        )

    def check(self, user: User, node: Node | None, node_name: str, params: JsonObject) -> None:
        check_add(user, node_name, params)

    def execute(self, run: Run) -> JsonObject:
        joined = _joined(run)
        if joined is None:
            joined = taking_key_back(run, lambda: self._add(run))
        else:
            with run.step("join", even_cancelled=True):
                pass
        return {"node": joined.name, "uuid": str(joined.uuid)}

    def denied(self, run: Run) -> bool:
        if _joined(run) is not None:
            return True
        take_back(run)
        return False

    def _add(self, run: Run) -> Node:
        run.check_request()
        params = run.operation.params
        login = login_of(run)
        opened, login = open_connection(run, login, params.get("fingerprint", ""))
        with opened as connection:
            check_rights(run, connection)
            if params.get("install_key"):
                login = install_own_key(run, connection, login)
            check_libvirt(run, connection)
            with run.step("inventory") as step:
                taken = take_inventory(connection, None)
                step.report(_("%d sources read") % len(taken.document.sources))
        with run.step("identity") as step:
            identity = identity_of(taken)
            refuse_duplicate(run.operation.requester, identity, own=None)
            step.report("" if identity else _("The host shows no identity; duplicates cannot be told."))
        with run.step("join"):
            return self._join(run, login, taken, identity)

    def _join(self, run: Run, login: access.Login, taken: Taken, identity: HostIdentity | None) -> Node:
        params = run.operation.params
        node = Node(
            name=run.operation.node_name,
            uri=login.uri.canonical(),
            node_type=params["type"],
            labels=params.get("labels", {}),
            joined_by=run.operation.pk,
            machine_id=(identity.machine_id or "") if identity else "",
            firmware_uuid=(identity.firmware_uuid or "") if identity else "",
            identity=identity.digest if identity else None,
            jump_host=login.jump_host,
        )
        access.pin(node, login.host_key)
        try:
            with run.fenced():
                access.lock_jump_host(login.jump_host)
                hold_labels()
                require_label_change(run.operation.requester, {}, node.labels)
                node.save()
                if login.kind:
                    Credential.objects.create(
                        node=node, kind=login.kind, own_key_id=login.own_key, **login.secrets_to_keep()
                    )
                store_snapshot(node, taken)
                note_contact(node)
                run.operation.node = node
                run.operation.save(update_fields=["node"])
                publish(NodeChanged(str(node.uuid), node.name))
        except IntegrityError:
            # Somebody else took the name or added the same host while we looked at it.
            refuse_taken_name(node.name)
            refuse_duplicate(run.operation.requester, identity, own=None)
            raise
        return node


def _joined(run: Run) -> Node | None:
    """The node, where an earlier run has committed it."""
    return Node.objects.filter(joined_by=run.operation.pk).first()


def check_libvirt(run: Run, connection: HostConnection) -> None:
    """The step in which libvirt answers with its version."""
    with run.step("libvirt") as step:
        version = connection.hypervisor().version_text()
        step.report(_("libvirt %s") % version)


def known_identity(node: Node) -> HostIdentity:
    """The identity that the node's host showed; a part that it did not show is None."""
    return HostIdentity(node.machine_id or None, node.firmware_uuid or None, node.identity or "")


def refuse_duplicate(user: User | None, identity: HostIdentity | None, *, own: Node | None) -> None:
    """Raise DuplicateHost where another node is the same machine; it is named if the user may see it."""
    if identity is None:
        return
    likely = Q(machine_id=identity.machine_id) & ~Q(machine_id="")
    likely |= Q(firmware_uuid=identity.firmware_uuid) & ~Q(firmware_uuid="")
    others = Node.objects.filter(likely)
    if own is not None:
        others = others.exclude(pk=own.pk)
    twin = next((node for node in others if identity.same_host(known_identity(node))), None)
    if twin is None:
        return
    visible = user is not None and nodes_for(user).filter(pk=twin.pk).exists()
    raise _duplicate(twin.name if visible else "", identity, known_identity(twin))


def _duplicate(name: str, identity: HostIdentity, known: HostIdentity) -> DuplicateHost:
    """``name`` is that of the node, "" where it is not to be told."""
    found = _("This host is the node “%s” already.") % name if name else _("This host is a node already.")
    if identity.machine_id is not None and identity.machine_id == known.machine_id:
        return DuplicateHost(
            " ".join([found, _("Both have the machine ID %s.") % identity.machine_id]),
            remedy=_(
                "To change how the node is reached, update that node. If this is another machine, it was "
                "cloned with its machine ID. Give it one of its own, as root on the clone: “rm -f "
                "/etc/machine-id /var/lib/dbus/machine-id; systemd-machine-id-setup; reboot”. Then add it."
            ),
            field="uri",
            extra={"machine_id": identity.machine_id},
        )
    return DuplicateHost(
        " ".join([found, _("Both have the firmware UUID %s.") % identity.firmware_uuid]),
        remedy=_(
            "To change how the node is reached, update that node. If this is another machine, its firmware "
            "repeats the UUID of another board (dmidecode -s system-uuid): let the firmware's set-up or the "
            "vendor's tool write one of its own, or connect as a user who may read the machine ID."
        ),
        field="uri",
    )
