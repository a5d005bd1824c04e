"""The target has what the VM's shared disks lie on."""

from __future__ import annotations

from collections.abc import Iterable

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason
from nodes.operations.storage import missing_on_target


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    disks = vm.xml.disks if vm.xml is not None else ()
    return missing_on_target(disks, source.storage, target.storage)
