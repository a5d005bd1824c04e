"""Updates of a database that has rows: what was stored before is kept in its new form."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from nodes import access
from nodes.errors import CredentialNotForTarget, CredentialUnreadable
from nodes.models import Credential, Node, Operation

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


@pytest.mark.django_db(transaction=True)
def test_stored_secrets_are_bound_to_the_address_and_host_key_that_their_node_has(settings):
    pinned = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGvR1DBmLSHEPCZWGmDJRUXGZAvBX9BqPWKUJCXnH7iX"
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes("nodes")
    before = [("nodes", "0013_callers")]
    old = executor.migrate(before).apps
    try:
        rows = {
            name: old.get_model("nodes", "Node").objects.create(
                name=name, uuid=uuid.uuid4(), uri=f"qemu+ssh://root@{name}/system", host_key=pinned
            )
            for name in ("a", "b")
        }
        credentials = old.get_model("nodes", "Credential").objects
        kept = credentials.create(node=rows["a"], kind="password", secret={"password": "of a"})
        bmcs = old.get_model("nodes", "Bmc").objects
        bmcs.create(node=rows["a"], url="https://bmc-a", user="admin", secret={"password": "of its BMC"})
        params = {"uri": "qemu+ssh://root@c:2222/system", "fingerprint": "SHA256:" + "A" * 43}
        operation = old.get_model("nodes", "Operation").objects.create(
            kind="add-node", node_name="c", status="queued", params=params, secret={"password": "of c"}
        )
        good, settings.NODEADMIN_SEAL_KEYS = settings.NODEADMIN_SEAL_KEYS, Fernet.generate_key().decode()
        lost = credentials.create(node=rows["b"], kind="password", secret={"password": "of b"})
        settings.NODEADMIN_SEAL_KEYS = good
        executor.loader.build_graph()
        executor.migrate([("nodes", "0014_bound_secrets")])
        node = Node.objects.only("pk", "uri", "host_key").get(name="a")
        binding = access.binding_of_node(node)
        secret = Credential.objects.values_list("secret", flat=True)
        assert secret.get(pk=kept.pk).open_for(binding) == {"password": "of a"}
        elsewhere = replace(binding, host="elsewhere")
        with pytest.raises(CredentialNotForTarget):
            secret.get(pk=kept.pk).open_for(elsewhere)
        with pytest.raises(CredentialUnreadable):
            secret.get(pk=lost.pk).open_for(replace(binding, host="b"))
        assert access.bmc_target(node).password == "of its BMC"
        given = Operation.objects.values_list("secret", flat=True).get(pk=operation.pk)
        asked = access.binding_of(access.read_uri(params["uri"]), params["fingerprint"])
        assert given.open_for(asked) == {"password": "of c"}
        executor.loader.build_graph()
        again = executor.migrate(before).apps.get_model("nodes", "Credential").objects
        assert again.get(pk=kept.pk).secret.open() == {"password": "of a"}
    finally:
        executor.loader.build_graph()
        executor.migrate(latest)
