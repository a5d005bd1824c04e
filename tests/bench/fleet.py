"""A simulated fleet under the real monitor: what it costs, and what happens when a tenth of it goes silent.

The hosts play in processes of their own (fleet_hosts.py), the monitors are ``manage.py monitor``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles

from tests.bench.figures import Report
from tests.bench.lossy_link import LossyLink
from tests.scale.servers import servers

ROOT = Path(__file__).resolve().parents[2]
SERVERS = 4
TICK = os.sysconf("SC_CLK_TCK")
LOOK_S = 0.05
report = Report()


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench-fleet", description=__doc__)
    parser.add_argument("nodes", type=int, nargs="?", default=1000)
    parser.add_argument("--seconds", type=int, default=600, help="of quiet watching (600)")
    parser.add_argument("--period", type=float, default=5.0, help="seconds between beats (5)")
    parser.add_argument("--monitors", type=int, default=1, help="side by side (1)")
    parser.add_argument(
        "--database",
        default="",
        help="a URL; otherwise a fresh SQLite file, or PostgreSQL for more than one monitor",
    )
    parser.add_argument("--kill", action="store_true", help="SIGKILL one monitor and time the take-over")
    parser.add_argument("--loss", type=float, help="percent of packets lost in each direction; needs root")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds a packet takes with --loss (0.1)")
    return parser.parse_args()


class SimulatedHosts:
    """The processes that play the hosts."""

    def __init__(self, folder: Path, period_s: float, link: LossyLink | None = None) -> None:
        self.key = folder / "host_key"
        self.far = link is not None
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        command = [sys.executable, "-m", "tests.bench.fleet_hosts", str(self.key), str(period_s)]
        self.processes = [
            subprocess.Popen(
                [*(link.prefix if link is not None else ()), *command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            )
            for _ in range(SERVERS)
        ]  # fmt: skip
        self.ports = [int(self._line(process)) for process in self.processes]

    def address(self, number: int) -> tuple[str, int]:
        net = "10.200" if self.far else f"127.{10 + number // 62500}"
        host = f"{net}.{number // 250 % 250}.{number % 250 + 1}"
        return host, self.ports[number % SERVERS]

    def tell(self, word: str, numbers: list[int]) -> int:
        """Silence or wake these hosts; the beats sent so far by all."""
        sent = 0
        for index, process in enumerate(self.processes):
            addresses = [self.address(n)[0] for n in numbers if n % SERVERS == index]
            assert process.stdin is not None
            process.stdin.write(" ".join([word, *addresses]) + "\n")
            process.stdin.flush()
            sent += int(self._line(process))
        return sent

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def _line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def written_bytes(pid: int) -> int:
    match = re.search(r"^write_bytes: (\d+)", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    return int(match.group(1)) if match else 0


def rss_bytes(pid: int) -> int:
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(match.group(1)) * 1024 if match else 0


@contextmanager
def monitors(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Monitors in processes of their own."""
    running = [
        subprocess.Popen([sys.executable, "manage.py", "monitor"], cwd=ROOT, stdout=subprocess.DEVNULL)
        for _ in range(count)
    ]
    try:
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)


class Fleet:
    """The rows in the database, and what is read of them. Made once Django is set up."""

    def __init__(self, count: int, hosts: SimulatedHosts) -> None:
        from django.utils import timezone

        from nodes import access
        from nodes.models import Credential, Node, User
        from nodes.models.sealed import SecretFor

        public = hosts.key.with_suffix(".pub").read_text().split()[:2]
        now = timezone.now()
        rows = []
        for number in range(count):
            host, port = hosts.address(number)
            rows.append(
                Node(
                    name=f"sim-{number:05d}", uri=f"qemu+ssh://root@{host}:{port}/system",
                    host_key=" ".join(public), cpu_threads=64, observed_at=now,
                )
            )  # fmt: skip
        Node.objects.bulk_create(rows)
        secret = {"private_key": hosts.key.read_text()}
        Credential.objects.bulk_create(
            Credential(node=node, kind="ssh_key", secret=SecretFor(access.binding_of_node(node), secret))
            for node in Node.objects.all()
        )
        self.count = count
        self.user = User.objects.create_superuser("bench", password="bench bench bench")

    def online(self) -> int:
        from nodes.models import Node

        return Node.objects.filter(connection="online").count()

    def beats(self) -> int:
        from django.db.models import Sum

        from nodes.models import Heartbeat

        return Heartbeat.objects.aggregate(total=Sum("beats"))["total"] or 0

    def wait_online(self, seconds: float) -> float:
        begun = time.monotonic()
        while self.online() < self.count:
            if time.monotonic() - begun > seconds:
                raise SystemExit(f"only {self.online()} of {self.count} nodes came online in {seconds:g} s")
            time.sleep(0.5)
        return time.monotonic() - begun

    def list_times(self, rounds: int) -> list[float]:
        """Seconds of each of so many looks at the list of nodes."""
        from django.test import Client

        client = Client()
        client.force_login(self.user)
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            assert client.get("/nodes/").status_code == 200
            times.append(time.perf_counter() - begun)
            time.sleep(0.02)
        return times


