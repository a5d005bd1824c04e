"""The target's libvirt runs the VM's machine type with the QEMU binary that the VM names."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    verdicts = target.verdicts.get(vm.uuid)
    if verdicts is None:
        return
    fits, words = verdicts.machine
    if fits is False:
        remedy = _("Install the same QEMU on another node, or stop the VM.")
        yield Reason("hypervisor_differs", words, remedy)
    elif fits is None and words:
        yield Note(_("Whether its QEMU fits cannot be told: %s") % words)
