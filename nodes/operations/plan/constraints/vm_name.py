"""No other VM of the target has the VM's name: libvirt takes in none whose name is taken, be the other one
switched off."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    if target.names.get(vm.name, vm.uuid) != vm.uuid:
        yield Reason(
            "name_taken_on_target",
            _("has another VM of the name “%s”") % vm.name,
            _("Rename one of the two, or remove the other one where it is of no use."),
        )
