"""How soon an add-node begins while 36 of 40 hosts answer SSH and then hang, against one on an idle server.

The hosts are a real sshd whose sessions never end. Their inventories are asked for twice: by schedule, which
the first time fills the automatic queue, and by a person, which fills that of refreshes.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ["DJANGO_SETTINGS_MODULE"] = "nodeadmin.settings.test"
os.environ["NODEADMIN_LOG_LEVEL"] = "CRITICAL"

import django

django.setup()

from django.conf import settings  # noqa: E402 - settings come first
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402

from nodes import access  # noqa: E402
from nodes.engine.embedded import EmbeddedRunner  # noqa: E402
from nodes.engine.submit import submit  # noqa: E402
from nodes.events import SYSTEM, Actor  # noqa: E402
from nodes.models import Node, Operation, OperationStatus  # noqa: E402
from tests.bench.figures import Report, ms  # noqa: E402
from tests.factories import make_credential, make_node, make_user  # noqa: E402
from tests.sshd import ME, LoopbackSshd  # noqa: E402

HANGING, WELL = 36, 4
ROUNDS = 10
LIMIT_S = 2.0


def main() -> None:
    report = Report()
    hangs = {"ForceCommand": "exec sleep 600"}
    with (
        tempfile.TemporaryDirectory() as folder,
        LoopbackSshd(Path(folder) / "sshd", options=hangs) as sshd,
    ):
        connections["default"].close()
        connections["default"].settings_dict["NAME"] = str(Path(folder) / "bench.sqlite3")
        call_command("migrate", verbosity=0)
        settings.NODEADMIN_ENGINE_AUTOMATIC_THREADS = 8
        runner = EmbeddedRunner(Path(folder))
        runner.start()
        try:
            measure(report, sshd)
        finally:
            Operation.objects.filter(status=OperationStatus.QUEUED).update(status=OperationStatus.CANCELLED)
            sshd.drop_connections()
            runner.stop()
            access.close_pool()
            connections.close_all()
    report.finish()


def measure(report: Report, sshd: LoopbackSshd) -> None:
    person = Actor(make_user("ada", is_superuser=True))
    idle = [added(person, f"idle-{number}") for number in range(ROUNDS)]
    hanging = [hanging_node(sshd, number) for number in range(HANGING)]
    well = [make_node(f"well-{number}", uri="test:///default") for number in range(WELL)]
    for number, node in enumerate([*hanging, *well]):
        submit("refresh-node", actor=SYSTEM if number % 2 else person, node=node)
    time.sleep(3.0)
    running = Operation.objects.filter(kind="refresh-node", status=OperationStatus.RUNNING).count()
    busy = [added(person, f"busy-{number}") for number in range(ROUNDS)]
    report.figure(
        "add_node_start_beside_hanging_hosts_s",
        max(busy),
        LIMIT_S,
        f"{running} inventories hang; {ms(busy)}; on an idle server {ms(idle)}, "
        f"ratio {statistics.median(busy) / statistics.median(idle):.2f}",
    )


def hanging_node(sshd: LoopbackSshd, number: int) -> Node:
    node = make_node(f"hangs-{number:02d}", uri=f"qemu+ssh://{ME}@{sshd.address}:{sshd.port}/system")
    access.pin(node, sshd.host_key())
    node.save()
    make_credential(node, "ssh_key", private_key=sshd.user_key.read_text())
    return node


def added(person: Actor, name: str) -> float:
    """Seconds from the call to the operation's start."""
    params = {"uri": "test:///default", "type": "compute", "labels": {}}
    row = submit("add-node", actor=person, node_name=name, params=params)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        row.refresh_from_db(fields=["started_at", "status"])
        if row.started_at is not None and row.is_finished:
            return (row.started_at - row.created_at).total_seconds()
        time.sleep(0.02)
    raise TimeoutError("the add-node did not end in 300 s")


if __name__ == "__main__":
    main()
