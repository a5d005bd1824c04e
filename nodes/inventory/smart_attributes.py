"""What ATA drives tell in vendor attributes and in device statistics: wear, amounts of data, counters.

Numbers of attributes mean what their vendor says; smartctl's drive database gives them the names that tell
the meanings apart (comments in drivedb.h). The device statistics log (ATA8-ACS-4, 9.5) is a standard and
goes first wherever a drive has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nodes.inventory.smart_tree import Tree, branch, first, rows, truth, whole, words

ENDURANCE = "Percentage Used Endurance Indicator"
_PERCENT_HIGH = 255
"""The highest that one byte can say; beyond it no percentage is meant."""
_LONGEST_NAME = 100
"""Characters; those of smartctl's drive database have at most 40."""

_USED = re.compile(r"life.*used|used.*life|^percentage_used$")
_REMAINING = re.compile(
    r"life_?left(?!\()|life.*remain|remain.*life|lifetime_left|^media_wearout_indicator$|^wear_leveling_count$"
)
_NO_PERCENTAGE = re.compile(r"write|read|nand|flash|host|prg|_gib|_gb\b|lba|protect|curve|retired|retried")
_ORDER = (231, 245, 248, 169, 202, 209, 233, 201, 177, 173)
"""Where two attributes tell of wear: those that are a percentage by their name before the erase counts."""

_WRITTEN = re.compile(
    r"(host|total|lifetime|device)_?(writes?|written|wts|lbas_written|sectors_written)|lbas_written"
)
_READ = re.compile(r"(host|total|lifetime|device)_?(reads?|rds|lbas_read|sectors_read)|lbas_read")
_NOT_OF_HOST = re.compile(
    r"nand|flash|tlc|slc|flsh|high|low|perc|fail|err|cnt|count|workld|ratio|retr|bad|corr|bits"
)
_UNITS = (
    ("_32mib", 1 << 25),
    ("_1gib", 1 << 30),
    ("_gib", 1 << 30),
    ("_gb", 10**9),
    ("_mib", 1 << 20),
    ("_mb", 10**6),
)


@dataclass(frozen=True, slots=True)
class SmartAttribute:
    """One vendor attribute: normalised ``value`` and ``worst`` (best is high) against ``threshold``.

    ``raw`` is smartctl's reading of the raw value as text, ``raw_value`` the number it begins with.
    ``failed`` is ``now``, ``past`` or None; ``prefail`` says that reaching the threshold foretells a
    failure, where other attributes then only show age. All numbers are None where the drive gave none.
    """

    id: int
    name: str
    value: int | None = None
    worst: int | None = None
    threshold: int | None = None
    prefail: bool = False
    failed: str | None = None
    raw: str | None = None
    raw_value: int | None = None


def read_attributes(tree: Tree) -> tuple[SmartAttribute, ...]:
    """The attributes in the drive's order; rows without a number of an attribute are left out."""
    return tuple(_attributes(tree))


def _attributes(tree: Tree) -> Iterator[SmartAttribute]:
    for row in rows(tree, "ata_smart_attributes", "table"):
        number = whole(row.get("id"), 1, 255)
        if number is None:
            continue
        raw = words(branch(row, "raw", "string"))
        value, worst = whole(row.get("value"), 0, 255), whole(row.get("worst"), 0, 255)
        threshold = whole(row.get("thresh"), 0, 255)
        yield SmartAttribute(
            id=number,
            name=(words(row.get("name")) or f"Attribute_{number}")[:_LONGEST_NAME],
            value=value,
            worst=worst,
            threshold=threshold,
            prefail=_is_prefail(row),
            failed=_failed(words(row.get("when_failed")), value, worst, threshold),
            raw=raw or _digits(branch(row, "raw", "value")),
            raw_value=first(whole(raw), whole(branch(row, "raw", "value"))),
        )


def _is_prefail(row: Tree) -> bool:
    told = truth(branch(row, "flags", "prefailure"))
    if told is not None:
        return told
    return bool((whole(branch(row, "flags", "value")) or 0) & 1)


def _failed(told: str | None, value: int | None, worst: int | None, threshold: int | None) -> str | None:
    """``now`` or ``past`` as smartctl decides it: a threshold of 0 never fails, 254 and 255 are no values."""
    if told is not None:
        word = told.lower()
        if "now" in word:
            return "now"
        if "past" in word:
            return "past"
    if not threshold:
        return None
    if value is not None and 0 < value < 254 and value <= threshold:
        return "now"
    if worst is not None and 0 < worst < 254 and worst <= threshold:
        return "past"
    return None