def commits(seconds: float) -> int | None:
    """Wait so long; the transactions that others have committed meanwhile, None where it is not SQLite."""
    from django.db import connection

    end = time.monotonic() + seconds
    if connection.vendor != "sqlite":
        time.sleep(seconds)
        return None
    versions = set()
    while time.monotonic() < end:
        with connection.cursor() as cursor:
            versions.add(cursor.execute("PRAGMA data_version").fetchone()[0])
        time.sleep(LOOK_S)
    return len(versions) - 1


def watch_quietly(
    fleet: Fleet, running: list[subprocess.Popen[bytes]], seconds: int, period_s: float
) -> None:
    """What it costs while nothing happens, and whether anything is said to have happened."""
    from nodes.models import Event

    events = Event.objects.filter(kind="node_offline").count()
    before = [(cpu_s(process.pid), written_bytes(process.pid)) for process in running]
    beats, begun = fleet.beats(), time.monotonic()
    written_times = commits(seconds)
    took = time.monotonic() - begun
    for process, (spent, written) in zip(running, before, strict=True):
        rss = rss_bytes(process.pid)
        cost = (
            f"{(written_bytes(process.pid) - written) / took / 1024:.0f} KiB/s written, "
            f"{rss / 2**20:.0f} MiB of memory, {rss / 1024 / fleet.count:.0f} KiB a node"
        )
        report.figure("monitor_cores", (cpu_s(process.pid) - spent) / took, 1.0, cost)
    if written_times is not None:
        report.figure("transactions_per_s", written_times / took, 5.0)
    stored, sent = (fleet.beats() - beats) / took, fleet.count / period_s
    report.figure("beats_sent_over_stored", sent / stored, 1.02, f"{stored:.1f} stored a second")
    report.figure("false_offline", Event.objects.filter(kind="node_offline").count() - events, 0)


def silence_a_tenth(fleet: Fleet, hosts: SimulatedHosts, period_s: float) -> None:
    """A tenth turns into black holes: when each is found out, and what the list of nodes costs meanwhile."""
    from nodes.models import Event, Heartbeat, Node

    rounds = 600
    quiet = fleet.list_times(rounds)
    victims = list(range(0, fleet.count, 10))
    names = {f"sim-{number:05d}" for number in victims}
    last = Event.objects.order_by("-id").values_list("id", flat=True).first() or 0
    hosts.tell("silence", victims)
    begun = time.time()
    loud = fleet.list_times(2 * rounds)
    while time.time() - begun < 12 + period_s:
        time.sleep(0.2)
    rows = Event.objects.filter(kind="node_offline", id__gt=last, node_name__in=names)
    delays = sorted(at.timestamp() - begun for at in rows.values_list("created_at", flat=True))
    report.figure("black_holes_not_found", len(victims) - len(delays), 0, f"of {len(victims)}")
    if delays:
        report.figure("slowest_found_s", delays[-1], 2 * period_s, f"median {median(delays):.1f} s")
    others = Node.objects.exclude(name__in=names)
    report.figure("others_offline", others.exclude(connection="online").count(), 0)
    fresh = Heartbeat.objects.filter(node__in=others)
    ages = [time.time() - seen.timestamp() for seen in fresh.values_list("seen_at", flat=True)]
    report.figure("others_oldest_beat_s", max(ages), 3 * period_s)
    hosts.tell("wake", victims)
    begun_again = time.monotonic()
    fleet.wait_online(60)
    report.say(f"all back after {time.monotonic() - begun_again:.1f} s")
    # Before and after together: what else the machine does meets both halves of the comparison.
    quiet += fleet.list_times(rounds)
    p95 = [quantiles(times, n=20)[-1] for times in (loud, quiet)]
    behind = (
        f"{1000 * p95[1]:.1f} ms before; median {1000 * median(loud):.1f} and {1000 * median(quiet):.1f} ms"
    )
    report.figure("list_p95_with_black_holes", p95[0] / p95[1], 1.05, behind)


