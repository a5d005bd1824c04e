"""The target offers the processor that the VM was started with."""

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
    fits, words = verdicts.cpu
    if fits is False:
        remedy = _("Give the VM a processor model that another node offers as well, or stop it.")
        yield Reason("cpu_incompatible", words, remedy)
    elif fits is None and words:
        yield Note(_("Whether the processor fits cannot be told: %s") % words)
