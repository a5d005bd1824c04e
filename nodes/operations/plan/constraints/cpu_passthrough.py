"""A VM that is given the source's processor as it is finds all of it on the target.

libvirt compares no processor without a model; QEMU starts the incoming half with whatever the target has, and
a guest that uses an instruction which is not there dies
(https://libvirt.org/formatdomain.html#cpu-model-and-topology, host-passthrough).
"""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.hosts.libvirt.host_cpu import HostCpu
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason

MODES = ("host-passthrough", "maximum")
MOST_NAMED = 10


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    cpu = vm.element.find("cpu") if vm.element is not None else None
    mode = cpu.get("mode") if cpu is not None else None
    if vm.element is None or cpu is None or mode not in MODES:
        return
    if vm.element.get("type") == "qemu":
        yield Note(_("Not verified: the emulated processor “%s” depends on the target's QEMU.") % mode)
        return
    unread = [host.name for host in (source, target) if host.cpu is None]
    if source.cpu is None or target.cpu is None or source.cpu.of_kernel != target.cpu.of_kernel:
        hosts = ", ".join(unread or (source.name, target.name))
        words = {"mode": mode, "hosts": hosts}
        yield Note(
            _("Not verified: the processor “%(mode)s”, as the flags of %(hosts)s could not be compared.")
            % words
        )
        return
    disabled = {
        feature.get("name")
        for feature in cpu.iterfind("feature")
        if feature.get("policy") in ("disable", "forbid")
    }
    yield from _compared(source.cpu, target.cpu, source.name, disabled)


def _compared(here: HostCpu, there: HostCpu, source: str, disabled: set[str | None]) -> Iterable[Reason]:
    remedy = _(
        "Choose a target with the same processor, or give the VM a processor model that both hosts offer."
    )
    if here.maker and there.maker and here.maker != there.maker:
        text = _("has a processor of another maker: %(there)s, not %(here)s")
        yield Reason("cpu_incompatible", text % {"there": there.maker, "here": here.maker}, remedy)
        return
    missing = sorted(flag for flag in here.flags - there.flags if flag not in disabled)
    if missing:
        more = len(missing) - MOST_NAMED
        listed = ", ".join(missing[:MOST_NAMED]) + (" …" if more > 0 else "")
        text = ngettext(
            "lacks %(count)d processor flag of %(source)s: %(flags)s",
            "lacks %(count)d processor flags of %(source)s: %(flags)s",
            len(missing),
        )
        yield Reason(
            "cpu_incompatible", text % {"count": len(missing), "source": source, "flags": listed}, remedy
        )
