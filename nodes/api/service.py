"""The endpoints that take nodes in and out of service, and the export that is offered before a node goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from nodes.api.idempotency import idempotent
from nodes.api.inputs import NodeInput
from nodes.api.operation_answers import OperationAnswer
from nodes.api.schema import documented, ref
from nodes.api.service_answers import ExportAnswer, ExportedSection
from nodes.api.service_inputs import (
    DeleteNodeInput,
    DisableNodeInput,
    EnableNodeInput,
    RebootNodeInput,
    ShutdownNodeInput,
)
from nodes.api.viewsets import EXAMPLE_NODE, Endpoints
from nodes.engine import requests
from nodes.models import Node, Operation, SnapshotSection
from nodes.permissions import get_node

EITHER = {"oneOf": [ref("NodeDetail"), ref("OperationAnswer")]}
PLANNED = (
    "Made without `confirm_token` it changes nothing and answers `428` with the plan, for which it asks the "
    "hosts, for 15 seconds at most, and a token. The same call with the token, within five minutes, does it. "
)
AUTOSTART = (
    "VMs with autostart start with the host; where the node stays in maintenance that is held until it "
    "leaves it (`hold_autostart`). "
)
FORMAT = "nodeadmin-node/1"


class ServiceEndpoints(Endpoints):
    def _asked(self, serializer: Any) -> tuple[Node, dict[str, Any], str]:
        """The node, the options and the token of a call."""
        data: Mapping[str, Any] = self.read(serializer)
        options = {name: value for name, value in data.items() if name not in ("node", "confirm_token")}
        return get_node(self.user, data["node"]), options, data.get("confirm_token", "")

    def _done(self, outcome: Operation | Node) -> Response:
        if isinstance(outcome, Operation):
            return self.accepted(outcome)
        return Response(self.detail_of(outcome))

    @documented(
        "Leave maintenance",
        EnableNodeInput,
        EITHER,
        example=EXAMPLE_NODE,
        long=True,
        confirmed=True,
        description="At once (200, the node). With `return_vms` by an operation that also brings back what "
        f"the last drain moved away, where that still is where it was moved. {PLANNED}"
        "Autostart that was held on the host is put back as soon as its libvirt answers; until then "
        "`held_autostart` lists it. "
        "Needs `maintain_node`, for `return_vms` on the nodes that the VMs are on as well.",
    )
    @idempotent
    def enable_node(self, request: Request) -> Response:
        node, options, token = self._asked(EnableNodeInput)
        return self._done(requests.enable_node(self.actor, node, options, token, **self.tracked))

    @documented(
        "Enter maintenance",
        DisableNodeInput,
        EITHER,
        example=EXAMPLE_NODE | {"reason": "A fan is to be replaced.", "drain": True},
        long=True,
        confirmed=True,
        description="At once (200, the node): nodeadmin places nothing on the node any more. Other libvirt "
        "clients (virsh, virt-manager) are not held back by it; a VM that comes to run there is an event "
        "(`vm_runs_in_maintenance`). With `drain` by an operation "
        f"that also empties the node. {PLANNED}Needs `maintain_node`; VMs move only to nodes on which the "
        "user has it, too.",
    )
    @idempotent
    def disable_node(self, request: Request) -> Response:
        node, options, token = self._asked(DisableNodeInput)
        return self._done(requests.disable_node(self.actor, node, options, token, **self.tracked))

    @documented(
        "Delete a node",
        DeleteNodeInput,
        OperationAnswer,
        example=EXAMPLE_NODE | {"vm_policy": "migrate"},
        long=True,
        confirmed=True,
        description="The host itself is left as it is, but for nodeadmin's own key with `remove_key`. The "
        "node's credential and inventory are deleted, its events are kept. Refused while VMs run on it, "
        "unless `vm_policy` says to migrate them. "
        f"{PLANNED}Needs `delete_node`.",
    )
    @idempotent
    def delete_node(self, request: Request) -> Response:
        node, options, token = self._asked(DeleteNodeInput)
        return self._done(requests.delete_node(self.actor, node, options, token, **self.tracked))

    @documented(
        "Reboot a node",
        RebootNodeInput,
        OperationAnswer,
        example=EXAMPLE_NODE | {"vm_policy": "stop", "restart_vms": True},
        long=True,
        confirmed=True,
        description=f"Refused while VMs run on it, unless `vm_policy` says what happens to them. {PLANNED}"
        f"{AUTOSTART}Needs `power_node`.",
    )
    @idempotent
    def reboot_node(self, request: Request) -> Response:
        node, options, token = self._asked(RebootNodeInput)
        return self._done(requests.reboot_node(self.actor, node, options, token, **self.tracked))

    @documented(
        "Shut a node down",
        ShutdownNodeInput,
        OperationAnswer,
        example=EXAMPLE_NODE | {"vm_policy": "migrate"},
        long=True,
        confirmed=True,
        description=f"Refused while VMs run on it, unless `vm_policy` says what happens to them. {PLANNED}"
        f"{AUTOSTART}Needs `power_node`.",
    )
    @idempotent
    def shutdown_node(self, request: Request) -> Response:
        node, options, token = self._asked(ShutdownNodeInput)
        return self._done(requests.shutdown_node(self.actor, node, options, token, **self.tracked))

    @documented(
        "A node's configuration and inventory",
        NodeInput,
        ExportAnswer,
        example=EXAMPLE_NODE,
        description="One JSON file with everything that is known of the node, and no secret: worth keeping "
        "before a node is deleted.",
    )
    def export_node(self, request: Request) -> Response:
        node = get_node(self.user, self.read(NodeInput)["node"])
        rows = SnapshotSection.objects.filter(snapshot=node.snapshot_id).order_by("slug")
        answer = ExportAnswer(
            format=FORMAT,
            exported_at=timezone.now(),
            node=self.detail_of(node),
            host_key=node.host_key or None,
            inventory={row.slug: ExportedSection(row.facts, row.problems) for row in rows},
        )
        name = f'attachment; filename="{node.name}.json"'
        return Response(answer, headers={"Content-Disposition": name})
