"""The verdict over a drive, and the reasons that led to it.

Rules, from the strongest: what the drive or its standard calls failing makes ``failed``; signs of damage,
of use beyond the rating or of a past trouble make ``warning``; a drive that gave no assessment of itself and
no such sign, or whose output was cut off, is ``unknown``; all others are ``healthy``. Notes stand beside a
verdict and never change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from nodes.inventory.smart_attributes import SmartAttribute
from nodes.inventory.smart_selftest import SelfTests

WEAR_WARNING_PERCENT = 90
WEAR_USED_UP_PERCENT = 100


class Health(StrEnum):
    HEALTHY = "healthy"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    NOTE = "note"
    WARNING = "warning"
    FAILED = "failed"


class SmartState(StrEnum):
    """How far a drive could be asked."""

    READ = "read"
    STANDBY = "standby"
    """It sleeps, and was not woken."""
    DISABLED = "disabled"
    UNSUPPORTED = "unsupported"
    UNKNOWN_BRIDGE = "unknown_bridge"
    """A USB bridge that smartctl does not know."""
    DENIED = "denied"
    FAILED = "failed"
    """It could not be opened, or did not answer its commands."""
    TIMEOUT = "timeout"
    MISSING = "missing"
    """The host has no smartctl."""
    EMPTY = "empty"
    TRUNCATED = "truncated"
    """What smartctl printed ends before the drive's values."""
    UNREADABLE = "unreadable"
    """What smartctl printed is no output of its own."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason. ``value`` and the ``limit`` that it reached, where there are such numbers."""

    code: str
    severity: Severity
    message: str
    value: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What a verdict is made of; None is unknown."""

    state: SmartState
    cut: bool = False
    """The end of what smartctl printed is missing."""
    passed: bool | None = None
    failing_because: str | None = None
    """What a SCSI drive says of its failure."""
    exit_bits: tuple[str, ...] = ()
    attributes: tuple[SmartAttribute, ...] = ()
    critical_warnings: tuple[str, ...] = ()
    reallocated: int | None = None
    pending: int | None = None
    uncorrectable: int | None = None
    media_errors: int | None = None
    end_to_end_errors: int | None = None
    spare: int | None = None
    spare_threshold: int | None = None
    wear: int | None = None
    temperature: int | None = None
    temperature_warning: int | None = None
    temperature_critical: int | None = None
    error_log_count: int | None = None
    self_tests: SelfTests | None = None


_STATES = {
    SmartState.STANDBY: "The drive sleeps and was not woken",
    SmartState.DISABLED: "SMART is switched off in the drive; smartctl -s on switches it on",
    SmartState.UNSUPPORTED: "The drive, or what stands before it, has no SMART",
    SmartState.UNKNOWN_BRIDGE: "smartctl does not know the USB bridge or controller before the drive",
    SmartState.DENIED: "smartctl may not open the drive; it needs root, or sudo without a password",
    SmartState.FAILED: "smartctl could not open the drive, or the drive did not answer",
    SmartState.TIMEOUT: "The drive did not answer in time",
    SmartState.MISSING: "The host has no smartctl; it is in the package smartmontools",
    SmartState.EMPTY: "smartctl printed nothing",
    SmartState.TRUNCATED: "What smartctl printed was cut off: some of the drive's values are unknown",
    SmartState.UNREADABLE: "What smartctl printed could not be understood",
}
_CRITICAL = {
    "spare_below_threshold": (Severity.FAILED, "The spare blocks have fallen below the drive's threshold"),
    "spare_blocks_low": (Severity.WARNING, "Most of the spare blocks are used"),
    "temperature": (Severity.WARNING, "The temperature is beyond a threshold of the drive"),
    "reliability_degraded": (
        Severity.FAILED,
        "The drive's reliability is degraded by media or internal errors",
    ),
    "media_read_only": (Severity.FAILED, "The drive has become read-only"),
    "volatile_memory_backup_failed": (
        Severity.FAILED,
        "The backup of the drive's volatile memory has failed",
    ),
    "persistent_memory_unreliable": (Severity.WARNING, "The persistent memory region has become unreliable"),
}
_COUNTS = (
    ("reallocated_sectors", "reallocated", "{} sectors were replaced by spare ones"),
    ("pending_sectors", "pending", "{} sectors could not be read and wait to be replaced"),
    ("uncorrectable_sectors", "uncorrectable", "{} sectors could not be corrected in offline scans"),
    ("media_errors", "media_errors", "{} errors could not be corrected"),
    ("end_to_end_errors", "end_to_end_errors", "{} errors on the way through the drive's cache"),
)


def verdict(found: Findings) -> tuple[Health, tuple[Reason, ...]]:
    """The health and all reasons, the weightiest first. There is always at least one."""
    reasons = sorted(_reasons(found), key=lambda reason: _WEIGHT[reason.severity])
    worst = reasons[0].severity if reasons else Severity.NOTE
    if worst is not Severity.NOTE:
        return Health(worst.value), tuple(reasons)
    if found.state is not SmartState.READ:
        return Health.UNKNOWN, (_note(found.state.value, _STATES[found.state]), *reasons)
    if found.cut:
        return Health.UNKNOWN, tuple(reasons)
    if found.passed is None:
        nothing = _note("no_assessment", "The drive gives no assessment of itself")
        return Health.UNKNOWN, (nothing, *reasons)
    passed = _note("passed", "The drive's own assessment is good, and nothing is beyond its limits")
    return Health.HEALTHY, (passed, *reasons)


_WEIGHT = {Severity.FAILED: 0, Severity.WARNING: 1, Severity.NOTE: 2}


def _note(code: str, message: str) -> Reason:
    return Reason(code, Severity.NOTE, message)


def _reasons(found: Findings) -> Iterator[Reason]:
    if found.passed is False or "failing" in found.exit_bits:
        why = f": {found.failing_because}" if found.failing_because else ""
        yield Reason("failing", Severity.FAILED, f"The drive's own assessment is that it fails{why}")
    for name in found.critical_warnings:
        severity, message = _CRITICAL.get(name, (Severity.WARNING, "The drive raises a warning of its own"))
        yield Reason(f"critical_warning_{name}", severity, message)
    yield from _attribute_reasons(found)
    for code, name, message in _COUNTS:
        count = getattr(found, name)
        if count:
            yield Reason(code, Severity.WARNING, message.format(count), count, 0)
    yield from _endurance_reasons(found)
    yield from _temperature_reasons(found)
    yield from _log_reasons(found)


def _attribute_reasons(found: Findings) -> Iterator[Reason]:
    now = [attribute for attribute in found.attributes if attribute.failed == "now"]
    for attribute in now:
        code = "prefail_attribute" if attribute.prefail else "old_age_attribute"
        severity = Severity.FAILED if attribute.prefail else Severity.WARNING
        message = f"Attribute {attribute.id} {attribute.name} is at or below its threshold"
        yield Reason(code, severity, message, attribute.value, attribute.threshold)
    past = [attribute for attribute in found.attributes if attribute.failed == "past"]
    for attribute in past:
        message = f"Attribute {attribute.id} {attribute.name} was at or below its threshold once"
        yield Reason("attribute_in_past", Severity.WARNING, message, attribute.worst, attribute.threshold)
    if "prefail_below_threshold" in found.exit_bits and not any(attribute.prefail for attribute in now):
        yield Reason(
            "prefail_attribute", Severity.FAILED, "smartctl found prefail attributes at their threshold"
        )
    if "below_threshold_in_past" in found.exit_bits and not now and not past:
        message = "smartctl found attributes that were at or below their threshold once"
        yield Reason("attribute_in_past", Severity.WARNING, message)


def _endurance_reasons(found: Findings) -> Iterator[Reason]:
    spare, threshold = found.spare, found.spare_threshold
    told = "spare_below_threshold" in found.critical_warnings
    if spare is not None and threshold and spare < threshold and not told:
        message = f"{spare} % of the spare blocks are left, below the drive's threshold of {threshold} %"
        yield Reason("spare_below_threshold", Severity.WARNING, message, spare, threshold)
    if found.wear is None:
        return
    if found.wear >= WEAR_USED_UP_PERCENT:
        message = f"The rated endurance is used up ({found.wear} %)"
        yield Reason("endurance_used_up", Severity.WARNING, message, found.wear, WEAR_USED_UP_PERCENT)
    elif found.wear >= WEAR_WARNING_PERCENT:
        message = f"{found.wear} % of the rated endurance are used"
        yield Reason("endurance_nearly_used_up", Severity.WARNING, message, found.wear, WEAR_WARNING_PERCENT)


def _temperature_reasons(found: Findings) -> Iterator[Reason]:
    now = found.temperature
    if now is None:
        return
    for code, limit in (
        ("temperature_critical", found.temperature_critical),
        ("temperature_high", found.temperature_warning),
    ):
        if limit is not None and now >= limit:
            message = f"{now} °C is at or beyond the drive's own limit of {limit} °C"
            yield Reason(code, Severity.WARNING, message, now, limit)
            return


def _log_reasons(found: Findings) -> Iterator[Reason]:
    if "error_log" in found.exit_bits:
        count = found.error_log_count
        message = (
            "The drive's error log has records" if count is None else f"The drive has logged {count} errors"
        )
        yield Reason("error_log", Severity.WARNING, message, count)
    tests = found.self_tests
    failed = tests.failed if tests is not None else None
    if "self_test_log" in found.exit_bits or failed:
        last = tests.last_failure if tests is not None else None
        message = "A self-test has failed" + (f": {last.status}" if last and last.status else "")
        yield Reason("self_test_failed", Severity.WARNING, message, failed)
    if "command_failed" in found.exit_bits:
        yield _note("command_failed", "A SMART command failed or gave data with a wrong checksum")
    if found.state is SmartState.READ and found.cut:
        yield _note(SmartState.TRUNCATED.value, _STATES[SmartState.TRUNCATED])
    if found.state is SmartState.READ and "open_failed" in found.exit_bits:
        yield _note(
            "open_failed", "smartctl says that the device did not open or identify itself as it should"
        )
