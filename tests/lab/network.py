"""What joins the lab's hosts: ports of this machine for SSH, and a switch between them for migrations."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabError

# Below the range that the kernel takes the local ports of outgoing connections from (ip_local_port_range), so
# that a host which comes back after a power cut finds its port still free.
_PORTS = range(21000, 31000)
_SWITCH_DEADLINE_S = 10


def free_port() -> int:
    """A TCP port that nobody listens on at 127.0.0.1, chosen at random, since other labs choose too."""
    for port in random.sample(_PORTS, 50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise LabError("no free TCP port was found on 127.0.0.1")


@dataclass(frozen=True)
class Switch:
    """A learning Ethernet switch (vde_switch) that any number of hosts plug into, in any order.

    QEMU's own socket networks join two processes at most, need one of them to be there first, and do not come
    back when either is killed.
    """

    directory: Path

    @property
    def socket_directory(self) -> Path:
        return self.directory / "lan"

    @property
    def _pid_file(self) -> Path:
        return self.directory / "lan.pid"

    def start(self) -> None:
        """Starts the switch unless it runs already."""
        if self._pid() is not None:
            return
        if shutil.which("vde_switch") is None:
            raise LabError("vde_switch is missing; `script/lab prepare` installs what the lab needs")
        shutil.rmtree(self.socket_directory, ignore_errors=True)
        subprocess.run(
            [
                *(
                    "vde_switch",
                    "--daemon",
                    "--sock",
                    str(self.socket_directory),
                    "--pidfile",
                    str(self._pid_file),
                ),
                *("--mode", "600", "--dirmode", "700"),
            ],
            check=True,
            capture_output=True,
            timeout=_SWITCH_DEADLINE_S,
        )
        deadline = time.monotonic() + _SWITCH_DEADLINE_S
        while self._pid() is None:
            if time.monotonic() > deadline:
                raise LabError(f"vde_switch did not start in {self.directory}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends the switch and returns when it is gone; does nothing where none runs."""
        pid = self._pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _SWITCH_DEADLINE_S
            while self._pid() is not None and time.monotonic() < deadline:
                time.sleep(0.02)
        self._pid_file.unlink(missing_ok=True)

    def _pid(self) -> int | None:
        try:
            pid = int(self._pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        # The number may long since belong to somebody else.
        return pid if str(self.socket_directory).encode() in command else None