def _digits(value: object) -> str | None:
    number = whole(value)
    return None if number is None else str(number)


def attribute_count(attributes: Sequence[SmartAttribute], number: int, *parts: str) -> int | None:
    """The raw value of attribute ``number`` where its name has one of ``parts`` (any where none is given).

    Families that use the number for something else name it so; counts of what ECC corrected are no errors.
    """
    for attribute in attributes:
        name = attribute.name.lower()
        if attribute.id != number or "not_in_use" in name or "ecc" in name:
            continue
        if not parts or any(part in name for part in parts):
            return attribute.raw_value
    return None


def statistics(tree: Tree) -> Mapping[str, int]:
    """Valid values of the device statistics log by their names."""
    found: dict[str, int] = {}
    for page in rows(tree, "ata_device_statistics", "pages"):
        for row in rows(page, "table"):
            name, value = words(row.get("name")), whole(row.get("value"), low=-128)
            if name and value is not None and truth(branch(row, "flags", "valid")) is not False:
                found.setdefault(name, value)
    return found


def wear_of_attributes(attributes: Sequence[SmartAttribute], known_drive: bool) -> tuple[int, str] | None:
    """Percentage of the rated endurance used, and the attribute that tells it; None where none does.

    ``known_drive``: the drive is in smartctl's database, so that names are its vendor's. In an unknown drive
    a default name over a value that never moved from 100 tells nothing.
    """
    by_id = sorted(attributes, key=lambda a: _ORDER.index(a.id) if a.id in _ORDER else len(_ORDER))
    for attribute in by_id:
        name = attribute.name.lower()
        if _NO_PERCENTAGE.search(name):
            continue
        used = None
        if _USED.search(name):
            used = _used(attribute)
        elif _REMAINING.search(name) and (known_drive or attribute.value != 100):
            used = _used_by_remaining(attribute, name)
        if used is not None:
            return used, f"{attribute.id} {attribute.name}"
    return None


def _used(attribute: SmartAttribute) -> int | None:
    if attribute.raw_value is not None and attribute.raw_value <= _PERCENT_HIGH:
        return attribute.raw_value
    return None if attribute.value is None or attribute.value > 100 else 100 - attribute.value


def _used_by_remaining(attribute: SmartAttribute, name: str) -> int | None:
    """From a percentage that remains: the raw value in some families, the normalised one in the others.

    ``Percent_Lifetime_Remain`` of Micron has the used percentage as its raw value, erase counts and wear
    indicators some count; drives of Silicon Motion keep the normalised value at 100 and count down in the
    raw one (``Remaining_Lifetime_Perc``).
    """
    value = attribute.value if attribute.value is not None and attribute.value <= 100 else None
    raw = attribute.raw_value if attribute.raw_value is not None and attribute.raw_value <= 100 else None
    if attribute.id == 230:
        return None
    if name.startswith("remaining_life") and raw is not None and (value is None or value in (100, raw)):
        return 100 - raw
    if name.startswith(("percent_lifetime", "media_wearout", "wear_leveling")) or value not in (100, None):
        return None if value is None else 100 - value
    # A value at 100 over a raw number that is neither 0 nor the small rest of 100: the raw one counts down.
    if raw is not None and raw > 10:
        return 100 - raw
    return None if value is None else 100 - value


def bytes_moved(attributes: Sequence[SmartAttribute], written: bool) -> int | None:
    """Bytes that the host wrote (or read) over the drive's life, by an attribute whose name has the unit.

    Only for drives whose names are their vendor's: other makers count GiB under the number that has
    ``Total_LBAs_Written`` as its default name.
    """
    wanted = _WRITTEN if written else _READ
    for attribute in sorted(attributes, key=lambda a: -a.id):
        name = attribute.name.lower()
        if attribute.raw_value is None or not wanted.search(name) or _NOT_OF_HOST.search(name):
            continue
        for ending, unit in _UNITS:
            if name.endswith(ending):
                return attribute.raw_value * unit
        if "lba" in name or "sectors" in name:
            # Logical blocks of attributes are 512 bytes by convention, whatever the drive's own are.
            return attribute.raw_value * 512
    return None
