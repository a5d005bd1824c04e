"""The journals of hosts. These endpoints reach out: a journal is live by nature, and kept nowhere else."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request
from rest_framework.response import Response

from nodes import access
from nodes.api import log_inputs
from nodes.api.inputs import NodeInput
from nodes.api.log_answers import LogEntryAnswer, LogFieldAnswer, LogPageAnswer, LogSourcesAnswer
from nodes.api.schema import documented
from nodes.api.viewsets import EXAMPLE_NODE, Endpoints
from nodes.engine.waits import waiting
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock, run_within
from nodes.hosts.journal import read_entry
from nodes.hosts.journal_filters import VM_LOG
from nodes.hosts.journal_terms import ALIASES
from nodes.hosts.log_command import shown_command
from nodes.hosts.log_query import query
from nodes.hosts.log_sources import list_sources
from nodes.models import Node
from nodes.permissions import VIEW_LOGS, get_node

REACHES_OUT = "Reaches out to the host, for 15 seconds at most."
ERRORS: Any = (
    (429, "rate_limited"),
    (410, "cursor_gone"),
    (
        422,
        "insufficient_rights_on_host, login_shell_unusable, authentication_failed, host_key_required",
    ),
    (502, "host_unreachable, host_budget_exceeded, journal_unavailable"),
    (504, "timeout"),
)


def connected(node: Node) -> tuple[HostConnection, Clock]:
    """The connection to the node, and what is left of the deadline for all that the request does there."""
    clock = Clock(settings.NODEADMIN_HOST_TIMEOUT_S)
    target = access.target_for(node)
    found = run_within(lambda: access.connect(target), clock.left, str(_("Connecting to the host")))
    return found, clock


class LogEndpoints(Endpoints):
    @documented(
        "Entries of a node's journal",
        log_inputs.LogsInput,
        LogPageAnswer,
        example={"node": "kvm-01", "services": ["libvirtd", "qemu"], "last": "2h", "level": "warning"},
        description=f"{REACHES_OUT} Newest first unless `order` is `oldest`. The answer is bounded by "
        "`limit`, by 32 MiB read and by time; `cut` says by which. `cursor` goes on where it ended. With "
        "`vm`, and with the service `qemu`, the VMs' own log files are read along; `vm-log` are those alone.",
        errors=ERRORS,
    )
    def describe_node_logs(self, request: Request) -> Response:
        data = self.read(log_inputs.LogsInput)
        node = get_node(self.user, data["node"], VIEW_LOGS)
        start = log_inputs.start_of(data)
        with waiting(self.actor):
            connection, clock = connected(node)
            page = query(connection, start, limit=data["limit"], timeout_s=clock.left)
        newest = start.newest_first
        return Response(
            LogPageAnswer(
                node=node.name,
                order="newest" if newest else "oldest",
                entries=page.entries,
                cursor=page.cursor.encode(),
                more=page.more,
                cut=page.cut or None,
                searched_by="nodeadmin" if page.searched_here else "host",
                problems=list(page.problems),
                command=shown_command(start.filters, newest_first=newest, limit=data["limit"]),
                query_command=shown_command(start.filters),
            )
        )

    @documented(
        "What a node's journal holds",
        NodeInput,
        LogSourcesAnswer,
        example=EXAMPLE_NODE,
        description=f"{REACHES_OUT} Units, identifiers (2,000 of each at most) and boots.",
        errors=ERRORS,
    )
    def list_log_sources(self, request: Request) -> Response:
        node = get_node(self.user, self.read(NodeInput)["node"], VIEW_LOGS)
        with waiting(self.actor):
            connection, clock = connected(node)
            found = list_sources(connection, clock.left)
        return Response(
            LogSourcesAnswer(
                node.name, [*ALIASES, VM_LOG], found.units, found.identifiers, found.boots, found.complete
            )
        )

    @documented(
        "One entry of a node's journal, with all its fields",
        log_inputs.LogEntryInput,
        LogEntryAnswer,
        example={
            "node": "kvm-01",
            "entry": "s=4ab6820d;i=1869c;b=0123456789ab;m=6050fb8;t=60a2;x=715f",
        },
        description=f"{REACHES_OUT} Of a field longer than 64 KiB the beginning is given.",
        errors=ERRORS,
    )
    def describe_log_entry(self, request: Request) -> Response:
        data = self.read(log_inputs.LogEntryInput)
        node = get_node(self.user, data["node"], VIEW_LOGS)
        with waiting(self.actor):
            connection, clock = connected(node)
            found = list(read_entry(connection, data["entry"], clock.left))
        shown = [
            LogFieldAnswer(field.name, field.value, field.binary, field.cut, field.size_bytes)
            for field in found
        ]
        return Response(LogEntryAnswer(node.name, shown))
