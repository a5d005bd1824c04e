"""smartctl's output for people, as the tree that its JSON has.

Versions before 7.0 know no ``-j`` (Debian 10, Ubuntu 18.04, CentOS 7). Their text becomes the members that
the readers of the JSON look for, so that there is one reader of facts and one verdict. Source: the print
functions named in smartctl(8)'s examples; the words have not changed since 5.40.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nodes.inventory.parsing.effort import stepped
from nodes.inventory.parsing.numbers import capped, decimal, integer
from nodes.inventory.smart_tree import Tree, load_cut_tree, load_tree, whole

_MARKS = ("smartctl ", "=== START", "SMART ", "Smartctl", "Device is in ", "Read Device Identity", "INQUIRY")
_FIELD = re.compile(r"([A-Za-z][^:]{1,70}?)(?: is)?:\s*(\S.*)\Z")
_ATTRIBUTE = re.compile(
    r"\s{0,8}(\d{1,3}) (\S{1,80})\s{1,40}(0x[0-9a-fA-F]{4}|[POSRCK+-]{6,7})"
    r"\s{1,9}(\d{1,3}|---)\s{1,9}(\d{1,3}|---)\s{1,9}(\d{1,3}|---)\s{1,9}(\S.*)\Z"
)
_LONG_TAIL = re.compile(r"(?:Pre-fail|Old_age)\s+(?:Always|Offline)\s+(\S+)\s+(\S.*)\Z")
_BRIEF_TAIL = re.compile(r"(-|NOW|Past)\s+(\S.*)\Z")
_STATISTIC = re.compile(
    r"\s{0,8}(?:0x)?(\w{1,2})\s{1,9}0x\w{3}\s{1,9}\d\s{1,20}(-?\d{1,20}|-)(~?)\s{1,9}"
    r"(?:[A-Z-]{3}\s{1,9})?(\S.*)\Z"
)
_SELF_TEST = re.compile(
    r"#\s{0,3}\d{1,3}\s{1,9}(\S.{0,60}?)\s{2,40}"
    r"((?:Completed|Aborted|Interrupted|Fatal|Self-test|Failed|Unknown)[^%]{0,80}?)"
    r"\s{1,40}(?:(\d{1,3})%\s{1,20})?(\d{1,12}|-|NOW)\s"
)
_COUNTERS = re.compile(r"(read|write|verify):((?:\s+\d+(?:\.\d+)?){7})\s*\Z")
_SIZES = re.compile(r"(\d{1,9}) bytes logical(?:, (\d{1,9}) bytes physical|/physical)?")
_SPEED = re.compile(r"\b(\d{1,4}(?:\.\d{1,4})?) Gb/s", re.ASCII)
_HOURS_UP = re.compile(
    r"\s{0,8}(?:number of hours powered up\s*=|Accumulated power on time, hours:minutes)\s*(\d{1,12})[:.\s]"
)
_LONGEST_LINE = 300
"""Longer ones are no line of smartctl's."""
_TEST_FAILED = re.compile(r"failure|failed|fatal", re.IGNORECASE)


def is_smartctls(text: str) -> bool:
    """Whether ``text`` is output of smartctl's, for programs or for people."""
    return any(load(text) is not None for load in (load_tree, load_cut_tree, load_text))


def load_text(text: str) -> Tree | None:
    """The tree of smartctl's text; None where ``text`` is none of its."""
    if not any(line.startswith(_MARKS) for line in text.splitlines()[:40]):
        return None
    tree: dict[str, Any] = {"smartctl": {"messages": []}, "device": {}}
    for line in stepped(text.splitlines()):
        _read_line(line[:_LONGEST_LINE], tree)
    if "ata_smart_attributes" in tree or "ata" in tree:
        tree["device"].setdefault("protocol", "ATA")
    tree.pop("ata", None)
    return tree


def _read_line(line: str, tree: dict[str, Any]) -> None:
    for pattern, store in _SHAPES:
        match = pattern.match(line)
        if match:
            store(match, tree)
            return
    match = _FIELD.match(line)
    if match:
        store_field = _FIELDS.get(" ".join(match.group(1).split()).lower())
        if store_field:
            store_field(match.group(2).strip(), tree)
            return
    if _MESSAGE.search(line):
        tree["smartctl"]["messages"].append({"string": line.strip(), "severity": "error"})


