"""By which path the target opens a block device that it has under another name than the source."""

from __future__ import annotations

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState

_STEADY = ("/dev/disk/by-id/", "/dev/mapper/")
"""Paths that name a device by itself; ``/dev/sdb`` may be another disk after the next reboot."""


def path_on_target(path: str, source: HostState, target: HostState) -> str | None:
    """Where the device that is at ``path`` on ``source`` is on ``target``; None where it is not there, or
    has no name there that stays its own until the VM is moved."""
    here, there = source.blocks, target.blocks
    device = here.at(path) if here is not None else None
    if device is None or there is None:
        return None
    same = there.at(path) == device
    if same and not _is_kernel_name(path):
        return path
    best = there.preferred.get(device)
    if best is not None and best.startswith(_STEADY):
        return best
    return path if same else None


def moved_paths(vm: VmState, source: HostState, target: HostState) -> dict[str, str]:
    """The paths of the VM's disks that are others on ``target``, by their paths on ``source``."""
    disks = vm.xml.disks if vm.xml is not None else ()
    paths = {disk.source: disk.source for disk in disks if disk.source_kind == "block" and disk.source}
    found = {path: path_on_target(path, source, target) for path in paths}
    return {path: there for path, there in found.items() if there is not None and there != path}


def _is_kernel_name(path: str) -> bool:
    """``/dev/sdb``, ``/dev/dm-3``, ``/dev/nvme0n1``: numbered as the devices were found."""
    return path.count("/") == 2
