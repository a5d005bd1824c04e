"""A host with a journal of its own, made to measure: real journal files, real journalctl, real sshd.

systemd-journal-remote writes the files from the export format. On the host's path lies a journalctl that
names their directory, so that what nodeadmin runs there is exactly what it runs everywhere.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.sshd import LoopbackSshd

REMOTE = Path("/lib/systemd/systemd-journal-remote")
AVAILABLE = REMOTE.exists()
BOOT = "0123456789abcdef0123456789abcdef"
MACHINE = "fedcba9876543210fedcba9876543210"
START_US = 1_700_000_000_000_000

Fields = Mapping[str, str | bytes]


def export(fields: Fields) -> bytes:
    """One entry in the export format; a value with a line break, or of bytes, goes as binary."""
    lines = []
    for name, value in fields.items():
        raw = value if isinstance(value, bytes) else value.encode()
        if isinstance(value, bytes) or b"\n" in raw:
            lines.append(name.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n")
        else:
            lines.append(name.encode() + b"=" + raw + b"\n")
    return b"".join(lines) + b"\n"


def entry(
    number: int,
    message: str | bytes,
    unit: str = "cron.service",
    *,
    boot: str = BOOT,
    at_us: int | None = None,
    **more: str | bytes,
) -> dict[str, str | bytes]:
    """The fields that an ordinary line has; a millisecond after the one before."""
    name = unit.rpartition(".")[0]
    return {
        "__CURSOR": f"s=1;i={number:x}",
        "__REALTIME_TIMESTAMP": str(at_us if at_us is not None else START_US + number * 1000),
        "__MONOTONIC_TIMESTAMP": str(1_000_000 + number * 1000),
        "_BOOT_ID": boot,
        "_MACHINE_ID": MACHINE,
        "_HOSTNAME": "host",
        "_TRANSPORT": "syslog",
        "PRIORITY": "6",
        "SYSLOG_FACILITY": "3",
        "SYSLOG_IDENTIFIER": name,
        "_PID": str(100 + number % 50),
        "_UID": "0",
        "_GID": "0",
        "_COMM": name[:15],
        "_EXE": f"/usr/sbin/{name}",
        "_CMDLINE": f"/usr/sbin/{name} --daemon",
        "_CAP_EFFECTIVE": "1ffffffffff",
        "_SYSTEMD_CGROUP": f"/system.slice/{unit}",
        "_SYSTEMD_UNIT": unit,
        "_SYSTEMD_SLICE": "system.slice",
        "MESSAGE": message,
        **more,
    }


class JournalHost:
    """``write`` appends; several files may lie side by side. As a context manager its sshd runs."""

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        self.journal = folder / "journal"
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        for directory in (self.journal, self.bin):
            directory.mkdir(parents=True, exist_ok=True)
        self._tool(f'exec /usr/bin/journalctl --directory={self.journal} "$@"')
        path = f"SHLVL=2 PATH={self.bin}:/usr/bin:/bin:/usr/sbin:/sbin"
        self.sshd = LoopbackSshd(
            folder / "sshd", key_types=("ed25519",), options={"SetEnv": path, **(options or {})}
        )

    def _tool(self, *lines: str) -> None:
        tool = self.bin / "journalctl"
        tool.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        tool.chmod(0o755)

    def lose_message(
        self, message: str, *, option: str = "--output=export", rereads: bool = True, hangs: bool = False
    ) -> None:
        """From now on the first journalctl that reads entries, with this option, prints those whose MESSAGE
        this basic regular expression matches without it, as one does that reads an entry while it is written.

        Without ``rereads`` every later journalctl that is to read entries fails, with ``hangs`` it gives no
        answer. All are noted in ``calls``.
        """
        real = f'/usr/bin/journalctl --directory={self.journal} "$@"'
        lost = self.calls.with_suffix(".lost")
        later = "exec sleep 20" if hangs else f"exec {real}" if rereads else "exit 1"
        self._tool(
            f'case "$*" in *{option}*) ;; *) exec {real} ;; esac',
            f'echo "$*" >>{self.calls}',
            f"if mkdir {lost} 2>/dev/null; then",
            '    case "$*" in *--follow*) unbuffered=-u ;; esac',
            f"    {real} | LC_ALL=C sed $unbuffered '/^MESSAGE={message}$/d'",
            f"else {later}; fi",
        )

    def write(self, entries: Iterable[Fields], name: str = "a") -> None:
        """Append entries to the file ``name``."""
        writer = self.writer(name)
        assert writer.stdin is not None
        for fields in entries:
            writer.stdin.write(export(fields))
        writer.stdin.close()
        assert writer.wait(120) == 0

    def writer(self, name: str = "live") -> subprocess.Popen[bytes]:
        """A process that appends what is written to its standard input, entry by entry."""
        return subprocess.Popen(
            [str(REMOTE), "--output", str(self.journal / f"{name}.journal"), "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def running(self) -> list[str]:
        """The command lines of the journalctl processes that read this journal now."""
        found = []
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = process.read_bytes().split(b"\0")
            except OSError:
                continue
            if f"--directory={self.journal}".encode() in arguments and b"journalctl" in arguments[0]:
                found.append(" ".join(part.decode(errors="replace") for part in arguments))
        return found

    def rests(self, within_s: float = 5.0) -> bool:
        """Whether no journalctl reads this journal any more, at the latest after ``within_s``."""
        deadline = time.monotonic() + within_s
        while self.running():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def target(self, **changes: Any) -> Any:
        return self.sshd.target(**changes)

    def __enter__(self) -> Self:
        self.sshd.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sshd.stop()
