"""What the operations ask a node's BMC."""

from __future__ import annotations

import structlog
from django.conf import settings
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import BmcMissing, HostError
from nodes.hosts.redfish import Redfish
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