def kill_one(fleet: Fleet, running: list[subprocess.Popen[bytes]]) -> None:
    from nodes.models import Heartbeat, MonitorProcess

    victim = running[0]
    row = next(row for row in MonitorProcess.objects.all() if row.name.endswith(f":{victim.pid}"))
    mine = list(Heartbeat.objects.filter(owner=row).values_list("pk", flat=True))
    victim.send_signal(signal.SIGKILL)
    begun = time.time()
    while True:
        rest = Heartbeat.objects.filter(pk__in=mine).exclude(owner=None).exclude(owner=row).count()
        if rest == len(mine):
            break
        time.sleep(0.1)
    report.figure("taken_over_s", time.time() - begun, 15, f"{len(mine)} nodes")
    while (
        min(Heartbeat.objects.filter(pk__in=mine).values_list("seen_at", flat=True)).timestamp() < begun + 1
    ):
        time.sleep(0.2)
    report.say(f"all of them beat again after {time.time() - begun:.1f} s")


def count_doubles() -> None:
    """Points that stand closer together than two beats can."""
    from nodes.models import FigureBlock
    from nodes.monitor.points import unpack

    doubles = total = 0
    times: dict[int, list[float]] = {}
    for block in FigureBlock.objects.filter(span_s=60).iterator():
        at = block.starts_at.timestamp()
        times.setdefault(block.node_id, []).extend(at + point.at_s for point in unpack(bytes(block.points)))
    for moments in times.values():
        moments.sort()
        total += len(moments)
        doubles += sum(later - earlier < 0.05 for earlier, later in pairwise(moments))
    report.figure("beats_stored_twice", doubles, 0, f"of {total}")


def main() -> None:
    arguments = read_arguments()
    folder = Path(tempfile.mkdtemp(prefix="nodeadmin-fleet-"))
    (folder / "static").mkdir()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        database = arguments.database
        if not database and arguments.monitors > 1:
            database = stack.enter_context(servers()).postgres.url
        os.environ |= {
            "NODEADMIN_DATA_DIR": str(folder),
            "NODEADMIN_REFRESH_S": "0",
            "NODEADMIN_BEAT_S": str(arguments.period),
            "NODEADMIN_DATABASE_URL": database,
            "NODEADMIN_LOG_LEVEL": "ERROR",
            "DJANGO_SETTINGS_MODULE": "nodeadmin.settings.local",
        }
        link = None
        if arguments.loss is not None:
            link = stack.enter_context(LossyLink(arguments.delay, arguments.loss / 100))
        hosts = SimulatedHosts(folder, arguments.period, link)
        stack.callback(hosts.close)
        run(arguments, hosts)
        if link is not None:
            report.say(f"{link.passed} packets passed, {link.lost} were lost")
    report.finish()


def run(arguments: argparse.Namespace, hosts: SimulatedHosts) -> None:
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    settings.ALLOWED_HOSTS.append("testserver")
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    call_command("migrate", verbosity=0)
    fleet = Fleet(arguments.nodes, hosts)
    with monitors(arguments.monitors) as running:
        report.say(f"all online after {fleet.wait_online(30 + arguments.nodes / 5):.1f} s")
        time.sleep(10)
        watch_quietly(fleet, running, arguments.seconds, arguments.period)
        if arguments.loss is None:
            silence_a_tenth(fleet, hosts, arguments.period)
        if arguments.kill:
            kill_one(fleet, running)
    count_doubles()


if __name__ == "__main__":
    main()
