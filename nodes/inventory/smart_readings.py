"""Readings of a drive from the tree of its smartctl output: identity, counters, wear, temperature.

Which member a fact stands in differs by protocol and by version of smartctl; the verdict is smart_health's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nodes.inventory.smart_attributes import (
    ENDURANCE,
    attribute_count,
    bytes_moved,
    read_attributes,
    statistics,
    wear_of_attributes,
)
from nodes.inventory.smart_facts import SmartFacts
from nodes.inventory.smart_health import Health, SmartState
from nodes.inventory.smart_selftest import read_self_tests
from nodes.inventory.smart_tree import Tree, branch, counter, decimal, first, truth, whole, words

NVME_DATA_UNIT_BYTES = 512_000
"""NVM Express base specification, SMART / Health log: units of 1000 blocks of 512 bytes."""
_HOURS_HIGH = 10_000_000
_PERCENT_HIGH = 255


def read_values(tree: Tree, messages: tuple[str, ...], exit_status: int | None) -> SmartFacts:
    """All that ``tree`` tells of the drive, without a verdict."""
    facts = _identity(tree, messages, exit_status)
    readers = {"nvme": _read_nvme, "scsi": _read_scsi}
    facts = readers.get(facts.protocol or "", _read_ata)(tree, facts)
    return _with_wear(_with_temperature(tree, facts), tree)


def _protocol(tree: Tree) -> str | None:
    told = (words(branch(tree, "device", "protocol")) or "").lower()
    if told in ("ata", "scsi", "nvme"):
        return told
    if branch(tree, "nvme_smart_health_information_log") or branch(tree, "nvme_version"):
        return "nvme"
    if any(
        branch(tree, name) is not None for name in ("ata_smart_attributes", "ata_version", "sata_version")
    ):
        return "ata"
    if any(
        branch(tree, name) is not None for name in ("scsi_vendor", "scsi_grown_defect_list", "scsi_version")
    ):
        return "scsi"
    return None


def _identity(tree: Tree, messages: tuple[str, ...], status: int | None) -> SmartFacts:
    vendor, product = words(branch(tree, "scsi_vendor")), words(branch(tree, "scsi_product"))
    named = " ".join(part for part in (vendor, product) if part) or None
    nvme_version = words(branch(tree, "nvme_version", "string"))
    current, most = branch(tree, "interface_speed", "current"), branch(tree, "interface_speed", "max")
    return SmartFacts(
        SmartState.READ,
        Health.UNKNOWN,
        (),
        device_type=words(branch(tree, "device", "type")),
        protocol=_protocol(tree),
        exit_status=status,
        messages=messages,
        model=words(branch(tree, "model_name")) or words(branch(tree, "scsi_model_name")) or named,
        family=words(branch(tree, "model_family")),
        vendor=vendor or words(branch(tree, "vendor")),
        serial=words(branch(tree, "serial_number")),
        wwn=_wwn(tree),
        firmware=words(branch(tree, "firmware_version")) or words(branch(tree, "scsi_revision")),
        capacity_bytes=first(
            whole(branch(tree, "user_capacity", "bytes"), 1), whole(branch(tree, "nvme_total_capacity"), 1)
        ),
        logical_sector_bytes=whole(branch(tree, "logical_block_size"), 1, 1 << 24),
        physical_sector_bytes=whole(branch(tree, "physical_block_size"), 1, 1 << 24),
        rotation_rpm=whole(branch(tree, "rotation_rate"), 0, 100_000),
        form_factor=words(branch(tree, "form_factor", "name")),
        interface=words(branch(tree, "sata_version", "string"))
        or words(branch(tree, "scsi_transport_protocol", "name"))
        or (f"NVMe {nvme_version}" if nvme_version else None),
        interface_speed_mbps=_speed(current),
        interface_max_speed_mbps=_speed(most),
    )


def _speed(tree: object) -> int | None:
    units, bits = whole(branch(tree, "units_per_second"), 1), whole(branch(tree, "bits_per_unit"), 1)
    return None if units is None or bits is None else units * bits // 1_000_000


def _wwn(tree: Tree) -> str | None:
    authority, maker = (
        whole(branch(tree, "wwn", "naa"), 0, 15),
        whole(branch(tree, "wwn", "oui"), 0, 0xFFFFFF),
    )
    unit = whole(branch(tree, "wwn", "id"), 0, 0xFFFFFFFFF)
    if authority is not None and maker is not None and unit is not None:
        return f"0x{authority:x}{maker:06x}{unit:09x}"
    return words(branch(tree, "wwn_text")) or words(branch(tree, "logical_unit_id"))


def _hours(tree: Tree, *others: int | None) -> int | None:
    told = first(whole(branch(tree, "power_on_time", "hours")), *others)
    return whole(told, 0, _HOURS_HIGH)


def _read_nvme(tree: Tree, facts: SmartFacts) -> SmartFacts:
    log = branch(tree, "nvme_smart_health_information_log")
    units_read, units_written = counter(log, "data_units_read"), counter(log, "data_units_written")
    return replace(
        facts,
        rotation_rpm=0,
        power_on_hours=_hours(tree, counter(log, "power_on_hours")),
        power_cycles=first(counter(log, "power_cycles"), counter(tree, "power_cycle_count")),
        unsafe_shutdowns=counter(log, "unsafe_shutdowns"),
        read_operations=counter(log, "host_reads"),
        write_operations=counter(log, "host_writes"),
        read_bytes=None if units_read is None else units_read * NVME_DATA_UNIT_BYTES,
        written_bytes=None if units_written is None else units_written * NVME_DATA_UNIT_BYTES,
        spare_percent=first(
            whole(branch(log, "available_spare"), 0, 100),
            whole(branch(tree, "spare_available", "current_percent"), 0, 100),
        ),
        spare_threshold_percent=first(
            whole(branch(log, "available_spare_threshold"), 0, 100),
            whole(branch(tree, "spare_available", "threshold_percent"), 0, 100),
        ),
        media_errors=counter(log, "media_errors"),
        error_log_count=counter(log, "num_err_log_entries"),
        critical_warnings=_critical_warnings(tree, log),
        self_tests=read_self_tests(tree, "nvme"),
    )


CRITICAL_WARNINGS = (
    "spare_below_threshold",
    "temperature",
    "reliability_degraded",
    "media_read_only",
    "volatile_memory_backup_failed",
    "persistent_memory_unreliable",
    "reserved_bit_6",
    "reserved_bit_7",
)
"""Bits of the critical warning, from bit 0 on (NVM Express base specification 2.0, figure 207)."""


def _critical_warnings(tree: Tree, log: object) -> tuple[str, ...]:
    told = first(
        whole(branch(log, "critical_warning"), 0, 255),
        whole(branch(tree, "smart_status", "nvme", "value"), 0, 255),
    )
    return tuple(name for bit, name in enumerate(CRITICAL_WARNINGS) if (told or 0) >> bit & 1)


def _read_scsi(tree: Tree, facts: SmartFacts) -> SmartFacts:
    cycles = branch(tree, "scsi_start_stop_cycle_counter")
    log = branch(tree, "scsi_error_counter_log")
    errors = [whole(branch(log, way, "total_uncorrected_errors")) for way in ("read", "write", "verify")]
    known = [count for count in errors if count is not None]
    return replace(
        facts,
        power_on_hours=_hours(tree),
        power_cycles=counter(tree, "power_cycle_count"),
        start_stop_cycles=counter(cycles, "accumulated_start_stop_cycles"),
        load_cycles=counter(cycles, "accumulated_load_unload_cycles"),
        read_bytes=_gigabytes(branch(log, "read", "gigabytes_processed")),
        written_bytes=_gigabytes(branch(log, "write", "gigabytes_processed")),
        reallocated_sectors=_grown_defects(tree),
        pending_sectors=whole(branch(tree, "scsi_pending_defects", "count")),
        media_errors=sum(known) if known else None,
        self_tests=read_self_tests(tree, "scsi"),
    )


def _grown_defects(tree: Tree) -> int | None:
    """Entries of the grown defect list. The JSON of smartctl 7.0 and 7.1 has the list's length in bytes, at
    8 (of the format that is asked for) or 4 an entry."""
    told = whole(branch(tree, "scsi_grown_defect_list"))
    version = branch(tree, "smartctl", "version")
    if told and version in ([7, 0], [7, 1]):
        return told // 8 if told % 8 == 0 else -(-told // 4)
    return told


def _gigabytes(value: object) -> int | None:
    told = decimal(value)
    return None if told is None else round(told * 1_000_000_000)


def _read_ata(tree: Tree, facts: SmartFacts) -> SmartFacts:
    attributes, stats = read_attributes(tree), statistics(tree)
    log = branch(tree, "ata_smart_error_log")
    named_by_vendor = truth(branch(tree, "in_smartctl_database")) is not False or bool(facts.rotation_rpm)
    block = facts.logical_sector_bytes or 512
    sectors_read, sectors_written = _sectors(stats, "Read"), _sectors(stats, "Written")
    return replace(
        facts,
        attributes=attributes,
        power_on_hours=_hours(tree, attribute_count(attributes, 9), stats.get("Power-on Hours")),
        power_cycles=first(
            counter(tree, "power_cycle_count"),
            attribute_count(attributes, 12),
            stats.get("Lifetime Power-On Resets"),
        ),
        start_stop_cycles=attribute_count(attributes, 4, "start_stop"),
        load_cycles=first(
            attribute_count(attributes, 193, "load"), attribute_count(attributes, 225, "load_cycle")
        ),
        unsafe_shutdowns=first(
            attribute_count(attributes, 174, "power", "shutdown", "pwr"),
            attribute_count(attributes, 192, "unsafe", "unclean", "power_loss"),
        ),
        read_operations=whole(stats.get("Number of Read Commands")),
        write_operations=whole(stats.get("Number of Write Commands")),
        read_bytes=sectors_read * block
        if sectors_read is not None
        else bytes_moved(attributes, written=False)
        if named_by_vendor
        else None,
        written_bytes=sectors_written * block
        if sectors_written is not None
        else bytes_moved(attributes, written=True)
        if named_by_vendor
        else None,
        reallocated_sectors=first(
            attribute_count(attributes, 5), whole(stats.get("Number of Reallocated Logical Sectors"))
        ),
        pending_sectors=first(
            attribute_count(attributes, 197, "pending"),
            whole(branch(tree, "ata_pending_defects_log", "count")),
        ),
        uncorrectable_sectors=attribute_count(attributes, 198, "uncorrect", "offl"),
        media_errors=first(
            attribute_count(attributes, 187, "uncorr", "unc"),
            whole(stats.get("Number of Reported Uncorrectable Errors")),
        ),
        interface_crc_errors=first(
            attribute_count(attributes, 199, "crc"), whole(stats.get("Number of Interface CRC Errors"))
        ),
        error_log_count=first(
            whole(branch(log, "extended", "count")), whole(branch(log, "summary", "count"))
        ),
        self_tests=read_self_tests(tree, "ata"),
    )


def _sectors(stats: Mapping[str, int], way: str) -> int | None:
    return whole(stats.get(f"Logical Sectors {way}"))


def _with_wear(facts: SmartFacts, tree: Tree) -> SmartFacts:
    used, source = _wear(facts, tree)
    if used is None:
        return facts
    return replace(
        facts, wear_used_percent=used, life_remaining_percent=max(0, 100 - used), wear_source=source
    )


def _wear(facts: SmartFacts, tree: Tree) -> tuple[int | None, str | None]:
    """Percentage used, and who tells it: standards before smartctl's reckoning before vendor attributes."""
    scsi = branch(tree, "scsi_percentage_used_endurance_indicator")
    if isinstance(scsi, Mapping):
        scsi = next(iter(scsi.values()), None)
    told = (
        (branch(tree, "nvme_smart_health_information_log", "percentage_used"), "percentage_used"),
        (statistics(tree).get(ENDURANCE), "device_statistics"),
        (scsi, "percentage_used_endurance_indicator"),
        (branch(tree, "endurance_used", "current_percent"), "endurance_used"),
    )
    for value, source in told:
        percent = whole(value, 0, _PERCENT_HIGH)
        if percent is not None:
            return percent, source
    if facts.rotation_rpm:
        return None, None
    known = (
        truth(branch(tree, "in_smartctl_database")) is not False or "samsung" in (facts.model or "").lower()
    )
    return wear_of_attributes(facts.attributes, known) or (None, None)


