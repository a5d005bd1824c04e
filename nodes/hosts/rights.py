"""What the user may do on a host: found out by trying what is harmless, never by doing."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nodes.errors import HostError, InsufficientRightsOnHost, LoginShellUnusable, ProbeFailed
from nodes.hosts.connection import HostConnection
from nodes.hosts.elevation import SUDO_FUNCTION
from nodes.hosts.shell import CommandTimeout
from nodes.inventory.parsing.numbers import integer

_LAST_UID = (1 << 32) - 1
REBOOT = "systemctl reboot"
POWER_OFF = "systemctl poweroff"
IGNORING_INHIBITORS = {
    REBOOT: "systemctl start --no-block --job-mode=replace-irreversibly reboot.target",
    POWER_OFF: "systemctl start --no-block --job-mode=replace-irreversibly poweroff.target",
}
"""The same, past inhibitors: the job that logind itself asks systemd for. Since systemd 257 logind asks
polkit before it ignores inhibitors, even for root: ``systemctl --check-inhibitors=no reboot`` then ends with
“Interactive authentication required”."""
SMART = "smartctl --scan"
ASKED = (REBOOT, POWER_OFF, SMART)
"""What is asked of sudo where the user is not root, and told; all that is run is in
nodes/inventory/privileged.py."""
JOURNAL_AS_ROOT = "journalctl --no-pager --lines=0 --quiet"

_SCRIPT = r"""
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
echo "uid $(id -u)"
echo "groups $(id -Gn)"
for file in /var/log/journal/*/system.journal /run/log/journal/*/system.journal; do
  [ -e "$file" ] && if [ -r "$file" ]; then echo "journal yes"; else echo "journal no"; fi
done
[ -d /var/log/journal ] || [ -d /run/log/journal ] && echo "journal-there yes"
if command -v sudo >/dev/null; then
  sudo -n true 2>&1 </dev/null | grep -q "password is required" && echo "asks yes"
  [ "$na_password" ] || { as_root true 2>/dev/null && echo "sudo yes"; }
  as_root -l 2>/dev/null | while IFS= read -r line; do echo "rule $line"; done
  ask() { path=$(as_root -l "$@" 2>/dev/null) && echo "may $path"; }
"""
_END = "fi\n:\n"

_UID = re.compile(r"uid [0-9]+\n")
_RULE = re.compile(r"\s*\([^)]*\)\s*(.*)")
_TAG = re.compile(r"([A-Z_]+):\s*")


@dataclass(frozen=True, slots=True)
class HostRights:
    """What a user may do. None: could not be found out, or does not apply (a test node has no shell)."""

    user: str
    uid: int | None
    groups: tuple[str, ...] = ()
    is_root: bool | None = None
    sudo: bool | None = None
    """Whether any command may be run as root, without a password or with the stored one."""
    sudo_asks: bool = False
    """Whether sudo wants a password for what it was asked for without one."""
    libvirt: bool | None = None
    """Whether libvirt lets the user in; None where libvirt does not answer at all."""
    journal: bool | None = None
    """Whether the system's journal can be read, directly or as root."""
    commands: Mapping[str, bool] = field(default_factory=dict)
    """For each of :data:`ASKED`, whether it may be run as root."""

    def may(self, command: str) -> bool:
        """Whether ``command`` of :data:`ASKED` may be run as root."""
        return bool(self.commands.get(command))

    def missing(self) -> list[str]:
        """What will not work with this user, in words."""
        lacks: list[tuple[bool, str]] = [
            (self.libvirt is False, "libvirt (join the group libvirt)"),
            (self.journal is False, "the system journal (join the group systemd-journal)"),
            (not self.commands.get(REBOOT, True), f"reboot (sudo -n {REBOOT})"),
            (not self.commands.get(POWER_OFF, True), f"power off (sudo -n {POWER_OFF})"),
            (not self.commands.get(SMART, True), f"disk health (sudo -n {SMART})"),
        ]
        found = [text for lacking, text in lacks if lacking]
        if self.sudo_asks and not all(self.commands.values()):
            found.append(
                "sudo wants a password (store it as the credential's sudo password, or allow what "
                "“manage.py sudoers” prints)"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self) | {"groups": list(self.groups), "commands": dict(self.commands)}


def preflight(connection: HostConnection, timeout_s: float = 15.0) -> HostRights:
    """Find out what the connection's user may do. Changes nothing on the host.

    A right that cannot be found out is None. Raises LoginShellUnusable where the login shell runs no command,
    in ``timeout_s`` where it waits, ProbeFailed where the answer cannot be read, and HostTimeout or
    HostUnreachable where the host itself stops answering.
    """
    if not connection.has_shell:
        return HostRights("", None, libvirt=_libvirt(connection, timeout_s))
    # Before libvirt, whose ways may lead through the shell: what is wrong with that one is then said of it.
    answer = _ask(connection, timeout_s)
    typed = bool(connection.shell.elevation.typed)
    return _read(connection.user, _libvirt(connection, timeout_s), answer, has_password=typed)


