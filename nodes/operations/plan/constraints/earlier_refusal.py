"""The target has not refused the VM before, as it is now."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.refusals import description_digest
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    """A target that a person named for the VM is tried again: they may have mended what nobody can see."""
    refusal = target.refusals.get(vm.uuid)
    if refusal is None or vm.element is None or description_digest(vm.element) != refusal.vm_digest:
        return
    told = {"at": timezone.localtime(refusal.at).strftime("%Y-%m-%d %H:%M %Z"), "why": refusal.message}
    if not target.named_for.isdisjoint((vm.uuid, vm.name)):
        yield Note(_("The target refused it at %(at)s: %(why)s") % told)
        return
    yield Reason(
        "target_refused",
        _("refused it at %(at)s: %(why)s") % told,
        _("Remove the cause on the target and refresh the node, or choose it as the VM's own target."),
    )
