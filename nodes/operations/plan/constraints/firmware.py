"""The target has the VM's UEFI image, of the same size, and what its variables are made of.

QEMU maps both as flash memory, whose size must be the same on either side; the contents of the variables move
with the VM (https://libvirt.org/formatdomain.html#bios-bootloader).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_files import HostFile, firmware_of
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason

UNKNOWN = HostFile(None)


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    firmware = firmware_of(vm)
    if firmware.loader is not None:
        yield from _loader(firmware.loader, source, target)
    if firmware.nvram is not None:
        yield from _variables(firmware.nvram, firmware.template, source, target)


def _loader(path: str, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    there = target.files.get(path, UNKNOWN)
    if there.exists is None:
        yield _unknown(path, target)
    elif not there.exists:
        yield _missing(_("has no firmware %s") % path)
    elif _differ(source.files.get(path, UNKNOWN), there):
        yield _missing(_("has another firmware %s: its size differs") % path)


def _variables(
    path: str, template: str | None, source: HostState, target: HostState
) -> Iterable[Reason | Note]:
    there = target.files.get(path, UNKNOWN)
    folder = posixpath.dirname(path)
    if there.exists:
        if _differ(source.files.get(path, UNKNOWN), there):
            yield _missing(_("has a file %s of another size, where the VM's UEFI variables belong") % path)
        return
    if target.files.get(folder, UNKNOWN).exists is False:
        yield _missing(_("has no folder %s, where the VM's UEFI variables belong") % folder)
    elif template is not None and target.files.get(template, UNKNOWN).exists is False:
        yield _missing(_("has no template %s for the VM's UEFI variables") % template)
    elif template is None or target.files.get(template, UNKNOWN).exists is None:
        yield _unknown(template or path, target)


def _differ(here: HostFile, there: HostFile) -> bool:
    return None not in (here.size_bytes, there.size_bytes) and here.size_bytes != there.size_bytes


def _unknown(path: str, target: HostState) -> Note:
    return Note(_("Not verified: whether %(host)s has %(path)s.") % {"host": target.name, "path": path})


def _missing(message: str) -> Reason:
    remedy = _("Install the same firmware package (OVMF, AAVMF) on the target, or stop the VM.")
    return Reason("firmware_not_on_target", message, remedy)
