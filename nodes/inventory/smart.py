"""One smartctl output becomes the facts of one drive, with a verdict and its reasons.

Pure: text in, facts out, never an exception. Takes the JSON of smartctl 7.0 and later and the text of older
ones, of ATA, SCSI (SAS) and NVMe drives, also behind USB bridges and RAID controllers.
"""

from __future__ import annotations

import re
from dataclasses import replace

from nodes.inventory.smart_attributes import SmartAttribute, attribute_count
from nodes.inventory.smart_facts import SmartFacts
from nodes.inventory.smart_health import Findings, Health, Reason, Severity, SmartState, verdict
from nodes.inventory.smart_readings import read_values
from nodes.inventory.smart_selftest import SelfTest
from nodes.inventory.smart_text import load_text
from nodes.inventory.smart_tree import (
    Tree,
    branch,
    first,
    load_cut_tree,
    load_tree,
    rows,
    truth,
    whole,
    words,
)

__all__ = [
    "EXIT_BITS",
    "Health",
    "Reason",
    "SelfTest",
    "Severity",
    "SmartAttribute",
    "SmartFacts",
    "SmartState",
    "exit_bits",
    "parse_smart",
    "unread",
]

EXIT_BITS: tuple[tuple[str, str], ...] = (
    ("command_line", "The command line was not understood"),
    ("open_failed", "The device could not be opened or did not identify itself, or it sleeps"),
    ("command_failed", "A SMART or other command failed, or a data structure had a wrong checksum"),
    ("failing", "The drive's own status says that it is failing"),
    ("prefail_below_threshold", "A prefail attribute is at or below its threshold"),
    ("below_threshold_in_past", "An attribute was at or below its threshold at some time"),
    ("error_log", "The drive's error log has records"),
    ("self_test_log", "The self-test log has records of errors"),
)
"""The bits of smartctl's exit status, from bit 0 on (smartctl(8), EXIT STATUS)."""


_STATUSES_OF_SHELLS = frozenset({124, 126, 127, 137, 143})
"""Not found, not executable, ended by a timeout: no bits of smartctl's."""


def parse_smart(text: str, exit_status: int | None = None, *, cut: bool = False) -> SmartFacts:
    """The facts in what smartctl printed (with ``-j``, or as text).

    ``exit_status`` is the process's, for outputs that do not tell it themselves. ``cut``: not all of it
    arrived, which JSON shows by itself; what did arrive counts.
    """
    tree = load_tree(text)
    if tree is None:
        tree = load_cut_tree(text)
        cut = cut or tree is not None
    tree = tree or load_text(text)
    if tree is None:
        state = SmartState.EMPTY if not text.strip() else SmartState.UNREADABLE
        state = SmartState.TRUNCATED if cut else state
        return _without_values(state, exit_status)
    process = None if exit_status in _STATUSES_OF_SHELLS else whole(exit_status, 0, 255)
    status = first(whole(branch(tree, "smartctl", "exit_status"), 0, 255), process)
    return _judged(tree, read_values(tree, _messages(tree), status), cut)


def unread(state: SmartState, exit_status: int | None = None) -> SmartFacts:
    """Facts of a drive that could not be asked (no tool, no rights, no answer in time)."""
    return _without_values(state, exit_status)


def exit_bits(status: int | None) -> tuple[str, ...]:
    """Names of the bits that are set in an exit status of smartctl."""
    return tuple(name for bit, (name, _) in enumerate(EXIT_BITS) if status is not None and status >> bit & 1)


def _without_values(state: SmartState, exit_status: int | None) -> SmartFacts:
    # Without output of smartctl's the status is a shell's or a signal's, and its bits mean nothing.
    health, reasons = verdict(Findings(state=state))
    return SmartFacts(state, health, reasons, exit_status=whole(exit_status, 0, 255))


