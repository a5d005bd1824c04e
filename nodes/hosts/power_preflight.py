"""What could refuse to reboot a host or to switch it off: asked of the host, without changing anything."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nodes.hosts.elevation import SUDO_FUNCTION
from nodes.hosts.rights import IGNORING_INHIBITORS, allowed_by_sudo, free_commands
from nodes.hosts.shell import Shell
from nodes.inventory.parsing.numbers import capped, integer

PREFLIGHT_S = 15.0
BLOCKING = ("block", "block-weak")
"""Modes of inhibitors that do not merely delay a shutdown (https://systemd.io/INHIBITOR_LOCKS/). Since
systemd 257 ``block`` stops root as well; ``block-weak`` is what it was before, and names the same wish."""

_MANAGER = "org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager"
_LOCKS = (
    "/var/lib/dpkg/lock-frontend /var/lib/dpkg/lock "
    "/var/lib/rpm/.rpm.lock /usr/lib/sysimage/rpm/.rpm.lock /usr/share/rpm/.rpm.lock"
)
_PACKAGE_MANAGERS = ("apt", "dnf", "dpkg", "packagekit", "rpm", "unattended-upgr", "yum", "zypper")
_NEVER = (1 << 64) - 1

# What logind answers is told line by line behind a word of ours. dpkg and rpm lock their files by fcntl(2),
# which /proc/locks lists to everybody by device and inode (proc_locks(5)).
_SCRIPT = f"""
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
tell() {{ sed "s/^/$1 /"; }}
echo "uid $(id -u)"
cat /proc/sys/kernel/random/boot_id 2>/dev/null | tell boot-id
command -v systemctl | tell systemctl
manager="{_MANAGER}"
if command -v busctl >/dev/null; then
  busctl --timeout=3 call $manager ListInhibitors 2>&1 | tell inhibitors
  busctl --timeout=3 get-property $manager ScheduledShutdown PreparingForShutdown 2>/dev/null | tell property
fi
cat /run/systemd/shutdown/scheduled 2>/dev/null | tell scheduled
cut -d: -f1,3 /etc/passwd 2>/dev/null | tell user
stat -Lc '%D %i %n' {_LOCKS} 2>/dev/null | while read -r device inode file; do
  grep ":$inode " /proc/locks 2>/dev/null | while read -r _ kind _ _ pid place _; do
    [ "$kind" = "->" ] || echo "locked $device $place $pid $file $(cat "/proc/$pid/comm" 2>/dev/null)"
  done
done
ask() {{ as_root -l "$@" 2>&1 | tell may; }}
if [ "$(id -u)" != 0 ]; then
  if command -v sudo >/dev/null; then
    as_root -l 2>&1 | tell rule
"""
_END = "  else echo no-sudo; fi\nfi\n:\n"


@dataclass(frozen=True, slots=True)
class Inhibitor:
    """Who asks that the host does not go down, and why, in their own words. ``user``: "" where not known."""

    who: str
    why: str
    mode: str
    uid: int
    pid: int
    user: str = ""


@dataclass(frozen=True, slots=True)
class ScheduledShutdown:
    """A shutdown that the host carries out by itself: ``mode`` as in ``reboot`` or ``poweroff``."""

    mode: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class PackageLock:
    """A package manager's lock, and the process that holds it."""

    path: str
    pid: int
    command: str


@dataclass(frozen=True, slots=True)
class PowerPreflight:
    """What the host says of a power command that is about to be sent to it; None: it cannot tell.

    ``command`` is the one that would be sent, ``allowed`` whether the user may run it, ``refusal`` the host's
    words where not. ``inhibitors`` are those of a shutdown that do not merely delay it; ``untold`` says why
    they are None.
    """

    user: str
    command: str
    boot_id: str | None = None
    has_systemctl: bool | None = None
    allowed: bool | None = None
    refusal: str = ""
    inhibitors: tuple[Inhibitor, ...] | None = None
    untold: str = ""
    scheduled: ScheduledShutdown | None = None
    stopping: bool | None = None
    package_locks: tuple[PackageLock, ...] = ()


def power_preflight(
    shell: Shell, command: str, *, ignore_inhibitors: bool = False, timeout_s: float = PREFLIGHT_S
) -> PowerPreflight:
    """Ask the host behind ``shell`` what could refuse ``command`` (REBOOT or POWER_OFF of ``rights``).

    Raises HostTimeout, HostUnreachable; what the host cannot tell is None.
    """
    commands = [command, *([IGNORING_INHIBITORS[command]] if ignore_inhibitors else [])]
    asks = "".join(f"    ask {asked}\n" for asked in commands)
    script = shell.elevation.assignment + (SUDO_FUNCTION + _SCRIPT + asks + _END).encode()
    result = shell.run("exec sh -s", stdin=script, timeout_s=timeout_s)
    found = _by_word(result.stdout.decode("utf-8", errors="replace"))
    inhibitors, untold = _inhibitors(found)
    used = commands[-1] if inhibitors else command
    allowed, refusal = _allowed(found, used, has_password=bool(shell.elevation.typed))
    return PowerPreflight(
        user=shell.user,
        command=used,
        boot_id=_boot_id(found.get("boot-id", [])),
        has_systemctl=bool(found.get("systemctl")) if "uid" in found else None,
        allowed=allowed,
        refusal=refusal,
        inhibitors=inhibitors,
        untold=untold,
        scheduled=_scheduled(found),
        stopping=_stopping(found.get("property", [])),
        package_locks=_package_locks(found.get("locked", [])),
    )


def _by_word(text: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).append(rest)
    return found


def _boot_id(lines: Sequence[str]) -> str | None:
    try:
        uuid.UUID(lines[0].strip())
    except (IndexError, ValueError):
        return None
    return lines[0].strip()


# -- the user's right ------------------------------------------------------------------------------


def _allowed(found: Mapping[str, list[str]], command: str, *, has_password: bool) -> tuple[bool | None, str]:
    """Whether the command may be run as root, and the host's words where not."""
    if found.get("uid", [""])[0] == "0":
        return True, ""
    if "uid" not in found:
        return None, ""
    if "no-sudo" in found:
        return False, "sudo is not installed"
    answers = found.get("may", [])
    free = ["ALL"] if has_password else free_commands(found.get("rule", []))
    if allowed_by_sudo(command, answers, free):
        return True, ""
    said = [line for line in (*found.get("rule", []), *answers) if line.startswith(("sudo: ", "Sorry, "))]
    # Such as “unable to resolve host”: sudo goes on after it.
    said = [line for line in said if "resolve host" not in line]
    return False, said[-1] if said else ""


# -- logind ----------------------------------------------------------------------------------------

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\d+)')
_ESCAPE = re.compile(rb"\\([0-7]{3}|x[0-9a-fA-F]{2}|.)")
_CONTROLS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def _inhibitors(found: Mapping[str, list[str]]) -> tuple[tuple[Inhibitor, ...] | None, str]:
    """The inhibitors that keep the host from going down, from busctl's ``a(ssssuu)``; else why not known."""
    lines = found.get("inhibitors")
    if not lines:
        return None, "it has no busctl"
    kind, _, rest = lines[-1].partition(" ")
    tokens = [match.group(0) for match in _TOKEN.finditer(rest)]
    if kind != "a(ssssuu)" or not tokens or len(tokens) != 1 + 6 * capped(tokens[0]):
        return None, _printable(lines[-1])
    users = _users(found.get("user", []))
    rows = [tokens[at : at + 6] for at in range(1, len(tokens), 6)]
    every = []
    for what, who, why, mode, user_id, process in rows:
        uid, pid = capped(user_id), capped(process)
        if "shutdown" in _text(what).split(":") and _text(mode) in BLOCKING:
            user = users.get(uid, "")
            every.append(Inhibitor(_text(who), _text(why), _text(mode), uid, pid, user))
    return tuple(every), ""


