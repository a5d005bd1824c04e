"""Reading from a host for as long as the operation that asked is wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, connection

from nodes.hosts.stop_signal import Unwanted, stopped_by
from nodes.operations.base import ClaimLost, OperationCancelled, Run

LOOK_S = 0.5
"""How often it is looked whether the operation was cancelled."""


@contextmanager
def while_wanted(run: Run) -> Iterator[None]:
    """What is asked of a host within ends within a second of a cancel, and with the loss of the claim.

    For what only reads: a command that changes the host is asked to its end. Raises OperationCancelled,
    ClaimLost.
    """
    unwanted, ended = threading.Event(), threading.Event()
    watching = threading.Thread(
        target=_watch, args=(run, unwanted, ended), name="operation: cancel", daemon=True
    )
    watching.start()
    try:
        with stopped_by(unwanted):
            yield
    except Unwanted:
        run.check_cancelled()
        raise
    finally:
        ended.set()
        watching.join()


def _watch(run: Run, unwanted: threading.Event, ended: threading.Event) -> None:
    try:
        while not ended.wait(LOOK_S):
            try:
                run.check_cancelled()
            except (OperationCancelled, ClaimLost):
                unwanted.set()
                return
            except DatabaseError:  # away for a moment: the operation itself will find out
                connection.close()
    finally:
        connection.close()