def _store_attribute(match: re.Match[str], tree: dict[str, Any]) -> None:
    number, name, flags, value, worst, threshold, tail = match.groups()
    told = _LONG_TAIL.match(tail) or _BRIEF_TAIL.match(tail)
    if told is None:
        return
    prefail = flags.startswith("P") if not flags.startswith("0x") else bool(capped(flags, 16) & 1)
    row = {"id": capped(number), "name": name, "value": whole(value), "worst": whole(worst)}
    row |= {
        "thresh": whole(threshold),
        "flags": {"prefailure": prefail},
        "raw": {"string": told.group(2).strip()},
    }
    row["when_failed"] = {"failing_now": "now", "in_the_past": "past"}.get(
        told.group(1).lower(), told.group(1)
    )
    tree.setdefault("ata_smart_attributes", {"table": []})["table"].append(row)


def _store_statistic(match: re.Match[str], tree: dict[str, Any]) -> None:
    page, value, _, name = match.groups()
    if value == "-":
        return
    row = {"name": name.strip(), "value": integer(value), "flags": {"valid": True}}
    tree.setdefault("ata_device_statistics", {"pages": []})["pages"].append({"number": page, "table": [row]})


def _store_self_test(match: re.Match[str], tree: dict[str, Any]) -> None:
    kind, status, remaining, hours = match.groups()
    row: dict[str, Any] = {"type": {"string": kind}, "status": {"string": status.strip()}}
    if _TEST_FAILED.search(status):
        row["status"]["passed"] = False
    elif "without error" in status or status.strip() == "Completed":
        row["status"]["passed"] = True
    row["lifetime_hours"] = whole(hours)
    row["remaining_percent"] = whole(remaining)
    log = tree.setdefault("ata_smart_self_test_log", {"standard": {"table": []}})["standard"]
    log["table"].append(row)


def _store_counters(match: re.Match[str], tree: dict[str, Any]) -> None:
    numbers = match.group(2).split()
    row = {"gigabytes_processed": numbers[5], "total_uncorrected_errors": whole(numbers[6])}
    tree.setdefault("scsi_error_counter_log", {})[match.group(1)] = row


def _store_hours_up(match: re.Match[str], tree: dict[str, Any]) -> None:
    tree["power_on_time"] = {"hours": integer(match.group(1))}


_SHAPES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], dict[str, Any]], None]], ...] = (
    (_ATTRIBUTE, _store_attribute),
    (_STATISTIC, _store_statistic),
    (_SELF_TEST, _store_self_test),
    (_COUNTERS, _store_counters),
    (_HOURS_UP, _store_hours_up),
)
_MESSAGE = re.compile(
    r"failed|Unknown USB bridge|STANDBY mode|SLEEP mode|not supported|Permission denied|No such device|"
    r"UNRECOGNIZED OPTION|INVALID ARGUMENT|Unable to detect|Please specify device type|requires option"
)


def _put(*path: str, read: Callable[[str], Any] = str) -> Callable[[str, dict[str, Any]], None]:
    """A store of a field's value at ``path``; what cannot be read is left out."""

    def store(value: str, tree: dict[str, Any]) -> None:
        found = read(value)
        if found is None:
            return
        at = tree
        for step in path[:-1]:
            at = at.setdefault(step, {})
        at[path[-1]] = found

    return store


def _passed(value: str) -> bool | None:
    word = value.split()[0].upper()
    if word in ("PASSED", "OK"):
        return True
    # SCSI names its failure at length, as in "FIRMWARE IMPENDING FAILURE TOO MANY BLOCK REASSIGNS".
    return False if "FAIL" in value.upper() or "EXCEEDED" in value.upper() else None


def _rotation(value: str) -> int | None:
    return 0 if value.startswith("Solid State") else whole(value)


def _wwn(value: str) -> str | None:
    digits = value.replace(" ", "")
    return f"0x{digits}" if re.fullmatch(r"[0-9a-fA-F]{16}", digits) else None


def _store_support(value: str, tree: dict[str, Any]) -> None:
    support = tree.setdefault("smart_support", {})
    if value.startswith(("Available", "Unavailable")):
        support["available"] = value.startswith("Available")
    elif value.startswith(("Enabled", "Disabled")):
        support["enabled"] = value.startswith("Enabled")


def _store_sizes(value: str, tree: dict[str, Any]) -> None:
    match = _SIZES.match(value)
    if match:
        tree["logical_block_size"] = integer(match.group(1))
        tree["physical_block_size"] = integer(match.group(2) or match.group(1))


