"""The endpoints. Each checks its input, asks permissions, and reads rows or queues an operation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar, cast

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from nodes.api import inputs
from nodes.api.answers import (
    EventAnswer,
    EventPage,
    HostKeyAnswer,
    HostKeysAnswer,
    MissingHostKeysAnswer,
    NodeAnswer,
    NodeDetail,
    NodePage,
)
from nodes.api.idempotency import idempotent
from nodes.api.operation_answers import OperationAnswer, OperationPage, operation_answer
from nodes.api.schema import documented
from nodes.api.service_inputs import RetryOperationInput
from nodes.credential_use import with_uses_today
from nodes.engine import bmc, requests, scans
from nodes.engine.queues import waiting_of
from nodes.engine.service import needs_confirmation
from nodes.engine.submit import cancel, retry, wait_for
from nodes.engine.waits import waiting
from nodes.errors import InvalidInput, UnknownOperation
from nodes.events import Actor
from nodes.models import (
    ApiToken,
    Bmc,
    Credential,
    Event,
    HeldAutostart,
    Node,
    Operation,
    SnapshotSection,
    User,
)
from nodes.models.event import Category, Via
from nodes.operations.registry import kind_of
from nodes.permissions import events_for, get_node, nodes_for, operations_for, permissions_on, require
from nodes.selection import order_nodes, select_nodes

PREFER_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,18})"?\s*(?:$|[,;])', re.ASCII | re.IGNORECASE)
MAX_WAIT_S = 60
Row = TypeVar("Row", bound=Any)
EXAMPLE_NODE = {"node": "kvm-01"}
FRESHNESS = (
    "Answers from the newest inventory and says how old it is. With `refresh` a new one is taken first and "
    "waited for, for at most `wait_s` seconds; what is then answered is the newest there is."
)


class Endpoints(ViewSet):
    """What all endpoints share."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if prefer_wait(request) and request.user.is_authenticated:
            # Before anything is queued: what is refused has then not been done.
            self._places = ExitStack()
            self._places.enter_context(waiting(self.actor))

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        places: ExitStack | None = getattr(self, "_places", None)
        if places is not None:
            places.close()
        return super().finalize_response(request, response, *args, **kwargs)

    def read(self, serializer: type[inputs.Input]) -> Mapping[str, Any]:
        """The checked body. Raises DRF's ValidationError, which becomes ``invalid_input``."""
        data = self.request.data
        if not isinstance(data, dict):
            raise InvalidInput(_("The body must be a JSON object."))
        checked = serializer(data=data)
        checked.is_valid(raise_exception=True)
        return cast("Mapping[str, Any]", checked.validated_data)

    @property
    def user(self) -> User:
        return cast("User", self.request.user)

    @property
    def actor(self) -> Actor:
        token = self.request.auth
        address = client_address(self.request)
        if isinstance(token, ApiToken):
            return Actor(self.user, address, Via.API, token.name)
        return Actor(self.user, address, Via.API, session_key=self.request.session.session_key or "")

    @property
    def tracked(self) -> dict[str, Any]:
        """What ties an operation to this request."""
        return {
            "request_id": getattr(self.request._request, "request_id", "") or "",
            "idempotency": getattr(self.request, "idempotency_key", None),
        }

    def detail_of(self, node: Node) -> NodeDetail:
        """The node as its endpoints answer it."""
        problems: list[dict[str, Any]] = []
        for rows in SnapshotSection.objects.filter(snapshot=node.snapshot_id).values_list(
            "problems", flat=True
        ):
            problems += rows
        credential = with_uses_today(Credential.objects.filter(node=node).only("kind")).first()
        row = Bmc.objects.filter(node=node).defer("secret").first()
        held = HeldAutostart.objects.filter(node=node)
        floods = node.floods.all() if node.flood else ()
        return NodeDetail.of(node, permissions_on(self.user, node), problems, credential, row, held, floods)

    def described(self, data: Mapping[str, Any], columns: Sequence[str] = ()) -> Node:
        """The node that a describe endpoint is asked for; with ``refresh`` after a new inventory, or after
        ``wait_s``."""
        node = get_node(self.user, data["node"], columns=columns)
        if data["refresh"]:
            with waiting(self.actor):
                wait_for(requests.refresh_node(self.actor, node, **self.tracked), data["wait_s"])
            node = get_node(self.user, str(node.uuid), columns=columns)
        return node

    def accepted(self, operation: Operation) -> Response:
        """202 with the operation; with ``Prefer: wait=N`` 200 once it has ended within N seconds."""
        wait_s = prefer_wait(self.request)
        if wait_s:
            operation = wait_for(operation, wait_s)
        ended = wait_s > 0 and operation.is_finished
        headers = {"Preference-Applied": f"wait={wait_s}"} if wait_s else {}
        return Response(operation_answer(operation), status=200 if ended else 202, headers=headers)


