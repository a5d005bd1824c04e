"""Updates of a database that has rows: what was stored before is kept in its new form."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

BEFORE, AFTER = [("nodes", "0006_unattended")], [("nodes", "0007_node_types")]


@pytest.mark.django_db(transaction=True)
def test_another_type_becomes_a_label_of_a_hybrid_node_and_the_three_stay():
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes("nodes")
    old = executor.migrate(BEFORE).apps
    try:
        nodes = old.get_model("nodes", "Node")
        for name, kind, labels in (
            ("a", "compute", {"rack": "a1"}),
            ("b", "storage", {}),
            ("c", "hybrid", {}),
            ("d", "gpu", {"rack": "a1"}),
            ("e", "edge", {"type": "blade"}),
        ):
            nodes.objects.create(name=name, uuid=uuid.uuid4(), node_type=kind, labels=labels)
        operations = old.get_model("nodes", "Operation")
        for status in ("queued", "failed"):
            params = {"uri": "test:///default", "type": "gpu", "labels": {"zone": "n"}}
            operations.objects.create(kind="add-node", node_name=status, status=status, params=params)
        executor.loader.build_graph()
        new = executor.migrate(AFTER).apps
        found = new.get_model("nodes", "Node").objects.order_by("name")
        assert list(found.values_list("name", "node_type", "labels")) == [
            ("a", "compute", {"rack": "a1"}),
            ("b", "storage", {}),
            ("c", "hybrid", {}),
            ("d", "hybrid", {"rack": "a1", "type": "gpu"}),
            ("e", "hybrid", {"type": "blade", "type-2": "edge"}),
        ]
        joining = new.get_model("nodes", "Operation").objects
        assert joining.get(node_name="queued").params == {
            "uri": "test:///default",
            "type": "hybrid",
            "labels": {"zone": "n", "type": "gpu"},
        }
        assert joining.get(node_name="failed").params["type"] == "gpu"
        executor.loader.build_graph()
        executor.migrate(BEFORE)
    finally:
        executor.loader.build_graph()
        executor.migrate(latest)


@pytest.mark.django_db(transaction=True)
def test_the_group_of_administrators_that_is_there_may_declare_storage_after_the_update():
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes("nodes")
    old = executor.migrate(AFTER).apps
    try:
        groups = old.get_model("auth", "Group").objects
        groups.create(name="administrators")
        groups.create(name="operators")
    finally:
        executor.loader.build_graph()
        executor.migrate(latest)
    call_command("migrate", verbosity=0)
    found = Permission.objects.filter(content_type__model="declaredsharedstorage")
    assert found.count() == 4
    assert found.filter(group__name="administrators").count() == 4
    assert not found.filter(group__name="operators").exists()
