"""Files of the host that VMs name, and whether they are on another host too.

Read of all hosts once the VMs are known, by one command each (stat(1)).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lxml import etree

from nodes.hosts.shell import Shell
from nodes.inventory.parsing.numbers import integer
from nodes.operations.plan.vm_state import VmState

MOST_PATHS = 2000
READ_S = 5.0

COMMAND = r"""export LC_ALL=C
n=0
while IFS= read -r path; do
  told=$(stat -L -c '%s %F' -- "$path" 2>&1) || told="? $told"
  echo "$n $told"
  n=$((n + 1))
done
echo end"""

OWN_FOLDERS = ("/var/lib/libvirt/qemu/", "/run/libvirt/qemu/", "/var/run/libvirt/qemu/")
"""libvirt makes what it needs below these on whichever host a VM comes to."""


@dataclass(frozen=True, slots=True)
class HostFile:
    """``exists`` is None where the user may not look."""

    exists: bool | None
    size_bytes: int | None = None
    is_directory: bool = False


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a VM names. ``folder_only``: QEMU makes the file itself, in a folder that must be there."""

    path: str
    device: str
    folder_only: bool = False

    @property
    def needed(self) -> str:
        """What has to be there for the VM to start."""
        return posixpath.dirname(self.path) if self.folder_only else self.path


@dataclass(frozen=True, slots=True)
class Firmware:
    """The VM's UEFI image and its variables; None where it has none of its own."""

    loader: str | None
    nvram: str | None
    template: str | None


def firmware_of(vm: VmState) -> Firmware:
    if vm.element is None:
        return Firmware(None, None, None)
    nvram = vm.element.find("os/nvram")
    if nvram is not None and nvram.get("type") not in (None, "file"):
        nvram = None  # on a volume or over the network: a disk
    return Firmware(
        loader=_absolute(vm.element.findtext("os/loader")),
        nvram=_absolute(nvram.text if nvram is not None else None),
        template=_absolute(nvram.get("template") if nvram is not None else None),
    )


def named_files(vm: VmState) -> tuple[NamedFile, ...]:
    """The files that the VM's channels, consoles and boot name, each once."""
    if vm.element is None:
        return ()
    return tuple(dict.fromkeys(found for found in _named(vm) if not found.path.startswith(OWN_FOLDERS)))


def _named(vm: VmState) -> Iterator[NamedFile]:
    root = vm.element
    if root is None:
        return
    for tag in ("kernel", "initrd", "dtb"):
        yield from _file(root.findtext(f"os/{tag}"), tag)
    for table in root.iterfind("os/acpi/table"):
        yield from _file(table.text, "ACPI table")
    for tag in ("serial", "parallel", "console", "channel", "smartcard", "redirdev"):
        for element in root.iterfind(f"devices/{tag}"):
            yield from _character_device(element, tag)
    for element in root.iterfind("devices/interface[@type='vhostuser']/source"):
        # In mode "server" QEMU makes the socket.
        yield from _file(element.get("path"), "vhost-user", folder_only=element.get("mode") == "server")
    for element in root.iterfind("devices/rng/backend[@model='random']"):
        yield from _file(element.text, "rng")
    for element in root.iterfind("devices/input/source"):
        yield from _file(element.get("dev") or element.get("evdev"), "input")


def _character_device(element: etree._Element, tag: str) -> Iterator[NamedFile]:
    """Its source by its type: https://libvirt.org/formatdomain.html#host-interface"""
    source, log, kind = element.find("source"), element.find("log"), element.get("type")
    if log is not None:
        yield from _file(log.get("file"), tag, folder_only=True)
    if source is None:
        return
    path = source.get("path")
    if kind == "file":
        yield from _file(path, tag, folder_only=True)
    elif kind == "unix":
        yield from _file(path, tag, folder_only=source.get("mode") == "bind")
    elif kind in ("dev", "pipe"):
        yield from _file(path, tag)


def _file(path: str | None, device: str, *, folder_only: bool = False) -> Iterator[NamedFile]:
    if (found := _absolute(path)) is not None:
        yield NamedFile(found, device, folder_only)


def _absolute(path: str | None) -> str | None:
    """The path where it is a usable one: a line break in it would be two of them."""
    found = (path or "").strip()
    return found if found.startswith("/") and "\n" not in found else None


def paths_of(vms: Iterable[VmState]) -> tuple[str, ...]:
    """What is to be looked at on the hosts, for these VMs."""
    found: dict[str, None] = {}
    for vm in vms:
        firmware = firmware_of(vm)
        for path in (firmware.loader, firmware.nvram, firmware.template):
            if path is not None:
                found[path] = None
                found[posixpath.dirname(path)] = None
        found |= dict.fromkeys(named.needed for named in named_files(vm))
    return tuple(found)[:MOST_PATHS]


def read_files(shell: Shell, paths: tuple[str, ...], timeout_s: float) -> dict[str, HostFile]:
    """What the host has of ``paths``; one that it was not asked about, or told nothing of, is not among them.

    Raises HostError.
    """
    text = "".join(f"{path}\n" for path in paths)
    answer = shell.run(COMMAND, stdin=text.encode("utf-8", "surrogateescape"), timeout_s=timeout_s)
    lines = answer.stdout.decode("utf-8", "surrogateescape").splitlines()
    if not lines or lines[-1] != "end":
        return {}
    found = {}
    for line in lines[:-1]:
        number, _, told = line.partition(" ")
        index = integer(number)
        if index is not None and index < len(paths):
            found[paths[index]] = _host_file(told)
    return found


def _host_file(told: str) -> HostFile:
    first, _, rest = told.partition(" ")
    if first != "?":
        return HostFile(True, integer(first), rest == "directory")
    return HostFile(False if "No such file" in rest or "Not a directory" in rest else None)
