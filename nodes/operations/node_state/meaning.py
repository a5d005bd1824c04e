"""What a node's scheduling state means, in one line: the same in dialogs, pages and answers."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from nodes.models import Scheduling

MAINTENANCE = _(
    "Maintenance: nodeadmin places nothing on the node any more. Other libvirt clients (virsh, virt-manager) "
    "are not held back by it."
)


def meaning_of(scheduling: str) -> Promise | None:
    """None for a node that is enabled, of which there is nothing to know."""
    return MAINTENANCE if scheduling == Scheduling.MAINTENANCE else None