def _text(token: str) -> str:
    """A string as busctl prints it: in quotes, escaped as in C."""

    def plain(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        if len(code) == 3 and code.isdigit():
            return bytes([capped(code, 8) & 0xFF])
        if len(code) == 3:
            return bytes([capped(code[1:], 16)])
        return _CONTROLS.get(code, code)

    raw = _ESCAPE.sub(plain, token[1:-1].encode())
    return _printable(raw.decode("utf-8", errors="replace"))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:300]


def _users(lines: Sequence[str]) -> dict[int, str]:
    pairs = (line.rpartition(":") for line in lines)
    return {capped(uid): name for name, _, uid in pairs if uid.isdecimal()}


def _stopping(properties: Sequence[str]) -> bool | None:
    """PreparingForShutdown: logind has taken a command, and may wait for those who asked for a delay."""
    told = [line for line in properties if line.startswith("b ")]
    return told[0] == "b true" if told else None


def _scheduled(found: Mapping[str, list[str]]) -> ScheduledShutdown | None:
    """The shutdown that ``shutdown +N`` or the like has left, by logind, or by its file."""
    for line in found.get("property", []):
        tokens = [match.group(0) for match in _TOKEN.finditer(line.removeprefix("(st) "))]
        if line.startswith("(st) ") and len(tokens) == 2 and (mode := _text(tokens[0])):
            return ScheduledShutdown(mode, _moment(tokens[1]))
    values = dict(line.split("=", 1) for line in found.get("scheduled", []) if "=" in line)
    if "MODE" in values:
        return ScheduledShutdown(_printable(values["MODE"]), _moment(values.get("USEC", "")))
    return None


def _moment(usec: str) -> datetime | None:
    known = integer(usec)
    if known is None or known <= 0 or known == _NEVER:
        return None
    try:
        return datetime.fromtimestamp(known / 1e6, UTC)
    except (OverflowError, ValueError, OSError):
        return None


# -- package managers ------------------------------------------------------------------------------


def _package_locks(lines: Sequence[str]) -> tuple[PackageLock, ...]:
    """Locks that are held. The inode alone may be another file's: its device has to be the same, or, where
    they are numbered differently (btrfs), the holder a package manager."""
    found: dict[int, PackageLock] = {}
    for line in lines:
        device, place, pid, path, command = (*line.split(" ", 4), "")[:5]
        number = integer(pid)
        if number is None or not path:
            continue
        if _same_device(device, place) or command.startswith(_PACKAGE_MANAGERS):
            found.setdefault(number, PackageLock(path, number, _printable(command)))
    return tuple(found.values())


def _same_device(device: str, place: str) -> bool:
    """``device`` as ``stat -c %D`` has it (makedev(3)), ``place`` as ``MAJOR:MINOR:INODE``, both in hex."""
    parts = place.split(":", 3)
    number, major, minor = (integer(part, 16) for part in (device, *parts, "", "")[:3])
    if len(parts) != 3 or number is None:
        return False
    return (number >> 8) & 0xFFF == major and (number & 0xFF) | (number >> 12 & ~0xFF) == minor
