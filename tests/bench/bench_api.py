"""The API on a database of 100 and of 10,000 nodes, against itself and against a trivial view.

The trivial view authenticates by token and answers a constant, so what is measured is what an endpoint adds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

os.environ["DJANGO_SETTINGS_MODULE"] = "nodeadmin.settings.test"
# Both subjects pass the throttle; only its ceiling is out of the way.
os.environ["NODEADMIN_API_RATE"] = "1000000/min"

import django

django.setup()

from django.core.management import call_command  # noqa: E402 - settings come first
from django.db import connection, connections  # noqa: E402
from django.test import Client, override_settings  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from nodes.inventory.build import build  # noqa: E402
from nodes.inventory.document import HostDocument  # noqa: E402
from nodes.inventory.registry import SECTIONS  # noqa: E402
from nodes.models import ApiToken, Node, Snapshot, User  # noqa: E402
from nodes.operations.figures import copy_figures  # noqa: E402
from nodes.operations.snapshots import write_sections  # noqa: E402
from tests.bench.figures import Report, alternate, ms, ratio  # noqa: E402

LIST_RATIO, DESCRIBE_RATIO, MAX_QUERIES = 1.3, 2.0, 5
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "hosts"


class Trivial(APIView):
    """Authenticates as every endpoint does, and answers a constant."""

    def post(self, request: object) -> Response:
        return Response({"ok": True})


def _urlpatterns() -> list[object]:
    from nodeadmin.urls import urlpatterns as real

    return [path("bench/trivial", Trivial.as_view()), *real]


urlpatterns = _urlpatterns()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    report = Report()
    with override_settings(ROOT_URLCONF=__name__):
        lists(report, options.rounds)
        describes(report, options.rounds)
    report.finish()


@contextmanager
def database(count: int) -> Iterator[Callable[..., object]]:
    """A fresh file with ``count`` nodes; gives a call of an endpoint as an administrator."""
    with tempfile.TemporaryDirectory() as folder:
        connections["default"].close()
        connections["default"].settings_dict["NAME"] = str(Path(folder) / "bench.sqlite3")
        call_command("migrate", verbosity=0)
        now = timezone.now()
        Node.objects.bulk_create(
            (
                Node(
                    name=f"kvm-{number:05}", uri=f"qemu+ssh://root@kvm-{number:05}/system",
                    connection="online", cpu_threads=64, memory_total_bytes=1 << 39,
                    memory_used_bytes=number << 20, vm_count=20, vm_running_count=12, pool_count=2,
                    observed_at=now, last_seen_at=now, labels={"rack": f"r{number % 40}"},
                    identity=uuid.uuid4().hex,
                )
                for number in range(count)
            ),
            batch_size=500,
        )  # fmt: skip
        user = User.objects.create_superuser("bench", password=None)
        _row, token = ApiToken.make(user, "bench", now + timedelta(hours=1), read_only=False)
        client = Client(headers={"Authorization": f"Bearer {token}"}, SERVER_NAME="localhost")

        def call(url: str, body: object) -> object:
            response = client.post(url, json.dumps(body), content_type="application/json")
            assert response.status_code == 200, response.content[:500]
            return response.json()

        yield call
        connections["default"].close()


def lists(report: Report, rounds: int) -> None:
    """A page of fifty, at a hundred nodes and at ten thousand."""
    medians, queries = {}, {}
    body = {"page_size": 50, "order_by": "name"}
    for count in (100, 10_000):
        with database(count) as call:
            with CaptureQueriesContext(connection) as captured:
                page = call("/api/list-nodes", body)
            assert page["count"] == count
            queries[count] = len(captured)
            medians[count] = alternate({"list": partial(call, "/api/list-nodes", body)}, rounds, 5)["list"]
    behind = f"10,000: {ms(medians[10_000])}; 100: {ms(medians[100])}"
    report.figure("list_nodes_10000_to_100", ratio(medians[10_000], medians[100]), LIST_RATIO, behind)
    report.figure("list_nodes_queries", max(queries.values()), MAX_QUERIES, f"by count: {queries}")
    if len(set(queries.values())) != 1:
        report.failed("list_nodes_same_queries", str(queries))


def describes(report: Report, rounds: int) -> None:
    """Every describe endpoint on a recorded host."""
    name = "lab-rich" if (FIXTURES / "lab-rich" / "document.json").exists() else "development"
    document = HostDocument.from_json((FIXTURES / name / "document.json").read_text())
    with database(100) as call:
        node = Node.objects.get(name="kvm-00050")
        inventory = build(document)
        node.snapshot = Snapshot.objects.create(
            node=node, observed_at=timezone.now(), document=document.to_bytes()
        )
        write_sections(node.snapshot, inventory)
        copy_figures(node, inventory, timezone.now())
        node.save()
        subjects: dict[str, Callable[[], object]] = {"trivial": lambda: call("/bench/trivial", {})}
        names = ["describe-node", *(f"describe-node-{section.slug}" for section in SECTIONS)]
        for endpoint in names:
            subjects[endpoint] = partial(call, f"/api/{endpoint}", {"node": node.name})
        times = alternate(subjects, rounds, 5)
    for endpoint in names:
        behind = f"{ms(times[endpoint])}; trivial: {ms(times['trivial'])}; host {name}"
        report.figure(
            endpoint.replace("-", "_"), ratio(times[endpoint], times["trivial"]), DESCRIBE_RATIO, behind
        )


if __name__ == "__main__":
    main()
