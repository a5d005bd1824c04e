"""People's operations beside hosts that hang: who keeps whom from running, and what is said to who waits."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes import access
from nodes.engine.embedded import EmbeddedRunner
from nodes.engine.queues import Queue, Waiting, waiting_of
from nodes.engine.submit import submit
from nodes.events import SYSTEM, Actor
from nodes.models import Node, Operation, OperationStatus
from nodes.operations import refresh_node
from nodes.operations.snapshots import Taken
from tests.engine.running import run_queued
from tests.factories import make_credential, make_node, make_operation, make_user
from tests.lighthosts import comes_true
from tests.sshd import ME, LoopbackSshd

pytestmark = pytest.mark.django_db(transaction=True)
HANGING = 36


@pytest.fixture(scope="module")
def hanging_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    """It lets users in, and no command of theirs ever ends."""
    with LoopbackSshd(tmp_path_factory.mktemp("hanging"), options={"ForceCommand": "exec sleep 600"}) as sshd:
        yield sshd


@pytest.fixture
def hanging(hanging_host: LoopbackSshd) -> list[Node]:
    """Nodes on a host that hangs, each with a connection of its own."""
    uri = f"qemu+ssh://{ME}@{hanging_host.address}:{hanging_host.port}/system"
    made = []
    for number in range(HANGING):
        node = make_node(f"hangs-{number:02d}", uri=uri)
        access.pin(node, hanging_host.host_key())
        node.save()
        make_credential(node, "ssh_key", private_key=hanging_host.user_key.read_text())
        made.append(node)
    return made


@pytest.fixture
def healthy() -> list[Node]:
    return [make_node(f"well-{number}", uri="test:///default") for number in range(4)]


@pytest.fixture
def runner(tmp_path: Path, hanging_host: LoopbackSshd, settings: Any) -> Iterator[EmbeddedRunner]:
    settings.NODEADMIN_SWEEP_S = 0.1
    one = EmbeddedRunner(tmp_path)
    yield one
    Operation.objects.filter(status=OperationStatus.QUEUED).update(status=OperationStatus.CANCELLED)
    hanging_host.drop_connections()
    one.stop()
    access.close_pool()


def refresh_all(nodes: list[Node], actor: Actor = SYSTEM) -> list[Operation]:
    return [submit("refresh-node", actor=actor, node=node) for node in nodes]


def count(operations: list[Operation], status: str) -> int:
    return Operation.objects.filter(pk__in=[row.pk for row in operations], status=status).count()


def test_beside_36_hosts_that_hang_an_add_node_begins_at_once(runner, hanging, healthy):
    asked = refresh_all(hanging)
    runner.start()
    assert comes_true(lambda: count(asked, OperationStatus.RUNNING) == 8, 30)
    user = make_user("ada", is_superuser=True)
    params = {"uri": "test:///default", "type": "compute", "labels": {}}
    added = submit("add-node", actor=Actor(user), node_name="new", params=params)
    refreshed = refresh_all(healthy[:1], Actor(user))
    assert comes_true(lambda: count([added, *refreshed], OperationStatus.SUCCEEDED) == 2, 30)
    assert count(asked, OperationStatus.RUNNING) == 8
    assert count(asked, OperationStatus.QUEUED) == HANGING - 8


@pytest.mark.parametrize("person", [False, True])
def test_hosts_that_failed_before_hold_half_the_threads_and_the_others_go_on(
    runner, hanging, healthy, person
):
    Node.objects.filter(name__startswith="hangs").update(inventory_failures=1)
    actor = Actor(make_user("ada", is_superuser=True)) if person else SYSTEM
    asked = refresh_all(hanging, actor)
    well = refresh_all(healthy, actor)
    runner.start()
    assert comes_true(lambda: count(well, OperationStatus.SUCCEEDED) == len(well), 30)
    assert count(asked, OperationStatus.RUNNING) == (2 if person else 4)


def test_a_message_for_a_failing_host_finds_no_thread_where_their_share_is_taken(runner, hanging, healthy):
    """As the tasks of a Celery worker call it, each in a thread of its own."""
    Node.objects.filter(name__startswith="hangs").update(inventory_failures=3)
    asked, well = refresh_all(hanging[:5]), refresh_all(healthy[:1])
    for row in asked[:4]:
        threading.Thread(target=runner.work_on, args=(row.pk,), daemon=True).start()
    assert comes_true(lambda: count(asked, OperationStatus.RUNNING) == 4, 30)
    assert runner.work_on(asked[4].pk) is False
    assert runner.work_on(well[0].pk) is True
    assert count(well, OperationStatus.SUCCEEDED) == 1


def test_failures_on_end_are_counted_and_a_good_inventory_ends_the_count(settings):
    settings.NODEADMIN_HOST_TIMEOUT_S = 1.0
    node = make_node(uri=f"qemu+ssh://{ME}@127.0.0.1:1/system")
    for _ in range(2):
        refresh_all([node])
        run_queued()
    node.refresh_from_db()
    assert node.inventory_failures == 2
    Node.objects.filter(pk=node.pk).update(uri="test:///default")
    refresh_all([node])
    run_queued()
    node.refresh_from_db()
    assert node.inventory_failures == 0


def test_a_host_whose_libvirt_goes_on_hanging_is_counted_on_though_the_rest_of_its_inventory_is_stored(
    monkeypatch,
):
    monkeypatch.setattr(Taken, "libvirt_is_mute", True)
    monkeypatch.setattr(refresh_node, "libvirt_answers", lambda _connection: False)
    node = make_node(uri="test:///default")
    for _ in range(3):
        refresh_all([node])
        run_queued()
    node.refresh_from_db()
    assert (node.inventory_failures, node.observed_at is not None) == (3, True)


def test_a_person_who_asks_for_a_queued_refresh_takes_it_out_of_the_automatic_queue():
    node = make_node(uri="test:///default")
    (queued,) = refresh_all([node])
    assert waiting_of([queued])[queued.pk].queue is Queue.AUTOMATIC
    again = submit("refresh-node", actor=Actor(make_user("ada")), node=node)
    assert again.pk == queued.pk
    again.refresh_from_db()
    assert waiting_of([again])[again.pk].queue is Queue.REFRESH


def test_what_waits_is_told_how_many_of_its_queue_are_ahead():
    def queued(kind: str, automatic: bool = False, status: str = OperationStatus.QUEUED) -> Operation:
        return make_operation(kind=kind, status=status, automatic=automatic, subject=f"test:{uuid.uuid4()}")

    running = queued("refresh-node", status=OperationStatus.RUNNING)
    queued("refresh-node", automatic=True)
    first, second = queued("refresh-node"), queued("refresh-node")
    alone, power = queued("add-node"), queued("reboot-node")
    found = waiting_of([running, first, second, alone, power])
    assert found == {
        first.pk: Waiting(Queue.REFRESH, 0, 1),
        second.pk: Waiting(Queue.REFRESH, 1, 1),
        alone.pk: Waiting(Queue.PROMPT, 0, 0),
        power.pk: Waiting(Queue.PATIENT, 0, 0),
    }


def test_nothing_is_asked_where_nothing_waits(django_assert_num_queries):
    rows = [make_operation(status=OperationStatus.SUCCEEDED)]
    with django_assert_num_queries(0):
        assert waiting_of(rows) == {}


@pytest.fixture
def single_thread(settings: Any) -> None:
    settings.NODEADMIN_ENGINE_AUTOMATIC_THREADS = 1


def test_with_a_single_thread_a_failing_host_that_came_later_is_not_first(single_thread, runner, healthy):
    Node.objects.filter(pk__in=[node.pk for node in healthy[1:]]).update(inventory_failures=3)
    asked = refresh_all(healthy)
    runner.start()
    assert comes_true(lambda: count(asked, OperationStatus.SUCCEEDED) == len(asked), 30)
    in_turn = Operation.objects.order_by("started_at").values_list("pk", flat=True)
    assert list(in_turn) == [row.pk for row in asked]
