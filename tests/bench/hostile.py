"""Ten enemies among a hundred nodes: what the others' users notice of them.

One server with everything that runs beside it (engine, monitor, live logs). In half of the time ten of the
hosts are enemies, in the other half they are as honest as the ninety; halves alternate. All the while all
nodes beat, logs are viewed and asked for; the enemies' inventories are taken far more often than by schedule,
honest ones not at all. A user in a process of their own asks for the list of nodes, a node and a live log,
and watches lines come (hostile_client.py): the figures are the ratios of the 95th percentiles. Memory and
threads of the server are looked at before, and at the worst moment. Run: ``python -m tests.bench.hostile``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Collection
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import IO

FOLDER = tempfile.TemporaryDirectory(prefix="bench-hostile-")
os.environ["DJANGO_SETTINGS_MODULE"] = "nodeadmin.settings.local"
os.environ["NODEADMIN_DATA_DIR"] = FOLDER.name
os.environ["NODEADMIN_LOG_LEVEL"] = "ERROR"
os.environ["NODEADMIN_LOG_SOCKETS_PER_USER"] = "500"
os.environ["NODEADMIN_CONNECTIONS_PER_ADDRESS"] = "2000"
os.environ["NODEADMIN_API_RATE"] = "1000000/min"
# By the bench itself: honest hosts would be measured, too.
os.environ["NODEADMIN_REFRESH_S"] = "0"
(Path(FOLDER.name) / "static").mkdir()

import django  # noqa: E402 - settings come first

django.setup()

import httpx  # noqa: E402 - settings come first
from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402

from nodes.models import ApiToken, Node, Operation, User  # noqa: E402
from nodes.monitor.refresh import submit_refreshes  # noqa: E402
from tests.bench.background import Background  # noqa: E402
from tests.bench.figures import Report  # noqa: E402
from tests.bench.hostile_client import TICK  # noqa: E402
from tests.factories import make_credential, make_snapshot  # noqa: E402
from tests.hostile.host import BEATS, FLOODS, JOURNALS, PROBES, EnemyHost  # noqa: E402
from tests.journals import JournalHost, entry, export  # noqa: E402
from tests.sshd import LoopbackSshd, descendants, free_port  # noqa: E402

RATIO, MEMORY_MB, THREADS = 1.5, 50.0, 60.0
NODES, ENEMIES, VIEWED = 100, 10, 20
INVENTORIES = 10
REFRESH_S = 20.0
"""Between two inventories of an enemy. By schedule a host that fails is asked once in three minutes at first,
and then ever more seldom."""
SETTLE_S = 8.0
TICK_S = 0.2
ATTACKS = ("journal", "probe", "beats")
KINDS = ("list", "describe", "live_log", "live_line")


class Bench:
    """The server, its nodes, and those who use it."""

    def __init__(self, honest: JournalHost, enemies: list[EnemyHost], attack: Path) -> None:
        self.enemies = enemies
        self._attack = attack
        call_command("migrate", verbosity=0)
        self.tokens = [self._token(name) for name in ("measured", "viewers")]
        for number in range(NODES - ENEMIES):
            node = self._node(f"honest-{number}", honest.sshd)
            if number < INVENTORIES:
                make_snapshot(node)
        self.enemy_ids = [
            self._node(f"enemy-{number}", enemy.sshd).pk for number, enemy in enumerate(enemies)
        ]
        self.port = free_port()
        self.samples: list[tuple[str, float, float]] = []
        self.memory_kib = self.threads = 0
        self._refreshing = threading.Event()
        self._ended = threading.Event()
        self.writer = honest.writer("live")

    def _token(self, name: str) -> str:
        """Of a user of their own: what one user may have at once is not to be shared."""
        user = User.objects.create_superuser(name)
        return ApiToken.make(user, name, timezone.now() + timedelta(days=1), read_only=False)[1]

    def _node(self, name: str, sshd: LoopbackSshd) -> Node:
        key = sshd.host_key()
        node = Node.objects.create(
            name=name,
            uri=f"qemu+ssh://root@127.0.0.1:{sshd.port}/system",
            host_key=key.to_text(),
            host_key_fingerprint=key.fingerprint,
            observed_at=timezone.now(),
            cpu_threads=64,
        )
        make_credential(node, "ssh_key", private_key=sshd.user_key.read_text())
        return node

    # -- processes ----------------------------------------------------------------------------------

    def start(self, stack: contextlib.ExitStack, viewers: Background) -> None:
        log = stack.enter_context((Path(FOLDER.name) / "server.log").open("wb"))
        self.server = self._process(
            stack, "nodeadmin.server", "--port", str(self.port), stderr=log, stdout=log
        )
        self._wait()
        names = [f"enemy-{number}" for number in range(ENEMIES)]
        names += [f"honest-{number}" for number in range(10, 10 + VIEWED)]
        self._viewers = self._process(
            stack, "tests.bench.hostile_viewers", str(self.port), *names,
            prefix=viewers.prefix, token=self.tokens[1], stdin=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        client = self._process(
            stack, "tests.bench.hostile_client", str(self.port),
            token=self.tokens[0], stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        assert client.stdout is not None
        for work in (lambda: self._collect(client.stdout), self._tick, self._look, self._refresh):
            threading.Thread(target=work, daemon=True).start()
        stack.callback(self._ended.set)

    def _process(
        self,
        stack: contextlib.ExitStack,
        module: str,
        *arguments: str,
        prefix: tuple[str, ...] = (),
        token: str = "",
        **files: IO[bytes] | int,
    ) -> subprocess.Popen[bytes]:
        command = [*prefix, sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(command, env=os.environ | {"BENCH_TOKEN": token}, **files)  # type: ignore[call-overload]
        stack.callback(self._end, process)
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait(self) -> None:
        headers = {"Authorization": f"Bearer {self.tokens[0]}"}
        for _attempt in range(600):
            with contextlib.suppress(httpx.TransportError):
                url = f"http://127.0.0.1:{self.port}/api/list-nodes"
                assert httpx.post(url, json={}, headers=headers, timeout=30).status_code == 200
                return
            time.sleep(0.1)
        raise RuntimeError("the server does not answer")

    def wait_online(self) -> None:
        for _attempt in range(240):
            if Node.objects.filter(connection="online").count() == NODES:
                return
            time.sleep(0.5)
        raise RuntimeError("not all nodes are online")

    def warm_up(self) -> None:
        """Take the inventories of the ten hosts while they are honest: what that takes of memory and threads
        is no harm that enemies do."""
        submit_refreshes(self.enemy_ids)
        for _attempt in range(240):
            if not Operation.objects.unfinished().exists():
                return
            time.sleep(0.5)

    # -- beside the measurement -----------------------------------------------------------------------

    def _collect(self, lines: IO[bytes]) -> None:
        for line in lines:
            kind, begun, took = line.decode().split()
            self.samples.append((kind, float(begun), float(took)))

    def _tick(self) -> None:
        """Write to the journal of the honest hosts, which all share one."""
        number = 10_000
        assert self.writer.stdin is not None
        while not self._ended.wait(TICK_S):
            number += 1
            now = time.time_ns() // 1000
            with contextlib.suppress(OSError):
                self.writer.stdin.write(export(entry(number, f"{TICK}{time.monotonic():.6f}", at_us=now)))
                self.writer.stdin.flush()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            memory = threads = 0
            for pid in (self.server.pid, *descendants(self.server.pid)):
                memory += status(pid, "VmRSS")
                threads += status(pid, "Threads")
            self.memory_kib, self.threads = max(self.memory_kib, memory), max(self.threads, threads)

    def _refresh(self) -> None:
        """Ask for the enemies' inventories in turn, as the monitor does."""
        turns = cycle(self.enemy_ids)
        while not self._ended.wait(REFRESH_S / ENEMIES):
            if self._refreshing.is_set():
                submit_refreshes([next(turns)])

    # -- halves ---------------------------------------------------------------------------------------

    def turn(self, *, hostile: bool) -> None:
        """Have the ten hosts be enemies, or honest."""
        self._refreshing.clear()
        if hostile:
            self._attack.touch()
        else:
            self._attack.unlink(missing_ok=True)
        for enemy in self.enemies:
            enemy.sshd.drop_connections()
        assert self._viewers.stdin is not None
        self._viewers.stdin.write(b"\n")
        self._viewers.stdin.flush()
        if hostile:
            self._refreshing.set()
        time.sleep(SETTLE_S)

    def measured(self, seconds: float) -> dict[str, list[float]]:
        """Seconds of each kind of call that begins within the next ``seconds``."""
        begin = time.monotonic()
        time.sleep(seconds)
        end = time.monotonic()
        times: dict[str, list[float]] = defaultdict(list)
        for kind, begun, took in tuple(self.samples):
            if begin <= begun < end:
                times[kind].append(took)
        return times


