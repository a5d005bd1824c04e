"""A set of lab hosts in one directory, which share a switch: the pair that `script/lab` keeps, or a test
run's own.
"""

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO

from tests.lab import image, recipe
from tests.lab.errors import LabError
from tests.lab.hardware import SPECS
from tests.lab.host import BOOT_DEADLINE_S, LabHost
from tests.lab.image import Image
from tests.lab.network import Switch

logger = logging.getLogger(__name__)

_SHARED = "shared"


def runtime_directory() -> Path:
    """Where running labs keep their state, one directory a lab."""
    directory = recipe.cache_directory() / "run"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


class Lab:
    """Hosts by name, made when first asked for. Raises LabError for a name that no host has.

    `parallel`: see `HostSpec`.
    """

    def __init__(self, directory: Path, *, parallel: bool = False) -> None:
        self.directory = directory
        self.parallel = parallel
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.switch = Switch(directory)
        self._hosts: dict[str, LabHost] = {}
        self._acquired: dict[str, tuple[Image, IO[bytes]]] = {}

    @classmethod
    def shared(cls) -> "Lab":
        """The lab that `script/lab` starts and ends."""
        return cls(runtime_directory() / _SHARED)

    @classmethod
    def private(cls, *, parallel: bool = False) -> "Lab":
        """A lab of this process alone; what earlier processes left behind when they were killed is ended
        first.
        """
        end_abandoned_labs()
        return cls(
            Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=runtime_directory())), parallel=parallel
        )

    def host(self, name: str) -> LabHost:
        if name not in SPECS:
            raise LabError(f"there is no lab host {name!r}; there are {', '.join(SPECS)}")
        if name not in self._hosts:
            spec = replace(SPECS[name], parallel=self.parallel)
            self._hosts[name] = LabHost(spec, self.directory / name, self.switch)
        return self._hosts[name]

    def start(self, names: Iterable[str]) -> None:
        """Switches on those that are off, with fresh disks, side by side; does not wait for them."""
        for name in names:
            host = self.host(name)
            if not host.is_running():
                host.start(fresh=True, image=self._image(host.spec.suite))

    def wait_until_ready(self, names: Iterable[str], deadline_s: float = BOOT_DEADLINE_S) -> None:
        for name in names:
            self.host(name).wait_until_ready(deadline_s)

    def down(self) -> None:
        """Ends all its hosts and removes what they wrote."""
        for name in SPECS:
            if (self.directory / name).exists():
                self.host(name).power_cut()
        self.switch.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        self._hosts.clear()
        for _image, hold in self._acquired.values():
            hold.close()
        self._acquired.clear()

    def _image(self, suite: str) -> Image:
        """Today's image, held until this lab goes down: its hosts may be off for a while in between."""
        if suite not in self._acquired:
            self._acquired[suite] = image.acquire(suite)
        return self._acquired[suite][0]


def end_abandoned_labs() -> None:
    """Ends the private labs whose process is gone: a test run that was killed could not do it itself."""
    for directory in runtime_directory().iterdir():
        owner = directory.name.partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            logger.info("ending the lab hosts that process %s left behind", owner)
            with contextlib.suppress(FileNotFoundError, subprocess.TimeoutExpired):
                Lab(directory).down()
