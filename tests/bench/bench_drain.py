"""A drain of ten small VMs against ten migrations one after the other.

Both hosts are real libvirt and real QEMU on this machine, without a boot (tests/lighthosts.py). The single
migrations are the bare call over connections that stand, so all that an operation adds (the plan checked
anew, rows, slots, both hosts read before and after) counts against the drain.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ["DJANGO_SETTINGS_MODULE"] = "nodeadmin.settings.test"
os.environ["NODEADMIN_LOG_LEVEL"] = "ERROR"
# Ten VMs fit on a target of two processors.
os.environ["NODEADMIN_VCPU_OVERCOMMIT"] = "100"

import django

django.setup()

from django.core.management import call_command  # noqa: E402 - settings come first
from django.db import connections  # noqa: E402

from nodes import access  # noqa: E402
from nodes.events import SYSTEM  # noqa: E402
from nodes.hosts.migration import migrate  # noqa: E402
from nodes.models import Node, OperationStatus  # noqa: E402
from nodes.operations.run.migration_route import migration_address  # noqa: E402
from nodes.operations.scheduling import uncordon  # noqa: E402
from nodes.operations.vm_steps import hypervisor_of  # noqa: E402
from tests.bench.figures import Report, ratio  # noqa: E402
from tests.engine.running import run_queued  # noqa: E402
from tests.light_nodes import ask, light_node  # noqa: E402
from tests.lighthosts import AVAILABLE, TinyVm, light_pair  # noqa: E402

RATIO = 0.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vms", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    report = Report()
    if AVAILABLE:
        measure(report, options.vms, options.rounds)
    else:
        report.failed("drain_over_single_migrations", "light hosts need root, libvirtd and unshare")
    report.finish()


def measure(report: Report, count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, light_pair(Path(folder)) as hosts:
        connections["default"].close()
        connections["default"].settings_dict["NAME"] = str(Path(folder) / "bench.sqlite3")
        call_command("migrate", verbosity=0)
        vms = [TinyVm(f"small-{number}") for number in range(count)]
        for vm in vms:
            hosts[0].start_vm(vm)
        source, target = (light_node(host) for host in hosts)
        drains, singles = [], []
        try:
            for _round in range(rounds):
                drains.append(drain(source))
                took = [move(vm, target, source) for vm in vms]
                singles.append(sum(took))
        finally:
            access.close_pool()
            connections.close_all()
    report.figure(
        "drain_over_single_migrations",
        ratio(drains, singles),
        RATIO,
        f"{count} VMs: drains {_seconds(drains)}, one after the other {_seconds(singles)}",
    )


def drain(node: Node) -> float:
    """Seconds from the operation's row to its end; the node takes VMs again afterwards."""
    ask("disable-node", node, drain=True)
    started = time.perf_counter()
    (ended,) = run_queued()
    took = time.perf_counter() - started
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    node.refresh_from_db()
    uncordon(node, actor=SYSTEM, operation=ended)
    return took


def move(vm: TinyVm, source: Node, target: Node) -> float:
    here, there = hypervisor_of(source), hypervisor_of(target)
    started = time.perf_counter()
    migrate(here, there, vm.uuid, address=migration_address(target), timeout_s=120)
    return time.perf_counter() - started


def _seconds(times: list[float]) -> str:
    return " and ".join(f"{took:.1f} s" for took in times)


if __name__ == "__main__":
    main()
