"""Processes that stand for other machines: they have what the processor's others leave, and no more.

On one machine the enemies would take the server's processor by printing; over a network they cannot.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


class Background:
    """A control group (v1 or v2) with a small weight of the processor, for as long as the context lasts.

    ``prefix`` starts a command in it. Where there may be none, by nice(1): a session of its own can then take
    more than its part (sched(7), autogroup), which :attr:`is_held` tells.
    """

    def __init__(self, name: str, *, weight: float) -> None:
        self._weight = weight
        self._folder = self._made(f"{name}-{os.getpid()}")

    @property
    def is_held(self) -> bool:
        return self._folder is not None

    @property
    def prefix(self) -> tuple[str, ...]:
        if self._folder is None:
            return ("nice", "-n", "19")
        return ("/bin/sh", "-c", f'echo $$ >{self._folder}/cgroup.procs; exec "$0" "$@"')

    def _made(self, name: str) -> Path | None:
        first = _GROUPS / "cpu"
        folder = (first if first.is_dir() else _GROUPS) / name
        file, share = ("cpu.shares", 1024) if first.is_dir() else ("cpu.weight", 100)
        try:
            folder.mkdir()
            (folder / file).write_text(str(max(2, round(self._weight * share))))
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            return None
        return folder

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.rmdir()
