"""The self-test logs of ATA, SCSI and NVMe drives in one shape."""

from __future__ import annotations

from dataclasses import dataclass

from nodes.inventory.smart_tree import Tree, branch, first, rows, truth, whole, words

_SCSI_ENTRIES = 20


@dataclass(frozen=True, slots=True)
class SelfTest:
    """One entry, at ``hours`` of power-on time. ``passed`` is None for a test aborted or still running."""

    kind: str | None
    status: str | None
    passed: bool | None
    hours: int | None


@dataclass(frozen=True, slots=True)
class SelfTests:
    """``count`` entries in the log, ``failed`` of them not outdated by a later success, the ``latest`` first.

    ``remaining_percent`` is of a test that runs now. Numbers are None where the log does not say.
    """

    count: int | None
    failed: int | None
    latest: SelfTest | None
    last_failure: SelfTest | None = None
    remaining_percent: int | None = None


def read_self_tests(tree: Tree, protocol: str) -> SelfTests | None:
    """The log of a drive of ``protocol`` (``ata``, ``scsi``, ``nvme``), or None where it has none."""
    if protocol == "ata":
        return _read_ata(tree)
    tests = _read_nvme(tree) if protocol == "nvme" else _read_scsi(tree)
    return _summed_up(tests, None, None) if tests is not None else None


def _read_ata(tree: Tree) -> SelfTests | None:
    log = branch(tree, "ata_smart_self_test_log")
    log = branch(log, "extended") or branch(log, "standard")
    last = branch(tree, "ata_smart_data", "self_test", "status")
    running = whole(branch(last, "remaining_percent"), 1, 100) if _is_running(last) else None
    if log is None or not any(rows(log, "table")):
        # Drives without a log, or with an empty one, still tell how the last test ended.
        failure = (
            SelfTest(None, words(branch(last, "string")), False, None) if _ata_passed(last) is False else None
        )
        if log is None and running is None and failure is None:
            return None
        count = whole(branch(log, "count"))
        return SelfTests(count, 1 if failure is not None else 0, failure, failure, running)
    tests = tuple(
        SelfTest(
            kind=words(branch(row, "type", "string")),
            status=words(branch(row, "status", "string")),
            passed=_ata_passed(branch(row, "status")),
            hours=whole(row.get("lifetime_hours")),
        )
        for row in rows(log, "table")
    )
    total, outdated = whole(branch(log, "error_count_total")), whole(branch(log, "error_count_outdated"))
    failed = None if total is None else max(0, total - (outdated or 0))
    found = _summed_up(tests, whole(branch(log, "count")), failed)
    return SelfTests(found.count, found.failed, found.latest, found.last_failure, running)


def _is_running(status: object) -> bool:
    value = whole(branch(status, "value"), 0, 255)
    return value is None or value >> 4 == 15


def _ata_passed(status: object) -> bool | None:
    """By the status byte's high half (ATA8-ACS, table 120): 0 success, 3 to 8 failures, else no result."""
    value = whole(branch(status, "value"), 0, 255)
    if value is not None:
        result = value >> 4
        return True if result == 0 else False if 3 <= result <= 8 else None
    return truth(branch(status, "passed"))


def _read_scsi(tree: Tree) -> tuple[SelfTest, ...] | None:
    """SPC-4, self-test results log page: 0 success, 1 and 2 aborted, 3 to 7 failures, 15 in progress."""
    tests = []
    for number in range(_SCSI_ENTRIES):
        row = branch(tree, f"scsi_self_test_{number}")
        if row is None:
            continue
        result = whole(branch(row, "result", "value"), 0, 15)
        passed = None if result is None else True if result == 0 else False if 3 <= result <= 7 else None
        hours = branch(row, "power_on_time", "hours")
        kind, status = words(branch(row, "code", "string")), words(branch(row, "result", "string"))
        tests.append(SelfTest(kind, status, passed, whole(hours)))
    if tests:
        return tuple(tests)
    log = branch(tree, "ata_smart_self_test_log", "standard")
    if log is None:
        return None
    # The text of older versions, which has one form for both.
    return tuple(
        SelfTest(
            words(branch(row, "type", "string")),
            words(branch(row, "status", "string")),
            truth(branch(row, "status", "passed")),
            whole(row.get("lifetime_hours")),
        )
        for row in rows(log, "table")
    )


def _read_nvme(tree: Tree) -> tuple[SelfTest, ...] | None:
    """NVM Express 2.0, device self-test log: 0 success, 5 to 7 failures, else aborted; 15 unused entry."""
    log = branch(tree, "nvme_self_test_log")
    if log is None:
        return None
    tests = []
    for row in rows(log, "table"):
        result = whole(branch(row, "self_test_result", "value"), 0, 15)
        if result == 15:
            continue
        passed = None if result is None else True if result == 0 else False if 5 <= result <= 7 else None
        kind, status = (
            words(branch(row, "self_test_code", "string")),
            words(branch(row, "self_test_result", "string")),
        )
        tests.append(SelfTest(kind, status, passed, whole(row.get("power_on_hours"))))
    return tuple(tests)


def _summed_up(tests: tuple[SelfTest, ...], count: int | None, failed: int | None) -> SelfTests:
    """``failed`` counts failures newer than the last success where the drive's own count is not known."""
    own = 0
    for test in tests:
        if test.passed:
            break
        own += test.passed is False
    last_failure = next((test for test in tests if test.passed is False), None)
    return SelfTests(first(count, len(tests)), first(failed, own), tests[0] if tests else None, last_failure)
