"""The host asked what could refuse a power command, beside the reading of its VMs."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late

from django.conf import settings
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import HostError, NodeAdminError
from nodes.hosts.connection import HostConnection
from nodes.hosts.power_preflight import PowerPreflight, power_preflight
from nodes.hosts.rights import POWER_OFF, REBOOT
from nodes.hosts.target import HostTarget
from nodes.models import Node, OperationStep, StepStatus
from nodes.operations import options as kinds
from nodes.operations.options import Options
from nodes.operations.plan.power_blockers import PowerQuestion

COMMANDS = {kinds.REBOOT: REBOOT, kinds.SHUTDOWN: POWER_OFF}
"""The power command of each kind of operation that sends one."""


class PowerAsking:
    """A question on its way. It is asked in a thread of its own, so that a plan takes no longer for it."""

    def __init__(self, node: Node, kind: str, options: Options) -> None:
        self._node, self._command = node, COMMANDS[kind]
        self._ignore = options.ignore_inhibitors
        self._future: Future[PowerPreflight | None] | None = None
        try:
            target = access.target_for(node)
        except NodeAdminError:
            return  # the reading of its VMs says why
        pool = ThreadPoolExecutor(1, thread_name_prefix="plan: power")
        self._future = pool.submit(self._ask, target)
        pool.shutdown(wait=False)

    def answer(self) -> PowerQuestion:
        """What came of it, waited for as long as a host may take."""
        if self._future is None:
            return PowerQuestion()
        before = allowed_before(self._node, self._command)
        try:
            facts = self._future.result(settings.NODEADMIN_HOST_TIMEOUT_S)
        except Late:
            return PowerQuestion(fault=_("it did not answer in time"), allowed_before=before)
        except HostError as error:
            return PowerQuestion(fault=error.message, allowed_before=before)
        return PowerQuestion(facts, allowed_before=before)

    def _ask(self, target: HostTarget) -> PowerPreflight | None:
        return ask(access.connect(target), self._command, ignore_inhibitors=self._ignore)


def ask(connection: HostConnection, command: str, *, ignore_inhibitors: bool) -> PowerPreflight | None:
    """What the host says of the command; None for a test node, which has no host. Raises HostError."""
    if not connection.has_shell:
        return None
    timeout_s = settings.NODEADMIN_HOST_TIMEOUT_S
    return power_preflight(
        connection.shell, command, ignore_inhibitors=ignore_inhibitors, timeout_s=timeout_s
    )


def allowed_before(node: Node, command: str) -> bool | None:
    """Whether the user was found to have the right when the node was added, or its connection changed."""
    data = (
        OperationStep.objects.filter(operation__node=node.pk, code="rights", status=StepStatus.SUCCEEDED)
        .order_by("-finished_at")
        .values_list("data", flat=True)
        .first()
    )
    found = (data or {}).get("commands", {}).get(command)
    return bool(found) if found is not None else None
