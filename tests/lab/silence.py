"""The silence of a host that is off.

Once QEMU has ended, this machine's kernel refuses connections to the host's SSH port. In a network nobody
does that for a machine without power: what is sent to it gets no answer at all.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from tests.lab.host import LabHost

_LOOK_S = 0.05


@contextlib.contextmanager
def silent_when_off(host: LabHost) -> Iterator[None]:
    """While the block runs, the host's SSH port is silent from the moment in which QEMU ends."""
    over = threading.Event()
    thread = threading.Thread(target=_keep_silent, args=(host, over), name="silence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20)


def _keep_silent(host: LabHost, over: threading.Event) -> None:
    while host.is_running() and not over.wait(_LOOK_S):
        pass
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while not over.is_set():
            try:
                listener.bind((host.address, host.ssh_port))
                break
            except OSError:
                time.sleep(_LOOK_S)
        # A queue that nobody serves: once it is full, the kernel drops what would come after (tcp(7)).
        listener.listen(0)
        for _place in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host.address, host.ssh_port))
        over.wait()