def _store_sata(value: str, tree: dict[str, Any]) -> None:
    name, _, rest = value.partition(",")
    tree["sata_version"] = {"string": name.strip()}
    most, _, now = rest.partition("(current:")
    for key, text in (("max", most), ("current", now)):
        match = _SPEED.search(text)
        rate = decimal(match.group(1)) if match else None
        if rate is not None:
            speed = {"units_per_second": round(rate * 10), "bits_per_unit": 100_000_000}
            tree.setdefault("interface_speed", {})[key] = speed


def _store_transport(value: str, tree: dict[str, Any]) -> None:
    tree["scsi_transport_protocol"] = {"name": value}
    tree["device"]["protocol"] = "SCSI"


def _store_errors(value: str, tree: dict[str, Any]) -> None:
    tree["ata_smart_error_log"] = {"summary": {"count": whole(value)}}
    tree["ata"] = True


def _nvme(name: str, read: Callable[[str], Any] = whole) -> Callable[[str, dict[str, Any]], None]:
    put = _put("nvme_smart_health_information_log", name, read=read)

    def store(value: str, tree: dict[str, Any]) -> None:
        put(value, tree)
        tree["device"]["protocol"] = "NVMe"

    return store


def _temperature(value: str, tree: dict[str, Any]) -> None:
    tree.setdefault("temperature", {})["current"] = whole(value, low=-100)


_STATUS = _put("smart_status", "passed", read=_passed)
_SERIAL = _put("serial_number")
_FIELDS: Mapping[str, Callable[[str, dict[str, Any]], None]] = {
    "device model": _put("model_name"),
    "model number": _put("model_name"),
    "model family": _put("model_family"),
    "vendor": _put("scsi_vendor"),
    "product": _put("scsi_product"),
    "revision": _put("scsi_revision"),
    "serial number": _SERIAL,
    "lu wwn device id": _put("wwn_text", read=_wwn),
    "logical unit id": _put("logical_unit_id"),
    "firmware version": _put("firmware_version"),
    "user capacity": _put("user_capacity", "bytes", read=whole),
    "namespace 1 size/capacity": _put("user_capacity", "bytes", read=whole),
    "sector size": _store_sizes,
    "sector sizes": _store_sizes,
    "logical block size": _put("logical_block_size", read=whole),
    "physical block size": _put("physical_block_size", read=whole),
    "rotation rate": _put("rotation_rate", read=_rotation),
    "form factor": _put("form_factor", "name"),
    "sata version": _store_sata,
    "transport protocol": _store_transport,
    "smart support": _store_support,
    "smart overall-health self-assessment test result": _STATUS,
    "smart health status": _STATUS,
    "ata error count": _store_errors,
    "device error count": _store_errors,
    "current drive temperature": _temperature,
    "drive trip temperature": _put("temperature", "drive_trip", read=whole),
    "elements in grown defect list": _put("scsi_grown_defect_list", read=whole),
    "percentage used endurance indicator": _put("scsi_percentage_used_endurance_indicator", read=whole),
    "accumulated start-stop cycles": _put(
        "scsi_start_stop_cycle_counter", "accumulated_start_stop_cycles", read=whole
    ),
    "accumulated load-unload cycles": _put(
        "scsi_start_stop_cycle_counter", "accumulated_load_unload_cycles", read=whole
    ),
    "current temperature": _temperature,
    "critical warning": _nvme("critical_warning"),
    "temperature": _nvme("temperature", lambda value: whole(value, low=-100)),
    "available spare": _nvme("available_spare"),
    "available spare threshold": _nvme("available_spare_threshold"),
    "percentage used": _nvme("percentage_used"),
    "data units read": _nvme("data_units_read"),
    "data units written": _nvme("data_units_written"),
    "host read commands": _nvme("host_reads"),
    "host write commands": _nvme("host_writes"),
    "power cycles": _nvme("power_cycles"),
    "power on hours": _nvme("power_on_hours"),
    "unsafe shutdowns": _nvme("unsafe_shutdowns"),
    "media and data integrity errors": _nvme("media_errors"),
    "error information log entries": _nvme("num_err_log_entries"),
    "warning comp. temp. threshold": _put("nvme_composite_temperature_threshold", "warning", read=whole),
    "critical comp. temp. threshold": _put("nvme_composite_temperature_threshold", "critical", read=whole),
    "nvme version": _put("nvme_version", "string"),
}
