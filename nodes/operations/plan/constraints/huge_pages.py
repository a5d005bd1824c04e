"""The target has enough free huge pages of the VM's sizes, on the NUMA cells that it is bound to."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.inventory.cpulist import format_cpu_list
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_needs import MemoryNeed, memory_needs
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    needs = [need for need in memory_needs(vm) if need.page_kib != 0]
    if not needs:
        return
    there = target.resources
    if there is None:
        yield Note(_("Not verified: free huge pages on %s could not be read.") % target.name)
        return
    for need in needs:
        page_kib = need.page_kib or there.default_page_kib
        if page_kib is None:
            yield _missing(_("has no huge pages"))
            continue
        free = there.free_pages_of(page_kib, need.cells)
        if free < need.pages(page_kib):
            yield _missing(_words(need, page_kib, free))


def _words(need: MemoryNeed, page_kib: int, free: int) -> str:
    words = {
        "free": free,
        "size": f"{page_kib // 1024} MiB" if page_kib >= 1024 else f"{page_kib} KiB",
        "needed": need.pages(page_kib),
        "cells": format_cpu_list(need.cells or ()),
    }
    if need.cells is None:
        return _("has %(free)d free huge pages of %(size)s, and the VM needs %(needed)d") % words
    return (
        _("has %(free)d free huge pages of %(size)s on NUMA cell %(cells)s, and the VM needs %(needed)d")
        % words
    )


def _missing(message: str) -> Reason:
    remedy = _("Reserve more huge pages on the target (vm.nr_hugepages), or stop the VM.")
    return Reason("huge_pages_missing", message, remedy)
