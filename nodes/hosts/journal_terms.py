"""Which entries belong to a service: the fields that have to match, as journalctl takes them.

Sources: journalctl(1), systemd.journal-fields(7), sd_journal_add_match(3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_LIBVIRT_DAEMONS = (
    "libvirtd", "virtqemud", "virtlogd", "virtlockd", "virtnetworkd", "virtstoraged", "virtnodedevd",
    "virtsecretd", "virtinterfaced", "virtnwfilterd", "virtproxyd", "libvirt-guests",
)  # fmt: skip
_QEMU_IDENTIFIERS = (
    "qemu", "qemu-kvm", "qemu-system-x86_64", "qemu-system-aarch64", "qemu-system-ppc64", "qemu-system-s390x",
    "qemu-system-riscv64", "qemu-ga", "systemd-machined",
)  # fmt: skip
_QEMU_COMMANDS = ("qemu-kvm", "qemu-system-x86", "qemu-system-aar", "qemu-system-ppc", "qemu-system-s39")
"""Process names as the kernel has them: 15 characters."""

_COREDUMP = "fc2e22bc6ee647b6b90729ab34a250b1"
"""What systemd-coredump logs of a process that crashed (sd-messages(3))."""

Terms = dict[str, tuple[str, ...]]
"""Fields that all have to match, each with the values of which one has to."""


def unit_terms(*units: str) -> list[Terms]:
    """What belongs to units: what they log, and what systemd and others of root's say about them, core dumps
    among it (as ``journalctl -u``).
    """
    found: list[Terms] = [
        {"_SYSTEMD_UNIT": units},
        {"_PID": ("1",), "UNIT": units},
        {"_UID": ("0",), "OBJECT_SYSTEMD_UNIT": units},
        {"_UID": ("0",), "MESSAGE_ID": (_COREDUMP,), "COREDUMP_UNIT": units},
    ]
    slices = tuple(unit for unit in units if unit.endswith(".slice"))
    return [*found, {"_SYSTEMD_SLICE": slices}] if slices else found


def _libvirt_terms() -> list[Terms]:
    units = tuple(f"{name}.service" for name in _LIBVIRT_DAEMONS)
    return [*unit_terms(*units), {"SYSLOG_IDENTIFIER": _LIBVIRT_DAEMONS}]


def _qemu_terms() -> list[Terms]:
    return [
        {"_SYSTEMD_SLICE": ("machine.slice",)},
        {"SYSLOG_IDENTIFIER": _QEMU_IDENTIFIERS},
        {"_COMM": _QEMU_COMMANDS},
        {"_UID": ("0",), "MESSAGE_ID": (_COREDUMP,), "COREDUMP_COMM": _QEMU_COMMANDS},
    ]


ALIASES: Final[Mapping[str, Sequence[Terms]]] = {
    "libvirtd": _libvirt_terms(),
    "qemu": _qemu_terms(),
    "kernel": [{"_TRANSPORT": ("kernel",)}],
    "ssh": [*unit_terms("ssh.service", "sshd.service"), {"SYSLOG_IDENTIFIER": ("sshd", "sshd-session")}],
}
"""Services by the names that people use; any other name is a unit's."""
