"""libvirt's event loop: registered once a process, before the first connection, and run for ever.

Without it libvirt can neither send keep-alives nor notice that a peer is gone
(https://libvirt.org/html/libvirt-libvirt-event.html).
"""

from __future__ import annotations

import os
import threading

import libvirt

from nodes.errors import LibvirtUnavailable

_lock = threading.Lock()
_pid: int | None = None


def ensure_running() -> None:
    """Start the loop in a daemon thread, the first time; silence libvirt's own printing of errors.

    Raises LibvirtUnavailable in a process forked from one that used libvirt: its library still holds the
    parent's locks and sockets, and a call would hang or speak on the parent's connection.
    """
    global _pid
    with _lock:
        if _pid == os.getpid():
            return
        if _pid is not None:
            raise LibvirtUnavailable(
                "This process was forked from one that already uses libvirt.",
                remedy="Connect to hosts in the forked process alone.",
            )
        libvirt.registerErrorHandler(_ignore, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_run, name="libvirt events", daemon=True).start()
        _pid = os.getpid()


def _ignore(_context: object, _error: object) -> None:
    """Every error is raised as well; the default handler would print it to standard error."""


def _run() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:  # one bad handle; the next round is its own
            continue
