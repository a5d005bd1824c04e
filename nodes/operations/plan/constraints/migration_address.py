"""The source's host gets through to the address at which the target takes migrations."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    """A target without any address takes no VM at all, which is told once, of the target."""
    reached, words = source.reaches.get(target.uuid, (None, ""))
    if reached is False and target.address:
        text = _("%(source)s does not reach it at %(address)s") % {
            "source": source.name,
            "address": target.address,
        }
        yield Reason(
            "migration_network",
            f"{text} ({words})" if words else text,
            _("Open the network between the hosts, or set the target's migration address."),
        )
    elif reached is None and words:
        yield Note(_("Whether the network fits cannot be told: %s") % words)
