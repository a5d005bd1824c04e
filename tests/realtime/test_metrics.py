"""/metrics: who may read it, and that it says what is so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from nodes.models import ApiToken, Connection, Heartbeat, MonitorProcess, Scheduling, User
from nodes.monitor.claims import Membership
from nodes.operations.connection_state import is_watched
from nodes.web.views.dashboard import cut_off_since
from tests.factories import make_node, make_operation

pytestmark = pytest.mark.django_db


def read(client: Client, token: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    response = client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200
    families = text_string_to_metric_families(response.content.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def token_of(user: User) -> str:
    return ApiToken.make(user, "metrics", timezone.now() + timedelta(days=1), read_only=True)[1]


def test_without_a_token_that_counts_it_is_401(client: Client, operator: User, settings: Any) -> None:
    settings.NODEADMIN_METRICS_TOKEN = "right"
    client.force_login(User.objects.create_superuser("root", password="correct horse battery"))
    for token in ("", "wrong", token_of(operator)):
        response = client.get("/metrics", headers={"Authorization": f"Bearer {token}"} if token else {})
        assert (response.status_code, response.content) == (401, b"")


def test_an_empty_setting_lets_nobody_in(client: Client, settings: Any) -> None:
    settings.NODEADMIN_METRICS_TOKEN = ""
    assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401


def test_nodes_operations_and_monitors_are_counted(
    client: Client, administrator: User, settings: Any
) -> None:
    settings.NODEADMIN_METRICS_TOKEN = "right"
    now = timezone.now()
    process = MonitorProcess.objects.create(name="a:1", lease_expires_at=now + timedelta(seconds=9))
    good = make_node("good", cpu_used_percent=12.5)
    bad = make_node("bad", connection=Connection.OFFLINE, connection_reason="unreachable")
    Heartbeat.objects.create(node=good, owner=process, beats=7, seen_at=now - timedelta(seconds=3))
    make_operation(bad, status="queued")
    for token in ("right", token_of(administrator)):
        found = read(client, token)
        assert found["nodeadmin_node_online", (("node", "bad"), ("reason", "unreachable"))] == 0
        assert found["nodeadmin_node_cpu_used_percent", (("node", "good"),)] == 12.5
        assert 3 <= found["nodeadmin_node_beat_age_seconds", (("node", "good"),)] < 60
        assert found["nodeadmin_node_beats_total", (("node", "good"),)] == 7
        assert found["nodeadmin_monitor_nodes", (("monitor", "a:1"),)] == 1
        assert found["nodeadmin_node_maintenance", (("node", "good"),)] == 0
        assert found["nodeadmin_open_sockets", (("kind", "logs"),)] == 0
        state = (("connection", "offline"), ("reason", "unreachable"), ("status", "offline"))
        assert found["nodeadmin_nodes", state] == 1
        queued = (("kind", "refresh-node"), ("status", "queued"))
        assert found["nodeadmin_operations_unfinished", queued] == 1


def test_a_clock_of_ours_that_is_wrong_ends_no_monitor(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.NODEADMIN_METRICS_TOKEN = "right"
    own = Membership(lease_s=60.0)
    own.join()
    node = make_node("good", scheduling=Scheduling.MAINTENANCE)
    own.balance()
    MonitorProcess.objects.filter(pk=own.id).update(cut_off_since=timezone.now())
    later = timezone.now() + timedelta(hours=1)
    monkeypatch.setattr(timezone, "now", lambda: later)
    name = MonitorProcess.objects.get().name
    found = read(client, "right")
    assert found["nodeadmin_monitor_nodes", (("monitor", name),)] == 1
    assert found["nodeadmin_node_maintenance", (("node", "good"),)] == 1
    assert is_watched(node)
    assert cut_off_since() is not None


def test_a_larger_fleet_takes_no_more_queries(client: Client, settings: Any) -> None:
    settings.NODEADMIN_METRICS_TOKEN = "right"
    counts = []
    for _ in range(2):
        for _ in range(10):
            make_node()
        with CaptureQueriesContext(connection) as queries:
            read(client, "right")
        counts.append(len(queries))
    assert counts == [7, 7]
