"""What the host would refuse of a reboot or a shutdown, as blockers and notes of the plan. Pure.

What it cannot tell blocks nothing, and is noted as not verified.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.utils.translation import gettext as _

from nodes.hosts.power_preflight import Inhibitor, PowerPreflight, ScheduledShutdown
from nodes.operations.options import Options
from nodes.operations.plans import Plan, Reason


@dataclass(frozen=True, slots=True)
class PowerQuestion:
    """What was asked of a host before a power command, and what came of it.

    ``facts`` None with ``fault``: it did not answer; both empty: it has no shell to ask. ``allowed_before``
    is what was found of the user's right when the node was added, None where it is not known.
    """

    facts: PowerPreflight | None = None
    fault: str = ""
    allowed_before: bool | None = None


@dataclass(frozen=True, slots=True)
class PowerVerdict:
    """``ignored``: inhibitors that would block, and that ``ignore_inhibitors`` overrides."""

    blockers: tuple[Reason, ...] = ()
    ignored: tuple[Inhibitor, ...] = ()
    notes: tuple[str, ...] = ()


def with_power(plan: Plan, asked: PowerQuestion | None, options: Options) -> Plan:
    """``plan`` with what its host says of the power command, where one is to be sent."""
    if asked is None:
        return plan
    found = power_verdict(asked, options)
    return replace(
        plan,
        blockers=(*plan.blockers, *found.blockers),
        ignored_inhibitors=found.ignored,
        notes=(*plan.notes, *found.notes),
    )


def power_verdict(asked: PowerQuestion, options: Options) -> PowerVerdict:
    """What stands against the command, and what could not be verified."""
    facts = asked.facts
    if facts is None:
        if not asked.fault:
            return PowerVerdict()
        text = _("Not verified: whether the host would refuse the command (%s).") % asked.fault
        return PowerVerdict(notes=(text,))
    ignored = facts.inhibitors or () if options.ignore_inhibitors else ()
    inhibited = () if options.ignore_inhibitors else tuple(_inhibited(row) for row in facts.inhibitors or ())
    found = (_boot_id(facts), _systemctl(facts), _right(facts), _going_down(facts))
    return PowerVerdict(
        blockers=(*(reason for reason in found if reason is not None), *inhibited),
        ignored=ignored,
        notes=(*(_ignored(row) for row in ignored), *_notes(facts, asked.allowed_before)),
    )


def _ignored(row: Inhibitor) -> str:
    return _("Ignored, as was asked for: %s") % inhibitor_in_words(row)


def _inhibited(row: Inhibitor) -> Reason:
    return Reason(
        "shutdown_inhibited",
        inhibitor_in_words(row),
        _(
            "Wait until it has ended, end it on the host (systemd-inhibit --list shows it), or choose to "
            "ignore inhibitors (ignore_inhibitors)."
        ),
    )


def inhibitor_in_words(row: Inhibitor) -> str:
    """Who keeps the host from going down, and why."""
    words = {"who": row.who, "why": row.why, "pid": row.pid, "user": row.user or row.uid}
    return (
        _("“%(who)s” inhibits the shutdown: “%(why)s” (process %(pid)s of user %(user)s).") % words
        if row.why
        else _("“%(who)s” inhibits the shutdown (process %(pid)s of user %(user)s).") % words
    )


def _boot_id(facts: PowerPreflight) -> Reason | None:
    if facts.boot_id is not None:
        return None
    return Reason(
        "boot_id_unreadable",
        _("The host's boot ID cannot be read, by which a reboot is proved."),
        _("See that “cat /proc/sys/kernel/random/boot_id” prints it in a shell of %s.") % facts.user,
    )


def _systemctl(facts: PowerPreflight) -> Reason | None:
    if facts.has_systemctl is not False:
        return None
    return Reason(
        "power_command_missing",
        _("The host has no systemctl, by which it would be told to go down."),
        _("Reboot it or shut it down on the host, or through its BMC."),
    )


def _right(facts: PowerPreflight) -> Reason | None:
    if facts.allowed is not False:
        return None
    words = {"user": facts.user, "command": facts.command, "why": facts.refusal}
    return Reason(
        "insufficient_rights_on_host",
        _("The user “%(user)s” may not run “sudo -n %(command)s” on the host: %(why)s.") % words
        if facts.refusal
        else _("The user “%(user)s” may not run “sudo -n %(command)s” on the host.") % words,
        _("Allow it in sudoers: %(user)s ALL=(root) NOPASSWD: /usr/bin/%(command)s") % words,
    )


def _going_down(facts: PowerPreflight) -> Reason | None:
    if facts.stopping:
        return Reason(
            "shutdown_already_scheduled",
            _("The host is on its way down already."),
            _("Wait until it is off or back."),
        )
    if facts.scheduled is None:
        return None
    return Reason(
        "shutdown_already_scheduled",
        _scheduled(facts.scheduled),
        _("Cancel it on the host (shutdown -c), or wait until it is over."),
    )


def _scheduled(found: ScheduledShutdown) -> str:
    if found.at is None:
        return _("The host is about to go down by itself (%s).") % found.mode
    words = {"mode": found.mode, "at": found.at.isoformat(sep=" ", timespec="seconds")}
    return _("The host goes down by itself at %(at)s (%(mode)s).") % words


def _notes(facts: PowerPreflight, allowed_before: bool | None) -> tuple[str, ...]:
    found = [
        _(
            "A package manager works on the host: %(command)s (process %(pid)d) holds %(path)s. "
            "Going down now may leave packages half installed."
        )
        % {"command": lock.command or "?", "pid": lock.pid, "path": lock.path}
        for lock in facts.package_locks
    ]
    if facts.allowed is None:
        found.append(
            _("Not verified: whether the user may give the command; when the node was added, it might not.")
            if allowed_before is False
            else _("Not verified: whether the user may give the command.")
        )
    if facts.inhibitors is None:
        found.append(_("Not verified: whether anything inhibits the shutdown (%s).") % facts.untold)
    return tuple(found)
