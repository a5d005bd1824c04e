"""Run a command and take up its orphans: ``reaper.py COMMAND…`` ends when the last of them has.

A daemon's detached children fall to the machine's first process, and where that one is slow to take note of
their end, whoever waits for it (libvirt asks by ``kill(pid, 0)``) waits with it.
"""

import ctypes
import os
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    if os.fork() == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main()
