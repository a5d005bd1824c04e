"""A server that kills itself as it sends a power command: ``python -m tests.lab.mortal WHEN MODULE …``.

WHEN is ``before`` (the intent is on record, nothing was sent) or ``after`` (the host has taken the command,
and nobody knows it yet).
"""

import os
import runpy
import signal
import sys

from nodes.hosts import power
from nodes.hosts.shell import Shell

_send = power._command


def main() -> None:
    when, module, *arguments = sys.argv[1:]

    def send(shell: Shell, command: str, expected_boot_id: str, until_s: float) -> None:
        if when == "after":
            _send(shell, command, expected_boot_id, until_s)
        os.kill(os.getpid(), signal.SIGKILL)

    power._command = send
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
