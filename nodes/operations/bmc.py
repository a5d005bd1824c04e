"""What is asked of a node's BMC: whether it is the right one, and whether the host has power."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from django.conf import settings
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import BmcFailed, BmcMissing, HostError
from nodes.hosts.bmc.system import OFF, ON, System
from nodes.hosts.bmc_target import BmcTarget
from nodes.hosts.deadlines import Clock
from nodes.hosts.redfish import Redfish
from nodes.models import Bmc, Node

__all__ = ["OFF", "ON", "check_bmc", "has_bmc", "open_bmc", "power_state", "stays_off"]

log = structlog.get_logger(__name__)

LATE_S = 20.0
"""For so long a BMC may tell of a power state that is over: some ask their machine only now and then."""
LOOK_S = 2.0


def has_bmc(node: Node) -> bool:
    """Whether a BMC is set for the node; asks the database alone."""
    return Bmc.objects.filter(node=node.pk).exists()


def open_bmc(
    node: Node, *, clock: Clock | None = None, sleep: Callable[[float], None] = time.sleep
) -> Redfish:
    """The node's BMC, as it is configured now; the caller closes it (it is a context manager).

    A busy BMC is asked again until ``clock``, or in each call for ``NODEADMIN_HOST_TIMEOUT_S`` without one;
    ``sleep`` is called for the pauses. Nothing is sent before the first call. Raises BmcMissing,
    CredentialUnreadable.
    """
    target = access.bmc_target(node)
    if target is None:
        raise BmcMissing(
            _("%s has no BMC.") % node.name,
            remedy=_("Set its address and credential in the node's settings."),
            field="node",
        )
    return Redfish(target, timeout_s=settings.NODEADMIN_HOST_TIMEOUT_S, clock=clock, sleep=sleep)


def check_bmc(node: Node, target: BmcTarget, *, system: str = "") -> System:
    """Try a BMC before it is kept: certificate, credential, and which of its systems is the node's host.

    Ends within ``NODEADMIN_HOST_TIMEOUT_S``. Raises BmcUnreachable, and BmcFailed with the reason; for a
    certificate that nobody vouches for that is ``certificate_unknown``, with its fingerprint as ``shown``.
    """
    timeout_s = settings.NODEADMIN_HOST_TIMEOUT_S
    with Redfish(target, timeout_s=timeout_s, clock=Clock(timeout_s)) as bmc:
        found = bmc.find_system(system, node.firmware_uuid)
    if found.reset_target is None:
        raise BmcFailed(
            _("The BMC offers no way to switch this system."),
            remedy=_("Name another system, or another user."),
            field="bmc.system",
            extra={"reason": "reset_refused"},
        )
    return found


def power_state(node: Node) -> str | None:
    """The host's power state in the BMC's words (On, Off, PoweringOn, PoweringOff, Paused).

    None where the node has no BMC, or where the BMC does not say or cannot be asked: the log then has the
    reason. Takes ``NODEADMIN_HOST_TIMEOUT_S`` at most, and never raises for what a BMC does.
    """
    if not has_bmc(node):
        return None
    try:
        with open_bmc(node, clock=Clock(settings.NODEADMIN_HOST_TIMEOUT_S)) as bmc:
            return bmc.power_state()
    except (BmcMissing, HostError) as error:
        log.warning("the BMC does not tell the power state", node=node.name, reason=error.message)
        return None


def stays_off(node: Node, check: Callable[[], None]) -> bool:
    """Whether the BMC says Off, and goes on saying so for :data:`LATE_S`: a state that is over ends by then.

    To be asked where something speaks against it. ``check`` is called between, and may raise to end the wait.
    """
    clock = Clock(LATE_S)
    while power_state(node) == OFF:
        if clock.passed:
            return True
        check()
        time.sleep(LOOK_S)
    return False
