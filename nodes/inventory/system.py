"""The system that runs on the host: kernel, distribution, clock, and the root file system.

Sources: the kernel's Documentation/filesystems/proc.rst; os-release(5), machine-id(5).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from nodes.inventory.forms import FILES_OF_EVERY_HOST
from nodes.inventory.load import LoadFacts, read_load
from nodes.inventory.memory import percent
from nodes.inventory.parsing.numbers import capped, decimal, integer
from nodes.inventory.procfiles import Files
from nodes.inventory.source import Source

# Everything small in one grep; then what no file says: which of some paths are there, counts, the clock.
SYSTEM = Source(
    "system",
    """grep -as . /proc/sys/kernel/hostname /proc/sys/kernel/osrelease /proc/sys/kernel/version \\
  /proc/sys/kernel/arch /proc/sys/kernel/random/boot_id /proc/cmdline /proc/uptime /proc/loadavg \\
  /proc/pressure/cpu /proc/pressure/memory /proc/pressure/io /etc/machine-id /etc/os-release \\
  /usr/lib/os-release /etc/timezone /run/systemd/container /sys/kernel/security/lockdown \\
  /sys/class/dmi/id/*_vendor /sys/class/dmi/id/*_name /sys/class/dmi/id/*_version \\
  /sys/class/dmi/id/product_family /sys/class/dmi/id/product_sku /sys/class/dmi/id/bios_date \\
  /sys/class/dmi/id/bios_release /sys/class/dmi/id/chassis_type /sys/class/dmi/id/chassis_asset_tag \\
  /proc/device-tree/model /proc/device-tree/compatible /proc/device-tree/serial-number \\
  /sys/firmware/efi/fw_platform_size \\
  /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c \\
  /sys/hypervisor/type /sys/kernel/iommu_groups/[0-9]/type \\
  /sys/module/kvm_intel/parameters/nested /sys/module/kvm_intel/parameters/ept \\
  /sys/module/kvm_intel/parameters/enable_apicv /sys/module/kvm_intel/parameters/tdx \\
  /sys/module/kvm_amd/parameters/nested /sys/module/kvm_amd/parameters/npt \\
  /sys/module/kvm_amd/parameters/avic /sys/module/kvm_amd/parameters/sev \\
  /sys/module/kvm_amd/parameters/sev_es /sys/module/kvm_amd/parameters/sev_snp \\
  /sys/module/kvm/parameters/nested /sys/module/kvm_hv/parameters/nested
for path in /proc/sys/kernel/bootloader_type /sys/firmware/efi /sys/firmware/acpi /proc/device-tree \\
  /sys/firmware/acpi/tables/DMAR /sys/firmware/acpi/tables/IVRS /sys/firmware/acpi/tables/IORT \\
  /sys/module/kvm /sys/module/kvm_intel /sys/module/kvm_amd /sys/bus/pci/drivers/vfio-pci \\
  /sys/kernel/iommu_groups /run/systemd/timesync/synchronized; do
  [ -e "$path" ] && echo "there.$path:yes"
done
set -- /sys/kernel/iommu_groups/[0-9]*
[ -e "$1" ] && echo "count.iommu_groups:$#"
set -- /sys/class/iommu/*
[ -e "$1" ] && echo "list.iommu:$*"
[ -r /dev/kvm ] && [ -w /dev/kvm ] && echo "may.kvm:yes"
read -r times </proc/stat && echo "stat.cpu:$times"
date '+clock:%s.%N %z %Z'
stat -c 'stat.%n:%a %U %G %N' /dev/kvm /etc/localtime 2>/dev/null
stat -f -c 'space./:%S %b %f %a %c %d %T' /""",
    ok_statuses=None,
    form=FILES_OF_EVERY_HOST,
)

_CLOCK = re.compile(r"(\d{1,11})(?:\.(\d{1,9}))? ([+-])(\d\d)(\d\d) ?(\S{0,32})", re.ASCII)
_ZONE = re.compile(r"-> [^>]{0,256}?/zoneinfo/(?:posix/|right/)?([A-Za-z0-9_+/-]{1,64})")
_SECRET = re.compile(r"passw|passphrase|secret|token|passwd", re.IGNORECASE)
_PARAMETER = re.compile(r"(?<!\S)[^\s=]+=\S+")
_SOURCE = re.compile(r"[\w.+-]{1,64}=(?:iscsi|nfs|https?|ftp):(?://)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """``release`` as ``uname -r``, ``version`` as ``uname -v``. In ``command_line`` what may be a password is
    replaced by ``…``. ``lockdown``: ``none``, ``integrity`` or ``confidentiality``."""

    release: str | None
    version: str | None
    command_line: str | None
    lockdown: str | None


@dataclass(frozen=True, slots=True)
class OperatingSystem:
    """From os-release: ``name`` as people say it (PRETTY_NAME), ``id`` as programs do (``debian``)."""

    name: str | None
    id: str | None
    version: str | None
    codename: str | None
    container: str | None
    """What kind of container this is, should the "host" be one (systemd's word, such as ``lxc``)."""


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """``time`` is the host's clock, RFC 3339 in UTC. ``skew_s`` is how far it is ahead of ours (negative:
    behind); the time it takes to reach the host is in it, so a second or so means nothing."""

    time: str | None
    time_zone: str | None
    time_zone_name: str | None
    """Its short name now, such as ``CEST``."""
    utc_offset_s: int | None
    skew_s: float | None
    synchronized: bool | None
    """True where systemd-timesyncd says so; None otherwise, as other time services do not tell."""


@dataclass(frozen=True, slots=True)
class FileSystemUse:
    """A mounted file system: bytes and inodes. ``available_bytes`` is what an ordinary user may still take;
    ``used_percent`` is of what such users can reach, as ``df`` counts."""

    mount_point: str
    kind: str | None
    total_bytes: int | None
    used_bytes: int | None
    available_bytes: int | None
    used_percent: float | None
    inodes_total: int | None
    inodes_used: int | None


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """The running system. ``booted_at`` is RFC 3339 in UTC by the host's clock, ``uptime_s`` in seconds."""

    hostname: str | None
    kernel: KernelFacts
    operating_system: OperatingSystem
    clock: ClockFacts
    boot_id: str | None
    booted_at: str | None
    uptime_s: float | None
    load: LoadFacts
    root_file_system: FileSystemUse | None


def read_system(files: Files, observed_at: str | None) -> SystemFacts:
    """Facts from :data:`SYSTEM`. ``observed_at`` is our own clock then; None where it was not taken live."""
    epoch, clock = _clock(files, observed_at)
    uptime = _decimal((files.get("/proc/uptime") or "").partition(" ")[0])
    boot_id = files.get("/proc/sys/kernel/random/boot_id")
    return SystemFacts(
        hostname=files.get("/proc/sys/kernel/hostname"),
        kernel=_kernel(files),
        operating_system=_operating_system(files),
        clock=clock,
        boot_id=boot_id,
        booted_at=_rfc3339(round(epoch - uptime)) if epoch is not None and uptime is not None else None,
        uptime_s=uptime,
        load=read_load(files),
        root_file_system=_file_system(files, "/"),
    )


def _decimal(text: str) -> float | None:
    return decimal(text) if re.fullmatch(r"\d{1,10}(?:\.\d{1,9})?", text, re.ASCII) else None


def _rfc3339(epoch: float) -> str | None:
    try:
        return datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def _without_secret(found: re.Match[str]) -> str:
    """A parameter of the kernel whose value may be a password, or has one in its address."""
    parameter = found.group()
    name, _, value = parameter.partition("=")
    if _SECRET.search(name):
        return f"{name}=…"
    inner, equals, _ = value.rpartition("=")
    if equals and _SECRET.search(inner):
        return f"{name}={inner}=…"
    source = _SOURCE.search(parameter)
    if source is not None:
        login, at, rest = parameter[source.end() :].partition("@")
        if login and at:
            return f"{parameter[: source.end()]}…@{rest}"
    return parameter


def _kernel(files: Files) -> KernelFacts:
    command_line = files.get("/proc/cmdline")
    if command_line is not None:
        command_line = _PARAMETER.sub(_without_secret, command_line)
    lockdown = re.search(r"\[(\w+)\]", files.get("/sys/kernel/security/lockdown") or "")
    return KernelFacts(
        release=files.get("/proc/sys/kernel/osrelease"),
        version=files.get("/proc/sys/kernel/version"),
        command_line=command_line,
        lockdown=lockdown.group(1) if lockdown else None,
    )


def _operating_system(files: Files) -> OperatingSystem:
    lines = files.lines("/etc/os-release") or files.lines("/usr/lib/os-release")
    values: dict[str, str] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and not key.startswith("#"):
            values[key.strip()] = _unquoted(value.strip())
    return OperatingSystem(
        name=values.get("PRETTY_NAME") or values.get("NAME") or None,
        id=values.get("ID") or None,
        version=values.get("VERSION_ID") or None,
        codename=values.get("VERSION_CODENAME") or None,
        container=files.get("/run/systemd/container"),
    )


def _unquoted(text: str) -> str:
    """Shell quoting as os-release(5) allows it: one pair of quotes, backslashes inside double ones."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        inner = text[1:-1]
        return re.sub(r'\\(["$`\\])', r"\1", inner) if text[0] == '"' else inner
    return text


def _clock(files: Files, observed_at: str | None) -> tuple[float | None, ClockFacts]:
    match = _CLOCK.match(files.get("clock") or "")
    zone = _ZONE.search(files.get("stat./etc/localtime") or "")
    synchronized = True if "there./run/systemd/timesync/synchronized" in files else None
    time_zone = zone.group(1) if zone else files.get("/etc/timezone")
    if match is None:
        return None, ClockFacts(None, time_zone, None, None, None, synchronized)
    epoch = decimal(f"{match[1]}.{match[2] or 0}") or 0.0
    offset = (capped(match[4]) * 60 + capped(match[5])) * 60 * (-1 if match[3] == "-" else 1)
    skew = _skew(epoch, observed_at)
    return epoch, ClockFacts(
        _rfc3339(math.floor(epoch)), time_zone, match[6] or None, offset, skew, synchronized
    )


def _skew(epoch: float, observed_at: str | None) -> float | None:
    try:
        ours = datetime.fromisoformat(observed_at or "")
    except ValueError:
        return None
    return round(epoch - ours.timestamp(), 1) if ours.tzinfo is not None else None


def _file_system(files: Files, mount_point: str) -> FileSystemUse | None:
    words = (files.get(f"space.{mount_point}") or "").split(" ", 6)
    numbers = [integer(word) for word in words[:6]]
    if len(words) < 7 or any(number is None for number in numbers):
        return None
    size, blocks, free, available, inodes, inodes_free = (number or 0 for number in numbers)
    used = max(blocks - free, 0)
    return FileSystemUse(
        mount_point=mount_point,
        # One magic number for all three; coreutils names it after the older ones.
        kind="ext2/3/4" if words[6] == "ext2/ext3" else words[6] or None,
        total_bytes=blocks * size,
        used_bytes=used * size,
        available_bytes=available * size,
        used_percent=percent(used, used + available),
        # File systems that make inodes as they go (btrfs) say 0 of 0.
        inodes_total=inodes or None,
        inodes_used=inodes - inodes_free if inodes else None,
    )
