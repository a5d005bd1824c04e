"""The commands that nodeadmin runs as root on a host where it logs in as another user: the one table.

What runs a command through sudo refuses one that is not declared here, and the sudoers file that
``manage.py sudoers`` prints is made of the same lines. Programs that read files are held to the files that
are read, and no pattern lets a further word, option or path in: sudo compares the words of a command joined
by single spaces (sudoers(5)), so a pattern never takes a space for part of a word.

Patterns are regular expressions of which POSIX (extended) and Python have the same idea: no backslash, no
named class. sudo knows them since 1.9.10.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from nodes.errors import UndeclaredCommand

VM_LOGS = "/var/log/libvirt/qemu"
VM_LOG_LISTING = f"find {VM_LOGS} -maxdepth 1 -type f -printf '%i %s %T@ %f/'"
"""Inode, size, time of the last change and name of each file, each ended by a slash, which no name has."""
LVM_REPORT = (
    "lvm fullreport --reportformat json --units b --nosuffix"
    " --configreport vg -o vg_name,vg_uuid,vg_size,vg_free,vg_missing_pv_count"
    " --configreport pv -o pv_name,vg_name,pv_uuid,pv_size,pv_free,pv_missing"
    " --configreport lv -o lv_name,lv_uuid,lv_size,lv_layout,lv_role,lv_active,lv_health_status,lv_tags,"
    "data_percent,metadata_percent --configreport pvseg -o pvseg_start --configreport seg -o seg_start"
)
MULTIPATH_MAPS = "multipathd show maps json"
MACHINE_IDENTITY = (
    "grep -as . /sys/class/dmi/id/product_uuid /sys/class/dmi/id/product_serial"
    " /sys/class/dmi/id/board_serial /sys/class/dmi/id/chassis_serial"
)
LIBVIRT_SOCKET = "virt-ssh-helper qemu:///system"
JOURNAL = "journalctl --no-pager"
"""How each journalctl begins: the pager would be a way to a root's shell."""

_DEVICE = "/dev/[A-Za-z0-9/_-]{1,64}"
_DEVICE_TYPE = "[a-z0-9,+_]{1,40}"
_LOGS = "( -c| -T permissive| -B /dev/null| -l (xerror,error|xselftest,selftest|error|selftest|devstat|ssd))*"
_TLS = "/etc/pki/(libvirt-migrate|qemu)"
# A word that begins with no hyphen is a match (FIELD=value, a program's path) and changes nothing.
_JOURNAL_WORD = (
    "--(quiet|no-pager|no-tail|reverse|follow|list-boots)|--(lines|output|output-fields|boot|priority|grep|"
    "case-sensitive|since|until|cursor|after-cursor|field)=[^ ]*|[^ -][^ ]*"
)


@dataclass(frozen=True, slots=True)
class Privileged:
    """A program, and the pattern that its arguments have to fit as a whole; ``purpose`` for people.

    ``runs_others`` False: the program starts no other one, and sudo is to hold it to that (NOEXEC).
    ``reads_input``: it reads its standard input, in which nothing may stand that is not its own.
    """

    path: str
    arguments: str
    purpose: str
    runs_others: bool = False
    reads_input: bool = False

    @property
    def program(self) -> str:
        return self.path.rpartition("/")[2]

    def allows(self, words: list[str]) -> bool:
        """Whether this line allows the command of these words."""
        fits = re.compile(self.arguments, re.DOTALL).fullmatch(" ".join(words[1:]))
        return words[0] == self.program and fits is not None


def exactly(text: str) -> str:
    """The pattern that this text alone fits."""
    return "".join(f"[{c}]" if c in ".*+?(){}|$[" else c for c in text)


def _whole(
    path: str, command: str, purpose: str, *, runs_others: bool = False, reads_input: bool = False
) -> Privileged:
    words = shlex.split(command)
    return Privileged(path, exactly(" ".join(words[1:])), purpose, runs_others, reads_input)


