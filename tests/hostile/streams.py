"""A host whose journal is an enemy: a real sshd, and a journalctl that prints what a test has it print.

What it prints instead of entries is a shell command; whatever else nodeadmin asks (the version, whose journal
it is) gets an honest answer, so that every attack reaches the reader that it is meant for.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.sshd import LoopbackSshd

EMPTY_LINES = "yes ''"
A_BYTE_AT_A_TIME = "while :; do printf x; sleep 0.2; done"
NO_LINE_BREAK = r"printf MESSAGE=; exec tr '\0' x </dev/zero"
COMPLAINTS = "yes complaint >&2"
LYING_SIZE = r"printf 'MESSAGE\n\377\377\377\377\377\377\377\377'; exec cat /dev/zero"
_FRAME = "set +vx; printf"
"""What the command line of the frame's shells has in it (nodes/hosts/command_frame.py)."""
ENTRY = "__CURSOR=s=1;i=1;b=1;m=1;t=1;x=1\n__REALTIME_TIMESTAMP=1700000000000000\nMESSAGE=again\n"


class EnemyHost:
    """``prints`` is what its journalctl runs when it is to print entries. As a context its sshd runs."""

    def __init__(self, folder: Path, prints: str, *, has_grep: bool = True) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.mark = f"enemy-{folder.name}-{time.monotonic_ns()}"
        tool = self.bin / "journalctl"
        features = "+PCRE2" if has_grep else "-PCRE2"
        tool.write_text(
            "#!/bin/sh\n"
            f'case "$*" in --version) printf "systemd 252\\n{features}\\n"; exit 0 ;;\n'
            "*--lines=0*) exit 0 ;; esac\n"
            f"exec -a {self.mark} sh -c '{prints.replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'\n"
        )
        tool.write_text(tool.read_text().replace("#!/bin/sh", "#!/bin/bash"))
        tool.chmod(0o755)
        path = f"SHLVL=2 MARK={self.mark} PATH={self.bin}:/usr/bin:/bin:/usr/sbin:/sbin"
        self.sshd = LoopbackSshd(folder / "sshd", key_types=("ed25519",), options={"SetEnv": path})

    def running(self) -> list[str]:
        """The command lines of the processes that print for somebody.

        The frame's own shells do not count: its watcher stays for two seconds, to kill what ignores a TERM.
        """
        found = []
        mark = f"MARK={self.mark}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes().split(b"\0")
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if mark in environment and line and _FRAME not in line and not line.startswith("sleep 2 "):
                found.append(line.strip())
        return found

    def rests_within(self, seconds: float) -> bool:
        """Whether all of its processes are gone in time."""
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
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
