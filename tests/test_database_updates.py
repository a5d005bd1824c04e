"""Updates of a database that has rows: what was stored before is kept in its new form."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from nodes import access
from nodes.audit.verification import verify
from nodes.errors import CredentialNotForTarget, CredentialUnreadable
from nodes.events import record
from nodes.models import ApiToken, Credential, Event, Node, Operation, User
from nodes.models.token import digest
from tests.factories import secret_given, secret_of

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


@pytest.mark.django_db(transaction=True)
def test_all_that_was_stored_before_secrets_were_bound_and_the_audit_log_began_goes_on():
    pinned = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGvR1DBmLSHEPCZWGmDJRUXGZAvBX9BqPWKUJCXnH7iX"
    tokens = {"na_for-reading": True, "na_for-all": False}
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes("nodes")
    old = executor.migrate([("nodes", "0012_migration_address")]).apps
    try:
        ada = old.get_model("nodes", "User").objects.create(username="ada", is_active=True)
        pair = old.get_model("nodes", "OwnKeyPair").objects.create(
            id=1, public_key="ssh-ed25519 own", secret={"private_key": "own"}
        )
        for kind, secret in (("password", {"password": "of a"}), ("nodeadmin_key", None)):
            uri, name = "qemu+ssh://root@kvm/system", kind.replace("_", "-")
            node = old.get_model("nodes", "Node").objects.create(
                name=name, uuid=uuid.uuid4(), uri=uri, host_key=pinned
            )
            old.get_model("nodes", "Credential").objects.create(node=node, kind=kind, secret=secret)
        for text, read_only in tokens.items():
            old.get_model("nodes", "ApiToken").objects.create(
                user=ada,
                name=text,
                digest=digest(text),
                read_only=read_only,
                expires_at=timezone.now() + timedelta(days=1),
            )
        params = {"uri": "qemu+ssh://root@c:2222/system", "fingerprint": "SHA256:" + "A" * 43}
        old.get_model("nodes", "Operation").objects.create(
            kind="add-node", requested_by=ada, node_name="c", params=params, secret={"password": "of c"}
        )
        events = old.get_model("nodes", "Event").objects
        for kind, user, by in (
            ("node_added", ada, "ada"),
            ("node_added", None, "gone"),
            ("signed_in", None, ""),
        ):
            events.create(kind=kind, node_name="a", user=user, user_name=by, message="long ago")
        events.create(kind="node_online", node=node, node_name=node.name, message="long ago")
    finally:
        executor.loader.build_graph()
        executor.migrate(latest)

    assert secret_of(Node.objects.get(name="password")) == {"password": "of a"}
    assert secret_given(Operation.objects.get(node_name="c")) == {"password": "of c"}
    assert Credential.objects.get(node__name="nodeadmin-key").own_key_id == pair.pk
    found = {text: ApiToken.find(text) for text in tokens}
    assert {text: token and token.user.username for text, token in found.items()} == dict.fromkeys(
        tokens, "ada"
    )
    assert [token.name for token in found.values() if token and "power_node" in token.permissions] == [
        "na_for-all"
    ]
    assert not ApiToken.objects.filter(with_factor=True).exists()
    assert list(Event.objects.entries().order_by("pk").values_list("kind", "user__username", "number")) == [
        ("node_added", "ada", None),
        ("node_added", None, None),
        ("signed_in", None, None),
    ]
    assert verify().is_clean
    User.objects.get(username="ada").groups.create(name="auditors")
    record("node_updated", "The first entry.", category="audit")
    assert Event.objects.get(number=1).data["older_entries"] == 3
    assert verify().is_clean
