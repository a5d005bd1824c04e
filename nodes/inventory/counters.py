"""What has passed through an interface since it came up, and how fast it went between two snapshots.

Sources: IFLA_STATS64 as ``ip -s`` prints it, and /proc/net/dev where ``ip`` is not there
(Documentation/networking/statistics.rst). Directions are the host's: what a VM sends is received on its tap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nodes.inventory.jsontext import Tree, branch, subtree, whole
from nodes.inventory.parsing.numbers import integer

_PROC_COLUMNS = {
    "rx_bytes": 0,
    "rx_packets": 1,
    "rx_errors": 2,
    "rx_dropped": 3,
    "rx_multicast": 7,
    "tx_bytes": 8,
    "tx_packets": 9,
    "tx_errors": 10,
    "tx_dropped": 11,
    "tx_collisions": 13,
}


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals of both directions; None where the host does not tell one."""

    rx_bytes: int | None = None
    rx_packets: int | None = None
    rx_errors: int | None = None
    rx_dropped: int | None = None
    rx_multicast: int | None = None
    tx_bytes: int | None = None
    tx_packets: int | None = None
    tx_errors: int | None = None
    tx_dropped: int | None = None
    tx_collisions: int | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """The same a second, over ``seconds``. None where a counter is unknown, or went back (it was reset)."""

    seconds: float
    rx_bytes_per_s: float | None
    rx_packets_per_s: float | None
    rx_errors_per_s: float | None
    rx_dropped_per_s: float | None
    tx_bytes_per_s: float | None
    tx_packets_per_s: float | None
    tx_errors_per_s: float | None
    tx_dropped_per_s: float | None


@dataclass(frozen=True, slots=True)
class CounterReading:
    """One interface's counters in one snapshot. ``index`` is the kernel's number of it, never used twice in a
    boot: another one under the same name is another interface."""

    index: int | None
    counters: Counters


def counters_of_ip(link: Tree) -> Counters | None:
    """From an object of ``ip -j -s``; None where it has no statistics."""
    rx, tx = subtree(link, "stats64", "rx"), subtree(link, "stats64", "tx")
    if not rx and not tx:
        return None
    return Counters(
        rx_bytes=_count(whole(rx, "bytes")),
        rx_packets=_count(whole(rx, "packets")),
        rx_errors=_count(whole(rx, "errors")),
        rx_dropped=_count(whole(rx, "dropped")),
        rx_multicast=_count(whole(rx, "multicast")),
        tx_bytes=_count(whole(tx, "bytes")),
        tx_packets=_count(whole(tx, "packets")),
        tx_errors=_count(whole(tx, "errors")),
        tx_dropped=_count(whole(tx, "dropped")),
        tx_collisions=_count(whole(tx, "collisions")),
    )


def counters_of_proc(lines: list[str]) -> dict[str, Counters]:
    """From the lines of /proc/net/dev, by interface.

    Its received "drop" also counts what the device had no buffer for (rx_missed_errors), which ``ip`` does
    not.
    """
    found: dict[str, Counters] = {}
    for line in lines:
        name, colon, rest = line.partition(":")
        columns = [_count(integer(word)) for word in rest.split()]
        if colon and len(columns) > max(_PROC_COLUMNS.values()):
            told = {key: columns[place] for key, place in _PROC_COLUMNS.items()}
            found[name.strip()] = Counters(**told)
    return found


def rates(
    before: Mapping[str, CounterReading],
    after: Mapping[str, CounterReading],
    seconds: float,
    *,
    same_boot: bool = True,
) -> dict[str, Rates]:
    """How fast it went on each interface of both readings, ``seconds`` apart.

    A host that has booted in between (``same_boot`` False) has no rates: its counters began anew, though some
    may have passed their old value by now. So has an interface that was made anew under its old name. A
    counter that went back, by a reset or by passing 2^32 in a driver that counts in 32 bits, has none: nobody
    can tell the two apart.
    """
    if not same_boot or not seconds > 0:
        return {}
    found: dict[str, Rates] = {}
    for name, reading in after.items():
        earlier = before.get(name)
        if earlier is not None and earlier.index == reading.index:
            found[name] = _rates(earlier.counters, reading.counters, seconds)
    return found


def readings_of_plain(facts: object) -> dict[str, CounterReading]:
    """The readings in stored facts of the section ``net`` (its plain JSON), by interface."""
    found: dict[str, CounterReading] = {}
    for kind in facts.values() if isinstance(facts, Mapping) else ():
        for interface in kind if isinstance(kind, list) else ():
            name, counters = branch(interface, "name"), branch(interface, "counters")
            if isinstance(name, str) and isinstance(counters, Mapping):
                values = {key: _count(whole(counters, key)) for key in Counters.__dataclass_fields__}
                found[name] = CounterReading(whole(interface, "index"), Counters(**values))
    return found


def _rates(before: Counters, after: Counters, seconds: float) -> Rates:
    def rate(name: str) -> float | None:
        first: int | None = getattr(before, name)
        last: int | None = getattr(after, name)
        if first is None or last is None or last < first:
            return None
        return round((last - first) / seconds, 3)

    return Rates(
        seconds=seconds,
        rx_bytes_per_s=rate("rx_bytes"),
        rx_packets_per_s=rate("rx_packets"),
        rx_errors_per_s=rate("rx_errors"),
        rx_dropped_per_s=rate("rx_dropped"),
        tx_bytes_per_s=rate("tx_bytes"),
        tx_packets_per_s=rate("tx_packets"),
        tx_errors_per_s=rate("tx_errors"),
        tx_dropped_per_s=rate("tx_dropped"),
    )


def _count(number: int | None) -> int | None:
    return number if number is not None and 0 <= number < 1 << 64 else None
