"""The target has the CPUs that the VM is pinned to, and they are online."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.inventory.cpulist import format_cpu_list
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_needs import pinned_cpus
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    wanted = pinned_cpus(vm)
    if not wanted:
        return
    known = _cpus(target)
    if not known:
        yield Note(_("Not verified: which CPUs %s has online could not be read.") % target.name)
        return
    lacking = wanted - known
    if lacking:
        text = _("has no CPU %s online, which the VM is pinned to") % format_cpu_list(lacking)
        remedy = _("Change the VM's CPU pinning (virsh vcpupin, emulatorpin), or stop the VM.")
        yield Reason("cpu_pinning", text, remedy)


def _cpus(host: HostState) -> frozenset[int]:
    """The host's online CPUs by its kernel, else by its libvirt; empty where neither is known."""
    if host.resources is not None and host.resources.cpus_online:
        return host.resources.cpus_online
    return frozenset(host.capabilities.cpus if host.capabilities is not None else ())