def _judged(tree: Tree, facts: SmartFacts, cut: bool) -> SmartFacts:
    bits = exit_bits(facts.exit_status)
    state = _state(tree, facts, bits, cut)
    passed = truth(branch(tree, "smart_status", "passed"))
    if passed is None and facts.protocol == "nvme" and branch(tree, "nvme_smart_health_information_log"):
        # The same bits that smartctl makes its status of; which of them are set is judged one by one.
        warned = whole(branch(tree, "nvme_smart_health_information_log", "critical_warning"))
        passed = True if warned == 0 else None
    found = Findings(
        state=state,
        cut=cut,
        passed=passed,
        failing_because=words(branch(tree, "smart_status", "scsi", "ie_string")),
        exit_bits=bits,
        attributes=facts.attributes,
        critical_warnings=facts.critical_warnings,
        reallocated=facts.reallocated_sectors,
        pending=facts.pending_sectors,
        uncorrectable=facts.uncorrectable_sectors,
        media_errors=facts.media_errors,
        end_to_end_errors=attribute_count(facts.attributes, 184, "end-to-end"),
        spare=facts.spare_percent,
        spare_threshold=facts.spare_threshold_percent,
        wear=facts.wear_used_percent,
        temperature=facts.temperature_celsius,
        temperature_warning=facts.temperature_warning_celsius,
        temperature_critical=facts.temperature_critical_celsius,
        error_log_count=facts.error_log_count,
        self_tests=facts.self_tests,
    )
    health, reasons = verdict(found)
    return replace(facts, state=state, health=health, reasons=reasons, exit_bits=bits)


_ASLEEP = re.compile(
    r"\b[Dd]evice is in (?!ACTIVE)(?:\w+ ){0,2}(?:STANDBY|SLEEP|IDLE|LOW|EPC|PM\d)|^(?:STANDBY|SLEEP)\b",
    re.MULTILINE,
)
_STATES: tuple[tuple[re.Pattern[str], SmartState], ...] = (
    (_ASLEEP, SmartState.STANDBY),
    (re.compile(r"[Pp]ermission denied|Operation not permitted|must be root"), SmartState.DENIED),
    (
        re.compile(r"Unknown USB bridge|Please specify device type|requires option '-d'"),
        SmartState.UNKNOWN_BRIDGE,
    ),
    (
        re.compile(r"lacks SMART capability|does not support SMART|SMART support is:\s*Unavailable"),
        SmartState.UNSUPPORTED,
    ),
    (re.compile(r"failed|No such|cannot|Unable|INVALID|UNRECOGNIZED"), SmartState.FAILED),
)


def _state(tree: Tree, facts: SmartFacts, bits: tuple[str, ...], cut: bool) -> SmartState:
    """How far the drive answered: one that gave values was read, whatever else was said."""
    values = (facts.power_on_hours, facts.media_errors, facts.reallocated_sectors, facts.temperature_celsius)
    if (
        truth(branch(tree, "smart_status", "passed")) is not None
        or facts.attributes
        or branch(tree, "nvme_smart_health_information_log")
        or any(value is not None for value in values)
    ):
        return SmartState.READ
    power_mode = words(branch(tree, "power_mode", "string")) or words(branch(tree, "power_mode", "name"))
    said = "\n".join((*facts.messages, power_mode or ""))
    for pattern, state in _STATES[:-1]:
        if pattern.search(said):
            return state
    if truth(branch(tree, "smart_support", "available")) is False:
        return SmartState.UNSUPPORTED
    if truth(branch(tree, "smart_support", "enabled")) is False:
        return SmartState.DISABLED
    if _STATES[-1][0].search(said) or "open_failed" in bits or "command_line" in bits:
        return SmartState.FAILED
    if cut:
        return SmartState.TRUNCATED
    return SmartState.UNSUPPORTED if facts.model else SmartState.UNREADABLE


def _messages(tree: Tree) -> tuple[str, ...]:
    found = (words(row.get("string")) for row in rows(tree, "smartctl", "messages"))
    return tuple(message[:300] for message in found if message)[:20]
