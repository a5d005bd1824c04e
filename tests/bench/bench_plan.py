"""The time that a plan takes: with sixteen candidates, and with one of them silent.

The hosts are real libvirt, real QEMU and real sshd on this machine (tests/lighthosts.py); the second of them
is entered under sixteen names, each with connections of its own. The silent one accepts TCP and says nothing,
and looks best by the database: it was heard of last and has the most memory. The second figure is a fleet
whose first batch is silent as a whole: the next one is asked in its place, within the plan's deadline.
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

os.environ["DJANGO_SETTINGS_MODULE"] = "nodeadmin.settings.test"
os.environ["NODEADMIN_LOG_LEVEL"] = "ERROR"

import django

django.setup()

from django.conf import settings  # noqa: E402 - settings come first
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.utils import timezone  # noqa: E402

from nodes import access  # noqa: E402
from nodes.models import Node, Scheduling  # noqa: E402
from nodes.operations.planning import plan_for  # noqa: E402
from nodes.operations.plans import Action, Plan  # noqa: E402
from tests.bench.figures import Report, alternate, ms, ratio  # noqa: E402
from tests.light_nodes import light_node  # noqa: E402
from tests.lighthosts import AVAILABLE, LightHost, TinyVm, light_pair  # noqa: E402

CANDIDATES = 16
RATIO = 3.0
GIB = 1 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vms", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report = Report()
    if AVAILABLE:
        measure(report, options.vms, options.rounds)
    else:
        report.failed("plan_with_a_silent_candidate", "light hosts need root, libvirtd and unshare")
    report.finish()


def measure(report: Report, vms: int, rounds: int) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hosts = stack.enter_context(light_pair(folder))
        connections["default"].close()
        connections["default"].settings_dict["NAME"] = str(folder / "bench.sqlite3")
        call_command("migrate", verbosity=0)
        for number in range(vms):
            hosts[0].start_vm(TinyVm(f"small-{number}"))
        source = light_node(hosts[0])
        for number in range(CANDIDATES):
            entered(hosts[1], f"answers-{number:02d}")
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256))
        quiet = [mute(f"silent-{number:02d}", silent.getsockname()[1]) for number in range(CANDIDATES)]
        try:
            figures(report, source, quiet, rounds)
        finally:
            access.close_pool()
            connections.close_all()


def figures(report: Report, source: Node, quiet: list[Node], rounds: int) -> None:
    spare = Node.objects.get(name=f"answers-{CANDIDATES - 1:02d}")

    def all_answer() -> None:
        in_service(spare, out=quiet)
        complete(plan_for("disable-node", None, source, {}), CANDIDATES)

    def one_is_silent() -> None:
        in_service(quiet[0], out=[spare, *quiet[1:]])
        complete(plan_for("disable-node", None, source, {}), CANDIDATES)

    times = alternate({"all": all_answer, "silent": one_is_silent}, rounds)
    report.figure(
        "plan_with_a_silent_candidate",
        ratio(times["silent"], times["all"]),
        RATIO,
        f"{CANDIDATES} candidates: all answer {ms(times['all'])}; one is silent {ms(times['silent'])}",
    )

    def first_batch_is_silent() -> None:
        in_service(*quiet, spare)
        complete(plan_for("disable-node", None, source, {}), 2 * CANDIDATES)

    times = alternate({"next": first_batch_is_silent}, 1, warm_up=0)
    deadline_s = settings.NODEADMIN_HOST_TIMEOUT_S
    report.figure(
        "plan_with_a_silent_first_batch",
        times["next"][0] / deadline_s,
        1.0,
        f"{times['next'][0]:.1f} s of {deadline_s:g} s",
    )


def complete(plan: Plan, asked: int) -> None:
    assert not plan.is_blocked, plan
    assert all(vm.target.startswith("answers-") for vm in plan.of(Action.MIGRATE)), plan
    assert plan.targets_asked == asked, (plan.targets_asked, plan.targets_eligible)


def entered(host: LightHost, name: str) -> Node:
    """The host once more, under another name."""
    return light_node(host, name=name, memory_total_bytes=64 * GIB, memory_used_bytes=32 * GIB)


def mute(name: str, port: int) -> Node:
    """A node whose host says nothing, in the best state by all that is known of it."""
    node = Node.objects.get(name="answers-00")
    found = Node(
        name=name,
        uri=f"qemu+ssh://root@127.0.0.1:{port}/system",
        host_key=node.host_key,
        host_key_fingerprint=node.host_key_fingerprint,
        migration_address="127.0.0.1",
        connection="online",
        last_seen_at=timezone.now(),
        memory_total_bytes=512 * GIB,
        memory_used_bytes=GIB,
    )
    found.save()
    credential = node.credential
    credential.pk, credential.node = None, found
    credential.save()
    return found


def in_service(*nodes: Node, out: list[Node] | None = None) -> None:
    """Let ``nodes`` take VMs, and those that are ``out`` not."""
    Node.objects.filter(pk__in=[node.pk for node in nodes]).update(scheduling=Scheduling.ENABLED)
    Node.objects.filter(pk__in=[node.pk for node in out or ()]).update(scheduling=Scheduling.MAINTENANCE)


if __name__ == "__main__":
    main()
