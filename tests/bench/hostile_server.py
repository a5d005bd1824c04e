"""The server under measurement, which also takes the inventories of its enemies while it is told to."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

ENEMIES = "enemy-"
AT_ONCE = 2
"""Inventories of enemies at a time: those of a node that fails are asked for seldom, and on few threads."""


def main() -> None:
    sys.argv[0] = "log_server"
    from tests.bench import log_server

    threading.Thread(target=_watch, args=(Path(os.environ["BENCH_ATTACK"]),), daemon=True).start()
    log_server.main()


def _watch(attack: Path) -> None:
    """While the file ``attack`` is there, refresh the enemies in turn, as the engine does."""
    while not attack.exists():
        time.sleep(0.1)
    for number in range(AT_ONCE):
        threading.Thread(target=_refresh, args=(attack, number), daemon=True).start()


def _refresh(attack: Path, number: int) -> None:
    from django.db import connection

    from nodes import access
    from nodes.errors import NodeAdminError
    from nodes.models import Node
    from nodes.operations.snapshots import take_inventory

    while attack.exists():
        nodes = list(Node.objects.filter(name__startswith=ENEMIES).order_by("pk"))[number::AT_ONCE]
        for node in nodes:
            if not attack.exists():
                break
            try:
                take_inventory(access.connect(access.target_for(node)), None)
            except NodeAdminError:
                time.sleep(0.5)
    connection.close()


if __name__ == "__main__":
    main()
