"""A BMC in software for the lab's hosts: sushy-tools' Redfish, which really switches their QEMU.

    with SoftwareBmc(folder, command=bmc.command(lab_plain)) as running: ...

sushy-tools drives libvirt domains, which the lab's hosts are not: here its service gets a driver for them.
A host that it has switched on outlives it, as a machine outlives its BMC's restart.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sushy_tools import error
from sushy_tools.emulator import main as sushy
from sushy_tools.emulator.resources.systems.base import AbstractSystemsDriver

from tests.lab.host import LabHost
from tests.lab.lab import Lab

ROOT = Path(__file__).resolve().parents[2]


def command(host: LabHost) -> list[str]:
    """What runs the BMC of ``host``, for SoftwareBmc."""
    python = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-P"]
    return [*python, "-m", "tests.lab.bmc", str(host.directory.parent), host.name]


class LabHostDriver(AbstractSystemsDriver):
    """One lab host as a Redfish system: plug, power button and reset line."""

    def __init__(self, host: LabHost) -> None:
        super().__init__()
        self._host = host

    @property
    def driver(self) -> str:
        return "<lab host>"

    @property
    def systems(self) -> list[str]:
        return [str(self._host.identity)]

    def uuid(self, identity: str) -> str:
        if identity not in (str(self._host.identity), self._host.name):
            raise error.NotFound(f"There is no system {identity}")
        return str(self._host.identity)

    def name(self, identity: str) -> str:
        self.uuid(identity)
        return self._host.name

    def get_power_state(self, identity: str) -> str:
        self.uuid(identity)
        return "On" if self._host.is_running() else "Off"

    def set_power_state(self, identity: str, state: str) -> None:
        self.uuid(identity)
        running = self._host.is_running()
        if state in ("On", "ForceOn"):
            if not running:
                self._host.start()
        elif state == "ForceOff":
            self._host.power_cut()
        elif not running:
            raise error.BadRequest(f"{state} needs a machine that is on")
        elif state in ("GracefulShutdown", "PushPowerButton"):
            self._host.press_power_button()
        elif state in ("ForceRestart", "GracefulRestart"):
            self._host.reset()
        else:
            raise error.BadRequest(f"{state} is not supported")

    def get_boot_device(self, identity: str) -> Any:
        return None

    def set_boot_device(self, identity: str, boot_source: str) -> None:
        raise error.NotSupportedError("A lab host boots from its disk alone")


def main() -> int:
    """``python -m tests.lab.bmc LAB HOST --config FILE``: serve until it is ended."""
    directory, name = sys.argv[1:3]
    driver = LabHostDriver(Lab(Path(directory)).host(name))
    sushy.Application.systems = driver
    sys.argv = [sys.argv[0], *sys.argv[3:]]
    done: int = sushy.main()
    return done


if __name__ == "__main__":
    sys.exit(main())