def _ask(connection: HostConnection, timeout_s: float) -> str:
    asks = "".join(f"  ask {command}\n" for command in (*ASKED, JOURNAL_AS_ROOT))
    script = connection.shell.elevation.assignment + (SUDO_FUNCTION + _SCRIPT + asks + _END).encode()
    try:
        # A password is hashed for each question, which takes a slow host a second.
        patience = 2 if connection.shell.elevation.typed else 1
        result = connection.shell.run("exec sh -s", stdin=script, timeout_s=patience * timeout_s)
    except CommandTimeout as silent:
        if silent.partial.started:
            raise
        # Here nothing was to be changed, so what matters is why it did not begin.
        raise LoginShellUnusable(silent.message, remedy=silent.remedy) from silent
    answer = result.stdout.decode("utf-8", errors="replace")
    if _UID.match(answer) is None:
        said = result.error_text or f"exit status {result.exit_status}"
        raise ProbeFailed(
            f"What “{connection.user}” may do on {connection.address} could not be read: {said}.",
            remedy="The host needs sh, coreutils, grep and util-linux.",
        )
    return answer


def _libvirt(connection: HostConnection, timeout_s: float) -> bool | None:
    try:
        connection.hypervisor(timeout_s)
    except InsufficientRightsOnHost:
        return False
    except HostError:
        return None
    return True


def _read(user: str, libvirt: bool | None, text: str, *, has_password: bool = False) -> HostRights:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    uid = integer(found.get("uid", [""])[0], most=_LAST_UID)
    if uid is None or uid < 0:
        raise ProbeFailed("The user's id could not be read on the host.")
    is_root = uid == 0
    # With a stored password, what is permitted is allowed.
    without_password = ["ALL"] if has_password else free_commands(found.get("rule", []))
    # Asked as seldom as can be where each answer costs the host a look at a password.
    may_all = "ALL" in free_commands(found.get("rule", []), asking=True)
    sudo = is_root or "sudo" in found or (has_password and may_all)
    commands = {
        command: is_root or allowed_by_sudo(command, found.get("may", []), without_password)
        for command in ASKED
    }
    return HostRights(
        user=user,
        uid=uid,
        groups=tuple(" ".join(found.get("groups", [])).split()),
        is_root=is_root,
        sudo=sudo,
        sudo_asks=not is_root and "asks" in found,
        libvirt=libvirt,
        journal=_journal(
            found, as_root=sudo or allowed_by_sudo(JOURNAL_AS_ROOT, found.get("may", []), without_password)
        ),
        commands=commands,
    )


def _journal(found: Mapping[str, Sequence[str]], *, as_root: bool) -> bool | None:
    if "journal-there" not in found:
        return None
    # Others may not even list the directory of the journal: no file seen is as good as unreadable.
    return as_root or "yes" in found.get("journal", [])


def free_commands(rules: Sequence[str], *, asking: bool = False) -> list[str]:
    """The commands that ``sudo -l`` lists with NOPASSWD, with ``asking`` those with PASSWD too. A tag holds
    until its opposite, within one rule; where there is none, what the defaults of the user say of
    ``authenticate`` (sudoers(5))."""
    commands = []
    by_default = any("!authenticate" in _defaults(line) for line in rules)
    for rule in rules:
        match = _RULE.match(rule)
        free = by_default
        for part in (match.group(1) if match else "").split(", "):
            rest = part.strip()
            while tag := _TAG.match(rest):
                free = {"NOPASSWD": True, "PASSWD": False}.get(tag.group(1), free)
                rest = rest[tag.end() :]
            if (free or asking) and rest:
                commands.append(rest)
    return commands


def _defaults(line: str) -> list[str]:
    """The settings of a line under "Matching Defaults entries", none of one that is for single commands."""
    stripped = line.strip()
    return [] if stripped.startswith("Defaults") else [part.strip() for part in stripped.split(",")]


def allowed_by_sudo(command: str, permitted: Sequence[str], without_password: Sequence[str]) -> bool:
    """Whether sudo runs ``command`` without asking. That it is permitted alone may still mean a password."""
    for line in permitted:
        path, _, arguments = line.partition(" ")
        name, _, wanted = command.partition(" ")
        if not path.endswith(f"/{name}") or arguments != wanted:
            continue
        if any(_fits(rule, path, arguments) for rule in without_password):
            return True
    return False


def _fits(rule: str, path: str, arguments: str) -> bool:
    """Whether a rule of sudoers is one for this command: by name, wildcards or regular expressions."""
    if rule == "ALL" or fnmatch.fnmatchcase(path, rule):
        return True
    program, _, pattern = rule.partition(" ")
    if pattern.startswith("^") and pattern.endswith("$"):
        try:
            fits = re.fullmatch(pattern[1:-1], arguments) is not None
        except re.error:  # one that Python reads in another way
            return False
        return fits and fnmatch.fnmatchcase(path, program)
    return fnmatch.fnmatchcase(f"{path} {arguments}".strip(), rule)