def client_address(request: Request) -> str | None:
    """The client's address, by nodeadmin/proxies.py."""
    return request.META.get("REMOTE_ADDR") or None


def prefer_wait(request: Request) -> int:
    """Seconds of ``Prefer: wait=N`` (RFC 7240), at most 60; 0 without."""
    found = PREFER_WAIT.search(request.headers.get("Prefer", ""))
    return min(int(found[1]), MAX_WAIT_S) if found else 0


def page_of(rows: QuerySet[Row], data: Mapping[str, Any]) -> tuple[int, list[Row]]:
    """The count of all rows and those of the page that was asked for."""
    start = (data["page"] - 1) * data["page_size"]
    return rows.count(), list(rows[start : start + data["page_size"]])


class NodeEndpoints(Endpoints):
    @documented(
        "The keys a host shows",
        inputs.ScanHostKeyInput,
        HostKeysAnswer,
        example={"uri": "qemu+ssh://root@kvm-01.example.org/system"},
        description="Reaches out to the host, for 15 seconds at most, with no credential. It trusts nothing: "
        "compare a fingerprint on the host's console and send it with add-node. Where `complete` is false, "
        "`missing` says for which key types the host did not answer, and why. Where no SSH server is there, "
        "the answer comes after those 15 seconds, and is the same for whatever is there instead. Needs "
        "`scan_host`; scans are counted for each user.",
        errors=(
            (403, "permission_denied"),
            (409, "jump_host_key_mismatch"),
            (422, "address_denied, jump_host_auth_failed, jump_host_forwarding_refused"),
            (429, "rate_limited"),
            (502, "host_unreachable, jump_host_unreachable, jump_host_failed"),
            (504, "timeout"),
        ),
    )
    def scan_host_key(self, request: Request) -> Response:
        data = self.read(inputs.ScanHostKeyInput)
        uri, scan = scans.scan_host_key(self.actor, data["uri"], data.get("jump_host", ""))
        shown = [HostKeyAnswer(key.type, key.fingerprint) for key in scan.keys]
        missing = [
            MissingHostKeysAnswer(list(item.types), item.error.code, item.error.detail())
            for item in scan.missing
        ]
        return Response(HostKeysAnswer(uri.host, uri.port, shown, HOW_TO_COMPARE, scan.complete, missing))

    @documented(
        "Add a node",
        inputs.AddNodeInput,
        OperationAnswer,
        example={
            "name": "kvm-01",
            "uri": "qemu+ssh://root@kvm-01.example.org/system",
            "type": "compute",
            "host_key_fingerprint": "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "credential": {"kind": "nodeadmin_key"},
            "labels": {"rack": "a1"},
        },
        long=True,
        errors=((409, "node_exists, node_busy"), (422, "host_key_required, idempotency_key_reused")),
    )
    @idempotent
    def add_node(self, request: Request) -> Response:
        data = self.read(inputs.AddNodeInput)
        operation = requests.add_node(
            self.actor,
            name=data["name"],
            uri=data["uri"],
            node_type=data["type"],
            labels=data.get("labels"),
            fingerprint=data.get("host_key_fingerprint", ""),
            key_type=data.get("host_key_type", ""),
            credential=data.get("credential"),
            jump_host=data.get("jump_host", ""),
            **self.tracked,
        )
        return self.accepted(operation)

    @documented(
        "Nodes, filtered and ordered",
        inputs.ListNodesInput,
        NodePage,
        example={"status": "online", "type": "compute", "order_by": "-memory_used_percent", "page_size": 50},
    )
    def list_nodes(self, request: Request) -> Response:
        data = self.read(inputs.ListNodesInput)
        nodes = order_nodes(
            select_nodes(nodes_for(self.user).select_related("jump_host").defer("jump_host__secret"), data),
            data.get("order_by", ""),
            data.get("name", ""),
        )
        count, page = page_of(nodes, data)
        return Response(NodePage(count, [NodeAnswer.of(node) for node in page]))

    @documented("One node", inputs.DescribeInput, NodeDetail, example=EXAMPLE_NODE, description=FRESHNESS)
    def describe_node(self, request: Request) -> Response:
        return Response(self.detail_of(self.described(self.read(inputs.DescribeInput))))

    @documented("Take a new inventory", inputs.NodeInput, OperationAnswer, example=EXAMPLE_NODE, long=True)
    @idempotent
    def refresh_node(self, request: Request) -> Response:
        node = get_node(self.user, self.read(inputs.NodeInput)["node"])
        return self.accepted(requests.refresh_node(self.actor, node, **self.tracked))

    @documented(
        "Change a node",
        inputs.UpdateNodeInput,
        {
            "oneOf": [
                {"$ref": "#/components/schemas/NodeDetail"},
                {"$ref": "#/components/schemas/OperationAnswer"},
            ]
        },
        example={"node": "kvm-01", "labels": {"rack": "a2"}, "notes": "Second power supply replaced."},
        long=True,
        description="Name, type, labels, notes and migration address are changed at once (200, the node). An "
        "address, a credential, a host key or a jump host (null for none) is checked against the host first "
        "(202, an operation); the other changes of the same call are then made at once, too. A BMC is tried "
        "before it is kept, within the call, for 15 seconds at most: `502 bmc_failed` says in `reason` what "
        "was wrong (for `certificate_unknown`, `shown` is the fingerprint to compare and send), and nothing "
        "changes.",
        errors=(
            (409, "node_exists, node_busy"),
            (422, "host_key_required"),
            (502, "bmc_failed, bmc_unreachable, bmc_busy"),
        ),
    )
    @idempotent
    def update_node(self, request: Request) -> Response:
        data = self.read(inputs.UpdateNodeInput)
        node = get_node(self.user, data["node"])
        plain = {name: data[name] for name in requests.EDITABLE if name in data}
        connection = {"uri", "credential", "host_key_fingerprint", "jump_host"} & set(data)
        if not plain and not connection and "bmc" not in data:
            raise InvalidInput(
                _("The request changes nothing."), remedy=_("Name at least one field to change.")
            )
        # Before the transaction, which must not be held open while a BMC is asked.
        if connection or "bmc" in data:
            requests.expect_factor(self.actor, node)
        tried = bmc.try_bmc(self.actor, node, data["bmc"]) if data.get("bmc") else None
        with transaction.atomic():  # a call that is refused has changed nothing
            node = requests.update_node(self.actor, node, plain)
            factor_used = False
            if tried is not None:
                bmc.keep_bmc(self.actor, node, *tried)
                factor_used = True
            elif "bmc" in data:
                factor_used = bmc.remove_bmc(self.actor, node)
            if not connection:
                return Response(self.detail_of(node))
            operation = requests.update_connection(
                self.actor,
                node,
                uri=data.get("uri", ""),
                fingerprint=data.get("host_key_fingerprint", ""),
                key_type=data.get("host_key_type", ""),
                credential=data.get("credential"),
                jump_host=(data["jump_host"] or "") if "jump_host" in data else None,
                factor_used=factor_used,
                **self.tracked,
            )
        return self.accepted(operation)


