"""What is asked of a node's BMC: whether it is the right one, and whether the host has power."""

from __future__ import annotations

import structlog
from django.conf import settings
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import BmcFailed, BmcMissing, HostError
from nodes.hosts.bmc_target import BmcTarget
from nodes.hosts.deadlines import Clock
from nodes.hosts.redfish import Redfish, System
from nodes.models import Bmc, Node

log = structlog.get_logger(__name__)

ON = "On"
OFF = "Off"


def has_bmc(node: Node) -> bool:
    """Whether a BMC is set for the node; asks the database alone."""
    return Bmc.objects.filter(node=node.pk).exists()


def open_bmc(node: Node) -> Redfish:
    """The node's BMC, as it is configured now; the caller closes it (it is a context manager).

    Raises BmcMissing, CredentialUnreadable. Nothing is sent before the first call.
    """
    target = access.bmc_target(node)
    if target is None:
        raise BmcMissing(
            _("%s has no BMC.") % node.name,
            remedy=_("Set its address and credential in the node's settings."),
            field="node",
        )
    return Redfish(target, timeout_s=settings.NODEADMIN_HOST_TIMEOUT_S)


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
        with open_bmc(node) as bmc:
            return bmc.power_state()
    except (BmcMissing, HostError) as error:
        log.warning("the BMC does not tell the power state", node=node.name, reason=error.message)
        return None
