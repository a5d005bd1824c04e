"""Several Celery workers on one PostgreSQL and one Redis, named in the environment by test_scale.py."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from redis import Redis as RedisClient

from nodeadmin.celery import app
from nodeadmin.scale.supervisor import Process
from nodes import news
from nodes.engine.celery_runner import WakeUps
from nodes.engine.submit import submit
from nodes.errors import NodeBusy
from nodes.events import SYSTEM
from nodes.models import Chore, Event, Node, Operation, OperationStatus, Snapshot
from nodes.realtime import feed
from tests.factories import make_node, make_user
from tests.realtime.sockets import OWN, cookie_of, opened
from tests.scale.gate import gated_node
from tests.scale.processes import Worker, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]
NEVER = 600.0
LEASE_S = 4.0


@pytest.fixture
def broker(redis: Process) -> Iterator[RedisClient]:
    """A client of the broker, which holds nothing at a test's beginning."""
    with RedisClient.from_url(settings.NODEADMIN_REDIS_URL) as client:
        client.flushall()
        yield client


@pytest.fixture
def wake_ups(transactional_db: None, broker: RedisClient) -> Iterator[None]:
    """As in a web process: what is submitted here is told to the workers."""
    sender = WakeUps(app)
    sender.start()
    yield
    sender.stop()


