"""The beat: the line that a host prints every few seconds, and what it says.

The loop that prints it is ``beat.sh``. A line begins with ``beat 1`` and ends with ``end``, so that one cut
on its way is known for what it is. Sources: proc(5) (uptime, loadavg, stat, meminfo), the kernel's
accounting/psi, block/stat and ABI/testing/sysfs-class-net-statistics.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nodes.inventory.parsing.numbers import decimal, integer

SOCKETS = ("/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock")
MAX_LINE = 2048
SECTOR_BYTES = 512
_KIB = 1024
_LARGEST = 1 << 62
"""Counters beyond it are nonsense: the kernel's are 64 bits wide, and no host has moved four exabytes."""
_MOST = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Beat:
    """What one line says. Counters run since the boot; None is what the host does not tell.

    ``libvirt_up`` is whether somebody listens at libvirt's socket: an idle daemon that its
    socket starts is up.
    """

    number: int
    boot_id: str
    uptime_s: float | None = None
    load_1: float | None = None
    cpu_busy_ticks: int | None = None
    cpu_idle_ticks: int | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    swap_total_bytes: int | None = None
    swap_used_bytes: int | None = None
    cpu_pressure_percent: float | None = None
    memory_pressure_percent: float | None = None
    io_pressure_percent: float | None = None
    net_rx_bytes: int | None = None
    net_tx_bytes: int | None = None
    disk_reads: int | None = None
    disk_read_bytes: int | None = None
    disk_writes: int | None = None
    disk_written_bytes: int | None = None
    libvirt_up: bool | None = None
    vms_running: int | None = None
    vms_total: int | None = None


def beat_command(period_s: float, sockets: tuple[str, ...] = SOCKETS) -> str:
    """A command line for a login shell of any kind that runs the loop until its output is closed."""
    return f"exec sh -c {shlex.quote(beat_script(period_s, sockets))}"


def beat_script(period_s: float, sockets: tuple[str, ...] = SOCKETS) -> str:
    """The loop as text for ``sh``. Raises ValueError for a period below half a second."""
    if period_s < 0.5:
        raise ValueError("a beat takes at least half a second")
    settings = f"period={period_s:g}\nsockets={shlex.quote(' '.join(sockets))}\n"
    return settings + _loop()


@cache
def _loop() -> str:
    return Path(__file__).with_name("beat.sh").read_text(encoding="ascii")


def parse_beat(line: str) -> Beat | None:
    """The beat of one line; None where the line is none, or not whole. Never raises.

    A value that cannot be read is None and costs no other value.
    """
    words = line.split()
    if len(line) > MAX_LINE or words[:2] != ["beat", "1"] or words[-1] != "end":
        return None
    values = {name: text.split(",") for name, _, text in (word.partition("=") for word in words[2:-1])}
    number, boot = _whole(values, "n", 0), _text(values, "boot")
    if number is None or boot is None:
        return None
    memory_total, memory_free = _kib(values, "mem", 0), _kib(values, "mem", 1)
    available = _kib(values, "mem", 2)
    reads, read = _whole(values, "disk", 0), _whole(values, "disk", 1)
    writes, written = _whole(values, "disk", 2), _whole(values, "disk", 3)
    listening = _whole(values, "libvirt", 0)
    return Beat(
        number=number,
        boot_id=boot,
        uptime_s=_decimal(values, "up", 0),
        load_1=_decimal(values, "load", 0),
        cpu_busy_ticks=_whole(values, "cpu", 0),
        cpu_idle_ticks=_whole(values, "cpu", 1),
        memory_total_bytes=memory_total,
        # Kernels before 3.14 tell no MemAvailable.
        memory_used_bytes=_rest(memory_total, memory_free if available is None else available),
        swap_total_bytes=_kib(values, "swap", 0),
        swap_used_bytes=_rest(_kib(values, "swap", 0), _kib(values, "swap", 1)),
        cpu_pressure_percent=_percent(values, "psi", 0),
        memory_pressure_percent=_percent(values, "psi", 1),
        io_pressure_percent=_percent(values, "psi", 2),
        # Bytes, not sectors: at 100 Gbit/s eight days are more than a 512th of the largest.
        net_rx_bytes=_whole(values, "net", 0, _LARGEST),
        net_tx_bytes=_whole(values, "net", 1, _LARGEST),
        disk_reads=reads,
        disk_read_bytes=None if read is None else read * SECTOR_BYTES,
        disk_writes=writes,
        disk_written_bytes=None if written is None else written * SECTOR_BYTES,
        libvirt_up=None if listening is None else listening == 1,
        vms_running=_count(values, "vms", 0),
        vms_total=_count(values, "vms", 1),
    )


def _part(values: dict[str, list[str]], name: str, index: int) -> str:
    parts = values.get(name, ())
    return parts[index] if index < len(parts) else ""


def _text(values: dict[str, list[str]], name: str) -> str | None:
    text = _part(values, name, 0)
    return text if 1 < len(text) <= 64 and text.isascii() and text.isprintable() else None


def _whole(
    values: dict[str, list[str]], name: str, index: int, most: int = _LARGEST // SECTOR_BYTES
) -> int | None:
    text = _part(values, name, index)
    return integer(text, most=most) if text.isdecimal() else None


def _count(values: dict[str, list[str]], name: str, index: int) -> int | None:
    """A number that fits its column: one host's nonsense would otherwise cost every node its beat, as all are
    written at once."""
    number = _whole(values, name, index)
    return number if number is not None and number <= _MOST else None


def _decimal(values: dict[str, list[str]], name: str, index: int) -> float | None:
    whole, point, fraction = _part(values, name, index).partition(".")
    digits = whole + fraction
    if not whole or (point and not fraction) or not (digits.isascii() and digits.isdecimal()):
        return None
    return decimal(f"{whole}.{fraction or 0}") if len(digits) <= 18 else None


def _percent(values: dict[str, list[str]], name: str, index: int) -> float | None:
    number = _decimal(values, name, index)
    return number if number is not None and number <= 100 else None


def _kib(values: dict[str, list[str]], name: str, index: int) -> int | None:
    number = _whole(values, name, index)
    return None if number is None or number > _LARGEST // _KIB // SECTOR_BYTES else number * _KIB


def _rest(total: int | None, free: int | None) -> int | None:
    return None if total is None or free is None or free > total else total - free
