"""Two drains at the same moment: whichever comes second is told that it would empty the last eligible node.

Run on SQLite, and by tests/scale on PostgreSQL.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from nodes.engine import service
from nodes.errors import ConfirmationRequired, LastEligibleNode
from nodes.events import Actor
from nodes.models import Node, Operation, Scheduling
from tests.factories import make_node, make_user

pytestmark = pytest.mark.django_db(transaction=True)
DRAIN = {"drain": True, "vm_overrides": {"test": "leave"}}


def test_of_two_drains_of_the_last_two_nodes_at_once_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = Actor(make_user(is_superuser=True))
    nodes = [make_node(name, uri="test:///default", connection="online") for name in ("one", "two")]
    tokens = []
    for node in nodes:
        with pytest.raises(ConfirmationRequired) as required:
            service.disable_node(actor, node, DRAIN)
        tokens.append(required.value.extra["confirm_token"])

    both = threading.Barrier(2)
    looked = service.still_possible

    def looks(*arguments: object) -> bool:
        """Both have looked before either commits, where nothing keeps them from it."""
        found = looked(*arguments)  # type: ignore[arg-type]
        try:
            both.wait(2)
        except threading.BrokenBarrierError:
            pass  # the other one waits for this one's commit
        return found

    monkeypatch.setattr(service, "still_possible", looks)

    def drain(number: int) -> str:
        try:
            service.disable_node(actor, nodes[number], DRAIN, tokens[number])
        except LastEligibleNode as error:
            return error.code
        finally:
            connection.close()
        return "accepted"

    with ThreadPoolExecutor(2) as threads:
        outcomes = sorted(threads.map(drain, range(2)))
    assert outcomes == ["accepted", "last_eligible_node"]
    assert Operation.objects.count() == 1
    assert Node.objects.filter(scheduling=Scheduling.ENABLED).count() == 1
