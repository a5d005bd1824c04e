"""Ten enemies among a hundred nodes: what the others' users notice of them.

The list of nodes, one node's description and the first lines of a live log, asked for without and then with
enemies, in the same run and of the same server: the ratio of the 95th percentiles. The enemies' logs are
watched by viewers, asked for by the API, and their inventories are taken all the while. Memory and threads of
the server are looked at before, and at the worst moment. Run: ``python -m tests.bench.hostile``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

FOLDER = tempfile.TemporaryDirectory(prefix="bench-hostile-")
os.environ["DJANGO_SETTINGS_MODULE"] = "nodeadmin.settings.test"
os.environ["NODEADMIN_DATA_DIR"] = FOLDER.name
os.environ["NODEADMIN_LOG_SOCKETS_PER_USER"] = "500"
os.environ["BENCH_ATTACK"] = str(Path(FOLDER.name) / "attack")

import django  # noqa: E402 - settings come first

django.setup()

import httpx  # noqa: E402 - settings come first
from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402
from websockets.asyncio.client import connect  # noqa: E402

from nodes.models import ApiToken, Credential, Node, User  # noqa: E402
from tests.bench.figures import Report  # noqa: E402
from tests.hostile.host import JOURNALS, PROBES, EnemyHost  # noqa: E402
from tests.journals import JournalHost, entry  # noqa: E402
from tests.sshd import LoopbackSshd, free_port  # noqa: E402

RATIO, MEMORY_MB, THREADS = 1.5, 50.0, 120.0
NODES, ENEMIES = 100, 10


class Bench:
    """The server, its nodes, and what is asked of it."""

    def __init__(self, honest: LoopbackSshd, enemies: list[LoopbackSshd]) -> None:
        call_command("migrate", verbosity=0)
        user = User.objects.create_superuser("bench")
        _row, self.token = ApiToken.make(user, "bench", timezone.now() + timedelta(days=1), read_only=True)
        for number in range(NODES - ENEMIES):
            self._node(f"honest-{number}", honest)
        for number, sshd in enumerate(enemies):
            self._node(f"enemy-{number}", sshd)
        self.port = free_port()
        command = [sys.executable, "-m", "tests.bench.hostile_server", "--port", str(self.port)]
        # It says of every enemy that it is one.
        with (Path(FOLDER.name) / "server.log").open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log)
        self.headers = {"Authorization": f"Bearer {self.token}"}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=self.headers, timeout=30)

    def _node(self, name: str, sshd: LoopbackSshd) -> None:
        key = sshd.host_key()
        node = Node.objects.create(
            name=name,
            uri=f"qemu+ssh://root@127.0.0.1:{sshd.port}/system",
            host_key=key.to_text(),
            host_key_fingerprint=key.fingerprint,
        )
        secret = {"private_key": sshd.user_key.read_text()}
        Credential.objects.create(node=node, kind="ssh_key", secret=secret)

    def wait(self) -> None:
        for _attempt in range(300):
            with contextlib.suppress(httpx.TransportError):
                self.client.post("/api/list-nodes", json={})
                return
            time.sleep(0.1)
        raise RuntimeError("the server does not answer")

    def list_nodes(self) -> None:
        assert self.client.post("/api/list-nodes", json={}).status_code == 200

    def describe(self) -> None:
        assert self.client.post("/api/describe-node", json={"node": "honest-1"}).status_code == 200

    def live_log(self) -> None:
        asyncio.run(self._first_lines("honest-0"))

    async def _first_lines(self, name: str, held_s: float = 0.0) -> None:
        address = f"ws://127.0.0.1:{self.port}/ws/nodes/{name}/logs/"
        async with connect(
            address, additional_headers=self.headers, max_size=None, ping_interval=None
        ) as socket:
            await socket.send(json.dumps({"type": "subscribe", "backlog": 20}))
            async with asyncio.timeout(held_s or 30):
                async for message in socket:
                    raw = message.encode() if isinstance(message, str) else message
                    if raw.startswith(b'{"type":"entries"'):
                        return
                    if raw.startswith(b'{"type":"error"'):
                        raise RuntimeError(raw.decode())

    def attack(self, name: str, until: threading.Event) -> None:
        """View the live log of an enemy and ask for its log, again and again."""
        while not until.is_set():
            with contextlib.suppress(Exception):
                asyncio.run(self._first_lines(name, 5.0))
            with contextlib.suppress(httpx.HTTPError):
                url = f"http://127.0.0.1:{self.port}/api/describe-node-logs"
                httpx.post(url, headers=self.headers, json={"node": name}, timeout=20)
            until.wait(0.2)

    def status(self, name: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise RuntimeError(f"no {name}")


def measured(bench: Bench, seconds: float) -> tuple[dict[str, list[float]], int, int]:
    """Seconds of each kind of call, and the most memory (KiB) and threads that were seen meanwhile."""
    calls = {"list": bench.list_nodes, "describe": bench.describe, "live_logs": bench.live_log}
    times: dict[str, list[float]] = {name: [] for name in calls}
    memory = threads = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end or min(map(len, times.values())) < 20:
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begun)
        memory, threads = max(memory, bench.status("VmRSS")), max(threads, bench.status("Threads"))
    return times, memory, threads


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="of each half")
    options = parser.parse_args()
    report = Report()
    with contextlib.ExitStack() as stack:
        honest = JournalHost(Path(FOLDER.name) / "honest")
        honest.write(entry(number, f"line {number}") for number in range(2000))
        stack.enter_context(honest)
        enemies = []
        for number in range(ENEMIES):
            enemy = stack.enter_context(EnemyHost(Path(FOLDER.name) / f"enemy-{number}"))
            enemy.probe(sorted(PROBES)[number % len(PROBES)])
            enemy.journal(sorted(JOURNALS)[number % len(JOURNALS)])
            enemies.append(enemy.sshd)
        bench = Bench(honest.sshd, enemies)
        try:
            compare(report, bench, options.seconds)
        finally:
            Path(os.environ["BENCH_ATTACK"]).unlink(missing_ok=True)
            bench.process.terminate()
            bench.process.wait(30)
    report.finish()


def compare(report: Report, bench: Bench, seconds: float) -> None:
    """Without enemies, then with them."""
    bench.wait()
    measured(bench, 3)
    before, memory_before, threads_before = measured(bench, seconds)
    until = threading.Event()
    Path(os.environ["BENCH_ATTACK"]).touch()
    names = [f"enemy-{number}" for number in range(ENEMIES)]
    viewers = [threading.Thread(target=bench.attack, args=(name, until), daemon=True) for name in names]
    for viewer in viewers:
        viewer.start()
    time.sleep(3)
    after, memory, threads = measured(bench, seconds)
    until.set()
    for name, times in after.items():
        with_them, without = p95(times), p95(before[name])
        behind = f"p95 {with_them * 1000:.0f} ms against {without * 1000:.0f} ms, {len(times)} calls"
        report.figure(f"{name}_with_enemies", with_them / without, RATIO, behind)
    grown = (memory - memory_before) / 1024
    report.figure("memory_grown_mb", grown, MEMORY_MB, f"{memory / 1024:.0f} MB at most")
    report.figure("threads", threads, THREADS, f"{threads_before} without enemies")


if __name__ == "__main__":
    main()