def _with_temperature(tree: Tree, facts: SmartFacts) -> SmartFacts:
    stats = statistics(tree)
    # smartctl moved it between two versions that both call themselves 7.3.
    trip = branch(tree, "temperature", "drive_trip") or branch(tree, "scsi_temperature", "drive_trip")
    now = first(
        _degrees(branch(tree, "temperature", "current")),
        _degrees(branch(tree, "nvme_smart_health_information_log", "temperature")),
        _attribute_degrees(facts, 194),
        _attribute_degrees(facts, 190),
        _degrees(stats.get("Current Temperature")),
    )
    if now == 0 and facts.protocol == "scsi" and not whole(trip, 1):
        # What a SCSI target without a sensor prints.
        now = None
    threshold = branch(tree, "nvme_composite_temperature_threshold")
    return replace(
        facts,
        temperature_celsius=now,
        temperature_warning_celsius=first(
            _limit(branch(threshold, "warning")),
            _limit(branch(tree, "temperature", "op_limit_max")),
            _limit(stats.get("Specified Maximum Operating Temperature")),
        ),
        temperature_critical_celsius=first(
            _limit(branch(threshold, "critical")),
            _limit(branch(tree, "temperature", "critical_limit_max")),
            _limit(branch(tree, "temperature", "limit_max")),
            _limit(trip),
        ),
    )


def _attribute_degrees(facts: SmartFacts, number: int) -> int | None:
    """Attributes of temperature pack lowest and highest ones above the low byte of the raw value."""
    raw = attribute_count(facts.attributes, number, "temp")
    return None if raw is None else _degrees(raw if raw < 500 else raw & 0xFF)


def _degrees(value: object) -> int | None:
    """Degrees Celsius; other NVMe tools print kelvins, and 255 is what a missing sensor reads."""
    told = whole(value, -100, 500)
    if told is None:
        return None
    told = told - 273 if told > 255 else told
    return told if -60 <= told <= 200 else None


def _limit(value: object) -> int | None:
    return whole(value, 20, 126)
