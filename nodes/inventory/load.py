"""How busy the host is: load averages, pressure and CPU time.

Sources: the kernel's Documentation/filesystems/proc.rst (loadavg, stat) and Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodes.inventory.parsing.numbers import decimal, integer
from nodes.inventory.procfiles import Files

_PRESSURE = re.compile(
    r"(some|full) avg10=(\d+\.\d+) avg60=(\d+\.\d+) avg300=(\d+\.\d+) total=(\d{1,19})\Z", re.ASCII
)
_LOAD = re.compile(r"(\d+\.\d+) (\d+\.\d+) (\d+\.\d+) (\d{1,9})/(\d{1,9})", re.ASCII)
_TICKS_PER_SECOND = 100
"""USER_HZ, the same on every architecture that libvirt's QEMU driver runs on."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """Share of time, in percent, in which some or all tasks waited for a resource, over 10, 60 and 300
    seconds; ``total_us`` counts microseconds since the boot. The CPU's ``full`` means nothing for a host."""

    some_10_percent: float | None
    some_60_percent: float | None
    some_300_percent: float | None
    some_total_us: int | None
    full_10_percent: float | None
    full_60_percent: float | None
    full_300_percent: float | None
    full_total_us: int | None


@dataclass(frozen=True, slots=True)
class LoadFacts:
    """Load averages over 1, 5 and 15 minutes, PSI, and CPU time since the boot, summed over all CPUs: two
    readings give the utilization between them."""

    average_1: float | None
    average_5: float | None
    average_15: float | None
    tasks_running: int | None
    tasks_total: int | None
    cpu_busy_s: float | None
    cpu_idle_s: float | None
    """Idle and waiting for input or output."""
    pressure_cpu: Pressure | None
    pressure_memory: Pressure | None
    pressure_io: Pressure | None


def read_load(files: Files) -> LoadFacts:
    """Facts from the source ``system``."""
    averages = _LOAD.match(files.get("/proc/loadavg") or "")
    busy, idle = _cpu_time(files.get("stat.cpu") or "")
    return LoadFacts(
        average_1=decimal(averages[1]) if averages else None,
        average_5=decimal(averages[2]) if averages else None,
        average_15=decimal(averages[3]) if averages else None,
        tasks_running=integer(averages[4]) if averages else None,
        tasks_total=integer(averages[5]) if averages else None,
        cpu_busy_s=busy,
        cpu_idle_s=idle,
        pressure_cpu=_pressure(files.lines("/proc/pressure/cpu")),
        pressure_memory=_pressure(files.lines("/proc/pressure/memory")),
        pressure_io=_pressure(files.lines("/proc/pressure/io")),
    )


def _cpu_time(text: str) -> tuple[float | None, float | None]:
    """Busy and idle seconds. Guests' time is part of user time already (proc(5))."""
    words = text.split()
    ticks = [integer(word) for word in words[1:9]]
    if not words or words[0] != "cpu" or len(ticks) < 4 or any(tick is None or tick < 0 for tick in ticks):
        return None, None
    counted = [tick or 0 for tick in ticks]
    idle = sum(counted[3:5])
    return (sum(counted) - idle) / _TICKS_PER_SECOND, idle / _TICKS_PER_SECOND


def _pressure(lines: list[str]) -> Pressure | None:
    found = {match[1]: match for match in map(_PRESSURE.match, lines) if match}
    if not found:
        return None
    some, full = found.get("some"), found.get("full")
    return Pressure(
        some_10_percent=decimal(some[2]) if some else None,
        some_60_percent=decimal(some[3]) if some else None,
        some_300_percent=decimal(some[4]) if some else None,
        some_total_us=integer(some[5]) if some else None,
        full_10_percent=decimal(full[2]) if full else None,
        full_60_percent=decimal(full[3]) if full else None,
        full_300_percent=decimal(full[4]) if full else None,
        full_total_us=integer(full[5]) if full else None,
    )
