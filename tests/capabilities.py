"""What libvirt finds out about QEMU by trying it: once a machine, and not once a daemon, each of which takes
seconds of it, and a minute on a busy machine.

libvirt itself looks whether what it finds in its cache holds for this QEMU, this kernel and its own version,
and tries again where it does not.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.lab.recipe import cache_directory

PART = Path("qemu", "capabilities")
"""Of libvirt's cache directory."""


def store() -> Path:
    return cache_directory().parent / "libvirt" / PART


def lend(cache: Path) -> None:
    """Put what is known into the ``cache`` of a libvirt that is about to start."""
    (cache / PART).mkdir(parents=True, exist_ok=True)
    for known in store().glob("*.xml"):
        if not (cache / PART / known.name).exists():
            shutil.copy2(known, cache / PART)


def keep(cache: Path) -> None:
    """Take what a libvirt has found out since: whole files, whoever else does the same at the time."""
    store().mkdir(parents=True, exist_ok=True)
    for found in (cache / PART).glob("*.xml"):
        known = store() / found.name
        if known.exists() and known.stat().st_mtime >= found.stat().st_mtime:
            continue
        passing = known.with_name(f"{known.name}.{os.getpid()}")
        shutil.copy2(found, passing)
        passing.rename(known)
