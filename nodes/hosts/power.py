"""Reboot a host and switch it off, at most once for each time it was decided.

The command carries the boot ID that was recorded with the decision and does nothing on a host that shows
another one: sent a second time, it cannot hit a host that has rebooted already
(Documentation/admin-guide/sysctl/kernel.rst, random/boot_id). It also carries the uptime up to which it holds
and does nothing later (proc_uptime(5)): what a process sends that stood still for a while, and for which
another has decided meanwhile, comes to nothing.
"""

from __future__ import annotations

import shlex
import time
import uuid
from collections.abc import Callable

from nodes.errors import (
    BootIdChanged,
    CommandTooLate,
    HostError,
    HostTimeout,
    HostUnreachable,
    InsufficientRightsOnHost,
    LoginShellUnusable,
    PowerRefused,
    ProbeFailed,
    ShutdownInhibited,
)
from nodes.hosts.deadlines import Clock
from nodes.hosts.dial import dial
from nodes.hosts.power_preflight import power_preflight
from nodes.hosts.rights import IGNORING_INHIBITORS, POWER_OFF, REBOOT
from nodes.hosts.shell import CommandResult, CommandTimeout, ConnectionLost, Shell
from nodes.hosts.target import HostTarget
from nodes.inventory.parsing.numbers import decimal

BOOT_ID = "/proc/sys/kernel/random/boot_id"
UPTIME = "/proc/uptime"
READ_S = 10.0
COMMAND_S = 30.0
"""systemctl enqueues the job and returns; a busy host takes its time even for that."""
SETTLES_S = 10.0
"""How long a host may take to say that it goes down, after its command has ended without a status."""
LOOK_S = 0.5

_OTHER_BOOT = 75
_TOO_LATE = 76
_CUT_OFF = (124, *range(129, 256))
"""What timeout(1), sh and sudo give for a command that a signal has ended; systemctl gives none of them."""
_SENDING = "nodeadmin: sending"
_STATES = frozenset(
    {"initializing", "starting", "running", "degraded", "maintenance", "stopping", "offline", "unknown"}
)
"""What ``systemctl is-system-running`` says (systemctl(1))."""
_PREPARES = (
    "busctl --timeout=3 get-property org.freedesktop.login1 /org/freedesktop/login1 "
    "org.freedesktop.login1.Manager PreparingForShutdown"
)
_NO_RIGHTS = (
    "a password is required",
    "no password was provided",
    "incorrect password attempt",
    "is not in the sudoers file",
    "is not allowed to",
    "may not run sudo",
    "Interactive authentication required",
    "Access denied",
)


def boot_id(shell: Shell) -> str:
    """The ID of the kernel's present boot, as it writes it. Raises ProbeFailed where there is none."""
    result = shell.run(f"cat {BOOT_ID}", timeout_s=READ_S)
    text = result.stdout.decode("ascii", errors="replace").strip()
    try:
        uuid.UUID(text)
    except ValueError as error:
        raise ProbeFailed(
            f"The host's boot ID could not be read: {result.error_text or 'there is none'}."
        ) from error
    return text


def uptime_s(shell: Shell) -> float:
    """For how long the host has been up, by its own clock, which only runs forward. Raises ProbeFailed."""
    result = shell.run(f"cat {UPTIME}", timeout_s=READ_S)
    seconds = decimal(result.stdout.partition(b" ")[0])
    if seconds is None:
        raise ProbeFailed(f"The host's uptime could not be read: {result.error_text or 'there is none'}.")
    return seconds


def reboot(shell: Shell, expected_boot_id: str, until_s: float, *, ignore_inhibitors: bool = False) -> None:
    """Have the host reboot, if it is still in the boot ``expected_boot_id``, and up for ``until_s`` at most.

    Returns when the command was accepted, which ends the connection soon, or as soon as the connection ends
    under it. Raises BootIdChanged and CommandTooLate (nothing was done), InsufficientRightsOnHost,
    ShutdownInhibited, PowerRefused (systemctl's words), LoginShellUnusable (nothing was done); HostTimeout or
    HostUnreachable leave open whether it was carried out: the boot ID will tell.
    """
    _command(shell, IGNORING_INHIBITORS[REBOOT] if ignore_inhibitors else REBOOT, expected_boot_id, until_s)


def power_off(
    shell: Shell, expected_boot_id: str, until_s: float, *, ignore_inhibitors: bool = False
) -> None:
    """Have the host switch itself off, under the same conditions and with the same errors."""
    command = IGNORING_INHIBITORS[POWER_OFF] if ignore_inhibitors else POWER_OFF
    _command(shell, command, expected_boot_id, until_s)


def is_stopping(shell: Shell) -> bool | None:
    """Whether the host is on its way down; None where it cannot tell. Raises HostUnreachable, HostTimeout.

    systemd-logind, which takes the command, may hold it back for some seconds for those who asked for a delay
    (https://systemd.io/INHIBITOR_LOCKS/); systemd itself says “running” until then, and logind that it
    prepares for it.
    """
    result = shell.run(
        f"export LC_ALL=C; systemctl is-system-running; {_PREPARES} 2>/dev/null", timeout_s=READ_S
    )
    lines = result.stdout.decode("ascii", errors="replace").split("\n")
    if "b true" in lines:
        return True
    word = lines[0].strip()
    if result.exit_status is None or word not in _STATES or word == "unknown":
        return None
    return word == "stopping"


