"""The facts of one drive's SMART data, whatever the drive's protocol."""

from __future__ import annotations

from dataclasses import dataclass

from nodes.inventory.smart_attributes import SmartAttribute
from nodes.inventory.smart_health import Health, Reason, SmartState
from nodes.inventory.smart_selftest import SelfTests


@dataclass(frozen=True, slots=True)
class SmartFacts:
    """What one drive tells of itself.

    Temperatures in °C, sizes and amounts in bytes, speeds in Mbit/s, ``power_on_hours`` in hours; counters
    since the drive was made. ``wear_used_percent`` may pass 100 (the rated endurance is then used up);
    ``life_remaining_percent`` is its rest, never below 0. None: the drive does not tell. Where a drive
    sleeps, ``state`` says so and all values are None; carry_over() puts the last known ones there and
    their time into ``values_observed_at`` (RFC 3339).
    """

    state: SmartState
    health: Health
    reasons: tuple[Reason, ...]
    device_type: str | None = None
    protocol: str | None = None
    """``ata``, ``scsi`` or ``nvme``."""
    exit_status: int | None = None
    exit_bits: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    model: str | None = None
    family: str | None = None
    vendor: str | None = None
    serial: str | None = None
    wwn: str | None = None
    firmware: str | None = None
    capacity_bytes: int | None = None
    logical_sector_bytes: int | None = None
    physical_sector_bytes: int | None = None
    rotation_rpm: int | None = None
    """0 is a drive without moving parts."""
    form_factor: str | None = None
    interface: str | None = None
    """As in ``SATA 3.3``, ``SAS (SPL-4)`` or ``NVMe 1.4``."""
    interface_speed_mbps: int | None = None
    interface_max_speed_mbps: int | None = None
    temperature_celsius: int | None = None
    temperature_warning_celsius: int | None = None
    temperature_critical_celsius: int | None = None
    power_on_hours: int | None = None
    power_cycles: int | None = None
    start_stop_cycles: int | None = None
    load_cycles: int | None = None
    unsafe_shutdowns: int | None = None
    read_operations: int | None = None
    write_operations: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    wear_used_percent: int | None = None
    life_remaining_percent: int | None = None
    wear_source: str | None = None
    spare_percent: int | None = None
    spare_threshold_percent: int | None = None
    reallocated_sectors: int | None = None
    """Of SCSI drives the grown defect list."""
    pending_sectors: int | None = None
    uncorrectable_sectors: int | None = None
    media_errors: int | None = None
    """Errors that reached the host: NVMe media errors, SCSI uncorrected ones, ATA reported uncorrectable."""
    interface_crc_errors: int | None = None
    error_log_count: int | None = None
    critical_warnings: tuple[str, ...] = ()
    self_tests: SelfTests | None = None
    attributes: tuple[SmartAttribute, ...] = ()
    values_observed_at: str | None = None