HOW_TO_COMPARE = "for f in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $f; done"


class OperationEndpoints(Endpoints):
    def _find(self, operation_id: Any) -> Operation:
        rows = operations_for(self.user).select_related("node").defer("secret")
        found = rows.filter(pk=operation_id).first()
        if found is None:
            raise UnknownOperation(_("There is no such operation, or you may not see it."), field="operation")
        return found

    @documented(
        "Operations, newest first",
        inputs.ListOperationsInput,
        OperationPage,
        example={"node": "kvm-01", "status": "failed"},
    )
    def list_operations(self, request: Request) -> Response:
        data = self.read(inputs.ListOperationsInput)
        rows = operations_for(self.user).select_related("node").prefetch_related("steps").defer("secret")
        if "node" in data:
            rows = rows.filter(node=get_node(self.user, data["node"]))
        count, page = page_of(within(rows, data, {"status": "status", "kind": "kind"}), data)
        waiting = waiting_of(page)
        return Response(OperationPage(count, [OperationAnswer.of(row, waiting.get(row.pk)) for row in page]))

    @documented(
        "One operation",
        inputs.OperationInput,
        OperationAnswer,
        example={"operation": "0b6ad36c-56e9-4ba1-8c6c-2c0f1f0a8b53"},
    )
    def describe_operation(self, request: Request) -> Response:
        return Response(operation_answer(self._find(self.read(inputs.OperationInput)["operation"])))

    @documented(
        "Cancel an operation",
        inputs.OperationInput,
        OperationAnswer,
        example={"operation": "0b6ad36c-56e9-4ba1-8c6c-2c0f1f0a8b53"},
        changes=True,
        description="A queued operation ends at once, a running one between two steps.",
    )
    @idempotent
    def cancel_operation(self, request: Request) -> Response:
        operation = self._find(self.read(inputs.OperationInput)["operation"])
        self._require(operation)
        return Response(operation_answer(cancel(operation, actor=self.actor)))

    @documented(
        "Retry an operation",
        RetryOperationInput,
        OperationAnswer,
        example={"operation": "0b6ad36c-56e9-4ba1-8c6c-2c0f1f0a8b53"},
        long=True,
        confirmed=True,
        description="Queues the same work again as a new operation. One that carried a credential cannot be "
        "retried: the credential was not kept. One whose plan was confirmed is planned anew, and answers "
        "`428` with that plan first.",
    )
    @idempotent
    def retry_operation(self, request: Request) -> Response:
        data = self.read(RetryOperationInput)
        operation = self._find(data["operation"])
        self._require(operation)
        if needs_confirmation(operation):
            token = data.get("confirm_token", "")
            return self.accepted(requests.retry_planned(self.actor, operation, token, **self.tracked))
        return self.accepted(retry(operation, actor=self.actor, **self.tracked))

    def _require(self, operation: Operation) -> None:
        """Cancel and retry need what the operation itself needed."""
        kind = kind_of(operation.kind)
        if kind is not None:
            require(self.user, kind.permission, operation.node)


