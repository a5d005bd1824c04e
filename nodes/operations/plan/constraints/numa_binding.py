"""The target has the NUMA cells that the VM's memory is bound to, with enough memory free on them."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.inventory.cpulist import format_cpu_list
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_needs import bound_cells, memory_needs
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason

MIB = 1 << 20


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    if vm.xml is not None and "auto" in (vm.xml.pinning.placement, vm.xml.pinning.memory_placement):
        yield Note(_("Not verified: its placement is chosen by numad, which %s needs too.") % target.name)
    cells = bound_cells(vm)
    if not cells:
        return
    known = _cells(target)
    if not known:
        yield Note(_("Not verified: the NUMA cells of %s could not be read.") % target.name)
        return
    if lacking := cells - known:
        yield _unbound(_("has no NUMA cell %s, which the VM's memory is bound to") % format_cpu_list(lacking))
        return
    yield from _short_of_memory(vm, target)


def _cells(host: HostState) -> frozenset[int]:
    if host.resources is not None and host.resources.cells_free_bytes:
        return frozenset(host.resources.cells_free_bytes)
    return frozenset(cell.id for cell in host.capabilities.cells) if host.capabilities else frozenset()


def _short_of_memory(vm: VmState, target: HostState) -> Iterable[Reason | Note]:
    """Ordinary memory alone: huge pages are counted by their own constraint."""
    for need in memory_needs(vm):
        if need.cells is None or need.page_kib != 0:
            continue
        if target.resources is None:
            yield Note(_("Not verified: the free memory of the NUMA cells of %s.") % target.name)
            continue
        free = sum(target.resources.cells_free_bytes.get(cell, 0) for cell in need.cells)
        if free < need.size_bytes:
            words = {
                "free": free // MIB,
                "cells": format_cpu_list(need.cells),
                "needed": -(-need.size_bytes // MIB),
            }
            text = _("has %(free)d MiB free on NUMA cell %(cells)s, and the VM needs %(needed)d MiB there")
            yield _unbound(text % words)


def _unbound(message: str) -> Reason:
    remedy = _("Change the VM's NUMA tuning (virsh numatune), or stop the VM.")
    return Reason("numa_binding", message, remedy)