def status(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each half (20)")
    parser.add_argument("--rounds", type=int, default=4, help="of a half without and a half with enemies (4)")
    parser.add_argument("--attacks", default=",".join(ATTACKS), help="the enemies' ways, to tell them apart")
    parser.add_argument("--log", type=Path, help="where to leave what the server and the client said")
    options = parser.parse_args()
    report = Report()
    with contextlib.ExitStack() as stack:
        hosts = stack.enter_context(Background("bench-enemies", weight=0.05))
        viewers = stack.enter_context(Background("bench-viewers", weight=0.5))
        if not hosts.is_held:
            report.say("No control group could be made: the enemies take the server's processor as well.")
        honest = JournalHost(Path(FOLDER.name) / "honest", options={"MaxStartups": "400"})
        honest.write(entry(number, f"line {number}") for number in range(2000))
        stack.enter_context(honest)
        attack = Path(FOLDER.name) / "attack"
        enemies = [
            stack.enter_context(
                made(number, attack, honest.journal, hosts.prefix, options.attacks.split(","))
            )
            for number in range(ENEMIES)
        ]
        bench = Bench(honest, enemies, attack)
        bench.start(stack, viewers)
        bench.wait_online()
        bench.warm_up()
        try:
            compare(report, bench, options.seconds, options.rounds)
        finally:
            if options.log is not None:
                shutil.copy(Path(FOLDER.name) / "server.log", options.log)
    report.finish()


def made(
    number: int, attack: Path, journal: Path, prefix: tuple[str, ...], attacks: Collection[str]
) -> EnemyHost:
    """One of the enemies: each kind of attack is somebody's."""
    enemy = EnemyHost(
        Path(FOLDER.name) / f"enemy-{number}", attack=attack, own_journal=journal, prefix=prefix
    )
    journals = [*FLOODS, "names without end", *sorted(JOURNALS.keys() - {"names without end"})]
    if "journal" in attacks:
        enemy.journal(journals[number % len(journals)])
    if "probe" in attacks:
        enemy.probe(sorted(PROBES)[number % len(PROBES)])
    if "beats" in attacks:
        enemy.beats(sorted(BEATS)[number % len(BEATS)])
    return enemy


def compare(report: Report, bench: Bench, seconds: float, rounds: int) -> None:
    """Halves in turn; the memory is compared with that before the first attack."""
    halves: dict[bool, dict[str, list[float]]] = {False: defaultdict(list), True: defaultdict(list)}
    memory_before = threads_before = 0
    for number in range(rounds):
        for hostile in (False, True):
            bench.turn(hostile=hostile)
            times = bench.measured(seconds)
            if not number and not hostile:
                memory_before, threads_before = bench.memory_kib, bench.threads
            for kind in (*KINDS, "failed"):
                halves[hostile][kind] += times[kind]
            shown = (f"{kind} {p95(times[kind]) * 1000:.0f} ms of {len(times[kind])}" for kind in KINDS)
            report.say(
                f"{'with' if hostile else 'without'} enemies, p95: {', '.join(shown)};"
                f" {bench.memory_kib / 1024:.0f} MB, {bench.threads} threads"
            )
    without, with_them = halves[False], halves[True]
    for kind in KINDS:
        quiet, loud = p95(without[kind]), p95(with_them[kind])
        behind = f"p95 {loud * 1000:.0f} ms against {quiet * 1000:.0f} ms, {len(with_them[kind])} calls"
        report.figure(f"{kind}_with_enemies", loud / quiet, RATIO, behind)
    report.figure("failed_calls", len(with_them["failed"]), len(without["failed"]))
    grown = (bench.memory_kib - memory_before) / 1024
    report.figure("memory_grown_mb", grown, MEMORY_MB, f"{bench.memory_kib / 1024:.0f} MB at most")
    report.figure(
        "threads_more", bench.threads - threads_before, THREADS, f"{threads_before} without enemies"
    )


if __name__ == "__main__":
    main()