def answers(target: HostTarget, timeout_s: float = 5.0) -> bool:
    """Whether anything at all answers where the host's SSH server was: a refusal is an answer too.

    Raises HostUnreachable where the question could not be put: the name is not known, or this machine's own
    network fails. This machine itself, and a test node, always answer.
    """
    if target.transport != "ssh":
        return True
    try:
        dial(target.host, target.port, timeout_s, target.rules).close()
    except HostTimeout:
        return False
    except HostUnreachable as error:
        reason = error.extra.get("reason")
        if reason in ("refused", "no_route"):
            return bool(reason == "refused")
        raise
    return True


def _command(shell: Shell, command: str, expected_boot_id: str, until_s: float) -> None:
    expected, elevated = str(uuid.UUID(expected_boot_id)), shell.elevation.of(command)
    # One command and not two: between looking and acting, the host cannot reboot without ending this shell.
    script = (
        f"export LC_ALL=C; read -r now <{BOOT_ID} || exit 74; "
        f'[ "$now" = {shlex.quote(expected)} ] || exit {_OTHER_BOOT}; '
        f'read -r up _ <{UPTIME} && [ "${{up%%.*}}" -lt {int(until_s)} ] || exit {_TOO_LATE}; '
        f"echo {shlex.quote(_SENDING)}; "
        f"{elevated.line}"
    )
    result = _sent(lambda: shell.run(script, stdin=elevated.typed, timeout_s=COMMAND_S))
    if result is None or result.ok:
        return
    if result.exit_status is None or result.exit_status in _CUT_OFF:
        _require_stopping(shell)
        return
    if result.exit_status == _OTHER_BOOT:
        raise BootIdChanged(
            "The host shows another boot ID than the recorded one, so nothing was sent to it.",
            remedy="Look at the host's state, and decide again.",
        )
    if result.exit_status == _TOO_LATE:
        raise CommandTooLate(
            "The command reached the host so late that what it was decided by may no longer hold. It was "
            "not carried out.",
            remedy="Try it again; if it happens again, look at the way to the host.",
        )
    said = result.stderr.decode("utf-8", errors="replace")
    if "nhibit" in said or "Access denied" in said:
        # logind of systemd 257 says no more than “Access denied” of an inhibitor.
        _refuse_inhibited(shell, result)
    if any(text in said for text in _NO_RIGHTS):
        raise InsufficientRightsOnHost(
            f"The user “{shell.user}” may not run “{command}”: {result.error_text}",
            remedy="Store the user's sudo password with the credential, or allow it in sudoers: "
            f"{shell.user} ALL=(root) NOPASSWD: /usr/bin/{command}",
        )
    raise PowerRefused(f"“{command}” was refused: {result.error_text or f'exit status {result.exit_status}'}")


def _refuse_inhibited(shell: Shell, result: CommandResult) -> None:
    """Raise ShutdownInhibited where somebody keeps the host from going down."""
    try:
        inhibitors = power_preflight(shell, REBOOT).inhibitors
    except HostError:
        return  # the refusal stands, whoever it is for
    if inhibitors:
        named = ", ".join(f"“{row.who}” ({row.why})" for row in inhibitors)
        raise ShutdownInhibited(
            f"The shutdown is inhibited by {named}: {result.error_text}",
            remedy="Wait until they have ended, or ask for it with ignore_inhibitors.",
        )


def _sent(run: Callable[[], CommandResult]) -> CommandResult | None:
    """The command's result; None where the host went away under it, as is to be expected."""
    try:
        return run()
    except CommandTimeout as silent:
        if silent.partial.started:
            raise
        # Nothing stays open: what the login shell had not begun in time is never carried out.
        raise LoginShellUnusable(silent.message, remedy=silent.remedy) from silent
    except ConnectionLost as error:
        if _SENDING.encode() in error.partial.stdout:
            return None
        raise


def _require_stopping(shell: Shell) -> None:
    """Return where a command that ended without a status has been carried out: the host says that it is on
    its way down, or its connection is lost.

    The shutdown that it has asked for kills a command with its session; so does the kernel where memory is
    short, and output that cannot be read has no status either: neither proves anything. Raises HostTimeout
    where it stays open.
    """
    clock = Clock(SETTLES_S)
    while True:
        try:
            if is_stopping(shell):
                return
        except (CommandTimeout, LoginShellUnusable):
            pass
        except HostUnreachable as error:
            # One that opens no session (MaxSessions, or no memory for a process) still runs.
            if error.extra.get("reason") == "lost":
                return
        if clock.passed:
            raise HostTimeout("The command ended without saying whether the host has taken it.")
        time.sleep(LOOK_S)