PRIVILEGED = (
    _whole("/usr/bin/systemctl", "systemctl reboot", "reboot", runs_others=True),
    _whole("/usr/bin/systemctl", "systemctl poweroff", "power off", runs_others=True),
    Privileged(
        "/usr/bin/systemctl",
        "start --no-block --job-mode=replace-irreversibly (reboot|poweroff)[.]target",
        "reboot and power off past inhibitors",
        runs_others=True,
    ),
    Privileged("/usr/sbin/smartctl", "--scan", "disks behind RAID controllers"),
    Privileged(
        "/usr/sbin/smartctl",
        f"-n standby -i -d cciss,[0-9]{{1,3}} {_DEVICE}",
        "disks behind RAID controllers",
    ),
    Privileged(
        "/usr/sbin/smartctl",
        f"(--json=c )?-n standby -i -H -A{_LOGS} {_DEVICE}( -d {_DEVICE_TYPE})?",
        "health of disks",
    ),
    _whole("/usr/sbin/lvm", LVM_REPORT, "LVM", runs_others=True),
    _whole("/usr/sbin/multipathd", MULTIPATH_MAPS, "multipath"),
    Privileged(
        "/usr/bin/base64",
        "/sys/bus/pci/devices/[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}[.][0-7]/vpd",
        "serial numbers of PCI devices",
    ),
    _whole("/usr/bin/grep", MACHINE_IDENTITY, "firmware UUID and serial numbers"),
    Privileged(
        "/usr/bin/ls",
        f"/etc/libvirt|-dL {_TLS}/([.]|(ca|server|client)-cert[.]pem|(server|client)-key[.]pem)",
        "certificates for migrations",
    ),
    Privileged(
        "/usr/bin/cat",
        f"/etc/libvirt/qemu[.]conf|{_TLS}/(ca|server|client)-cert[.]pem",
        "certificates for migrations",
    ),
    Privileged("/usr/bin/journalctl", f"--no-pager( +({_JOURNAL_WORD}))* *", "the journal"),
    _whole("/usr/bin/find", VM_LOG_LISTING, "logs of VMs"),
    Privileged("/usr/bin/tail", f"-c [+][0-9]{{1,19}} -- {VM_LOGS}/[^/ ]+", "logs of VMs"),
    _whole("/usr/bin/virt-ssh-helper", LIBVIRT_SOCKET, "libvirt", reads_input=True),
    Privileged(
        "/usr/sbin/sshd",
        "-T -C user=[A-Za-z0-9_.-]{1,64},host=localhost,addr=127[.]0[.]0[.]1",
        "why sshd refuses a key",
    ),
)
TOOLS = frozenset(line.program for line in PRIVILEGED)


def is_declared(command: str) -> bool:
    """Whether ``command``, a simple command of sh, is one that may be run as root."""
    words = shlex.split(command)
    return bool(words) and any(line.allows(words) for line in PRIVILEGED)


def reads_input(command: str) -> bool:
    """Whether ``command``, a declared one, reads its standard input."""
    words = shlex.split(command)
    return any(line.reads_input and line.allows(words) for line in PRIVILEGED)


def require_declared(command: str) -> None:
    """Raise UndeclaredCommand unless :func:`is_declared`."""
    if not is_declared(command):
        raise UndeclaredCommand(
            f"“{command[:200]}” is none of the commands that are run through sudo.",
            remedy="Connect as root, or let the user do it without sudo (journal: group systemd-journal).",
        )


def sudoers(user: str, *, password: bool = False) -> str:
    """A sudoers file by which ``user`` may run these commands and no others; with ``password`` sudo asks for
    the user's own first."""
    tag = "" if password else "NOPASSWD:"
    lines = [
        "# What nodeadmin runs as root, and nothing more. Needs sudo 1.9.10 or newer.",
        "# Install as /etc/sudoers.d/nodeadmin, mode 0440, after: visudo -c -f FILE",
        f"Defaults:{user} !requiretty",
    ]
    said = ""
    for line in PRIVILEGED:
        if line.purpose != said:
            lines.append(f"# {line.purpose}")
        said = line.purpose
        tags = f"{tag}{'' if line.runs_others else 'NOEXEC:'}"
        lines.append(f"{user} ALL=(root) {tags}{' ' if tags else ''}{line.path} ^({line.arguments})$")
    return "\n".join(lines) + "\n"


POLKIT_RULE = """\
// Lets nodeadmin manage libvirt over its socket. logind is asked for nothing that needs a right: power
// commands go through sudo.
// Install as /etc/polkit-1/rules.d/50-nodeadmin.rules, mode 0644.
polkit.addRule(function (action, subject) {
  if (action.id === "org.libvirt.unix.manage" && subject.user === "%(user)s") {
    return polkit.Result.YES;
  }
});
"""


def polkit_rule(user: str) -> str:
    """A rule for polkit (polkit(8)) by which ``user`` may manage libvirt."""
    return POLKIT_RULE % {"user": user}