EVENT_FILTERS = {
    "category": "category",
    "kind": "kind",
    "severity": "severity",
    "user": "user_name",
    "via": "via",
    "token": "token_name",
    "target_type": "target_type",
    "target": "target_name",
    "source_ip": "source_ip",
    "operation": "operation_ref",
}
"""By parameter of list-events, the column that equals it."""


class EventEndpoints(Endpoints):
    @documented(
        "The record of what happened, newest first",
        inputs.ListEventsInput,
        EventPage,
        example={"node": "kvm-01", "since": "2026-01-01T00:00:00Z"},
        description="Events of the nodes that you may see, your own, and with the permission "
        "`view_audit_log` all entries of the audit log that concern no node. `number` counts the entries of "
        "the audit log without a gap; with the category `audit` they come in its order. `data` says what was "
        "before and after a change, `operation` what it was done by.",
    )
    def list_events(self, request: Request) -> Response:
        data = self.read(inputs.ListEventsInput)
        seen = events_for(self.user)
        entries = data.get("category") == Category.AUDIT
        rows: QuerySet[Event] = seen.newest_first() if entries else seen
        if "node" in data:
            rows = rows.filter(node=get_node(self.user, data["node"]))
        rows = within(rows, data, EVENT_FILTERS)
        if "number_from" in data:
            rows = rows.filter(number__gte=data["number_from"])
        if "number_to" in data:
            rows = rows.filter(number__lte=data["number_to"])
        count, page = page_of(rows, data)
        return Response(EventPage(count, [EventAnswer.of(row) for row in page]))


def within(
    rows: QuerySet[Row], data: Mapping[str, Any], columns: Mapping[str, str], *, time: str = "created_at"
) -> QuerySet[Row]:
    """The rows between ``since`` (inclusive) and ``until`` (exclusive) that equal the given filters."""
    equal = {column: data[name] for name, column in columns.items() if name in data}
    rows = rows.filter(**equal)
    if "since" in data:
        rows = rows.filter(**{f"{time}__gte": data["since"]})
    if "until" in data:
        rows = rows.filter(**{f"{time}__lt": data["until"]})
    return rows
