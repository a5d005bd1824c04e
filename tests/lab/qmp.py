"""QEMU's machine protocol, as far as the lab needs it (QEMU documentation, "QMP Protocol Specification")."""

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.errors import LabError
from tests.patience import Deadline, slowness

_DEADLINE_S = 30.0


class Monitor:
    """One conversation with the monitor of a running QEMU. A context manager; QEMU takes one visitor at a
    time.
    """

    def __init__(self, path: Path, deadline_s: float = _DEADLINE_S) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(deadline_s * slowness())
        self._deadline_s = deadline_s
        # By way of the open directory: a socket's own path may have 107 bytes and no more.
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self._socket.connect(f"/proc/self/fd/{directory}/{path.name}")
        except OSError as error:
            self._socket.close()
            raise LabError(f"no QEMU answers at {path}: {error}") from error
        finally:
            os.close(directory)
        self._lines = self._socket.makefile("rb")
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._read()  # the greeting
        self.execute("qmp_capabilities")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """Runs a command and gives what it returns. Raises LabError with QEMU's words where it refuses."""
        message = {
            "execute": command,
            "arguments": {name.replace("_", "-"): v for name, v in arguments.items()},
        }
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self._read()
            if "event" in answer:
                self._events.append(answer)
            elif "error" in answer:
                raise LabError(f"QEMU refused {command}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def wait_for_event(self, name: str, **data: object) -> dict[str, Any]:
        """The next event of this name with these values in its data, also one that came during a command."""
        deadline = Deadline(self._deadline_s)
        while True:
            event = self._events.pop(0) if self._events else self._read()
            if event.get("event") == name and data.items() <= event.get("data", {}).items():
                return event
            if deadline.over():
                raise LabError(f"QEMU reported no {name} within {deadline.seconds:.0f} s")

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise LabError(f"QEMU's monitor fell silent: {error}") from error
        if not line:
            raise LabError("QEMU ended while its monitor was in use")
        answer: dict[str, Any] = json.loads(line)
        return answer