@pytest.fixture
def worker(transactional_db: None, broker: RedisClient, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts workers; all have ended before the database is emptied."""
    started: list[Worker] = []

    def start(name: str, **options: object) -> Worker:
        found = Worker(tmp_path, name, **options)  # type: ignore[arg-type]
        started.append(found)
        return found

    yield start
    for found in started:
        found.ask_to_stop()
    for found in started:
        assert found.stop() in (0, -9), found.said()
        assert "Traceback" not in found.said(), found.said()


def add(name: str) -> Operation:
    params = {"uri": "test:///default", "type": "compute", "labels": {}}
    return submit("add-node", actor=SYSTEM, node_name=name, params=params)


def ended(*operations: Operation) -> bool:
    ids = [operation.pk for operation in operations]
    rows = Operation.objects.filter(pk__in=ids)
    assert not rows.filter(status=OperationStatus.FAILED).exists(), list(rows.values_list("error", flat=True))
    return rows.filter(status=OperationStatus.SUCCEEDED).count() == len(ids)


def test_operations_are_shared_between_workers_and_each_runs_once(worker, wake_ups):
    both = [worker("one"), worker("two")]
    for one in both:
        one.wait_ready()
    asked = [add(f"node-{number:02d}") for number in range(24)]
    wait_until(lambda: ended(*asked), 60)
    claims = Operation.objects.values_list("claimed_by", "claim_token")
    assert {token for _by, token in claims} == {2}, "claimed once, and ended once"
    shares = Counter(by for by, _token in claims)
    assert all(any(one.has(by) for by in shares) for one in both), shares
    assert Node.objects.count() == 24
    assert Event.objects.filter(kind="add_node_succeeded").count() == 24
    assert Chore.objects.count() == 1
    assert sum(one.said().count("purged") for one in both) == 1


def test_of_many_processes_that_ask_at_once_one_gets_the_node(worker, wake_ups):
    """The constraint and the words about it are PostgreSQL's here."""
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        try:
            add("node-01")
        except NodeBusy:
            outcomes.append("busy")
        else:
            outcomes.append("accepted")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(outcomes) == {"accepted": 1, "busy": 7}
    worker("one")
    wait_until(lambda: ended(Operation.objects.get()))


def test_a_killed_workers_operation_is_taken_over_and_done_once(worker, wake_ups, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    with gated_node(tmp_path, gate) as node:
        first = worker("first", lease_s=LEASE_S).wait_ready()
        operation = submit("refresh-node", actor=SYSTEM, node=node)
        wait_until(lambda: gate.with_name("waiting").exists(), 30, first.said)
        operation.refresh_from_db()
        assert (operation.status, first.has(operation.claimed_by)) == (OperationStatus.RUNNING, True)
        second = worker("second").wait_ready()
        time.sleep(LEASE_S)
        operation.refresh_from_db()
        assert first.has(operation.claimed_by), "a lease that is renewed is not taken over"

        first.kill()
        killed = time.monotonic()
        gate.unlink()
        wait_until(lambda: second.has(Operation.objects.get().claimed_by), 30, second.said)
        taken_over = time.monotonic() - killed
        wait_until(lambda: ended(operation), 30, second.said)
    operation.refresh_from_db()
    assert operation.claim_token == 3, "claimed twice, and ended once"
    assert Snapshot.objects.count() == 1
    assert taken_over < LEASE_S + 5.0


def test_a_worker_that_is_stopped_hands_its_operation_to_another(worker, wake_ups, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    with gated_node(tmp_path, gate) as node:
        first = worker("first", lease_s=5.0).wait_ready()
        operation = submit("refresh-node", actor=SYSTEM, node=node)
        wait_until(lambda: gate.with_name("waiting").exists(), 30, first.said)
        second = worker("second").wait_ready()
        stopper = threading.Thread(target=first.stop)
        stopper.start()
        wait_until(lambda: second.has(Operation.objects.get().claimed_by), 30, first.said)
        gate.unlink()
        wait_until(lambda: ended(operation), 30, second.said)
        stopper.join()
    assert Snapshot.objects.count() == 1


def test_a_message_wakes_a_worker_and_a_late_doubled_or_forged_one_changes_nothing(worker, wake_ups):
    one = worker("one", sweep_s=NEVER).wait_ready()
    operation = add("node-01")
    wait_until(lambda: ended(operation), 20, one.said)
    before = Operation.objects.values().get()
    for argument in (str(operation.pk), str(operation.pk), "0", "../../etc/passwd"):
        app.send_task("nodes.run_operation", [argument])
    wait_until(lambda: one.said().count("a message names no operation") == 2, 10, one.said)
    assert Operation.objects.values().get() == before


def test_what_a_flushed_broker_has_forgotten_the_sweep_finds(worker, wake_ups, broker):
    asked = [add(f"node-{number}") for number in range(3)]
    wait_until(lambda: broker.llen("nodeadmin-operations") == 3)
    broker.flushall()
    worker("one")
    wait_until(lambda: ended(*asked), 30)


def test_without_a_broker_nothing_fails_and_nothing_waits(worker, wake_ups, redis):
    sweeping = worker("sweeping").wait_ready()
    listening = worker("listening", sweep_s=NEVER).wait_ready()
    redis.end(10.0)
    try:
        late = worker("late")  # one that starts while there is no broker works too
        began = time.monotonic()
        operation = add("node-01")
        assert time.monotonic() - began < 2.0
        wait_until(lambda: ended(operation), 20, sweeping.said)
        sweeping.kill()
        second = add("node-02")
        wait_until(lambda: ended(second), 40, late.said)
        assert late.has(Operation.objects.get(pk=second.pk).claimed_by)
        late.kill()
    finally:
        redis.start()
        redis.wait_ready(threading.Event())
    third = add("node-03")
    wait_until(lambda: ended(third), 30, listening.said)
    assert listening.has(Operation.objects.get(pk=third.pk).claimed_by)


async def test_a_socket_learns_from_a_worker_what_it_did(worker, wake_ups, monkeypatch):
    monkeypatch.setattr(feed, "POLL_S", NEVER)  # so that only news can tell
    # Redis may have been restarted under this process's connections by a test before.
    monkeypatch.setattr(news, "FAILED_PAUSE_S", 0.2)
    one = await sync_to_async(worker)("one")
    node = await sync_to_async(make_node)("node-01", uri="test:///default")
    user = await sync_to_async(make_user)(is_superuser=True)
    await sync_to_async(one.wait_ready)()
    async with opened("/ws/fleet/", [*OWN, await sync_to_async(cookie_of)(user)]) as socket:
        assert (await socket.message())["operations"] == []
        await asyncio.sleep(6)  # longer than the channel layer waits at a time
        await sync_to_async(submit)("refresh-node", actor=SYSTEM, node=node)
        # Not its end: an operation that begins and ends between two looks is in no picture.
        lines: list[dict[str, object]] = []
        while not any(line["vms_total"] == 1 for line in lines):
            lines += (await socket.message(within_s=30))["nodes"]


def test_a_worker_without_threads_is_refused():
    command = [sys.executable, "-m", "celery", "-A", "nodeadmin", "worker", "--pool", "solo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "threads" in done.stderr
