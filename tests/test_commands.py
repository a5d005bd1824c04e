"""Commands that work on what is stored: parse again, rotate keys, show inventories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.utils import timezone

from nodes.inventory.document import SourceOutput, SourceStatus
from nodes.models import Credential, Device, Event, Node, RoleAssignment, SnapshotSection, User
from tests.factories import make_credential, make_node, make_snapshot, secret_of
from tests.inventory.documents import HOSTS, host_document

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).parent.parent
OTHER_KEY = "b3RoZXIta2V5LW90aGVyLWtleS1vdGhlci1rZXktMTI="


def test_parsing_again_keeps_rates_and_rewrites_the_index_of_devices():
    node = make_node()
    make_snapshot(node, "development", observed_at=timezone.now() - timedelta(seconds=30))
    make_snapshot(node, "development")
    net = SnapshotSection.objects.get(snapshot=node.snapshot, slug="net").facts
    assert net["rates"]
    Device.objects.all().delete()
    call_command("reparse", stdout=StringIO())
    assert SnapshotSection.objects.get(snapshot=node.snapshot, slug="net").facts == net
    assert Device.objects.filter(node=node).exists()


def test_parsing_again_touches_nothing_of_the_node_but_its_figures(monkeypatch):
    from nodes.operations import snapshots

    node = make_node()
    make_snapshot(node, "two-socket")
    written = snapshots.write_sections

    def while_somebody_renames_it(*arguments):
        written(*arguments)
        Node.objects.filter(pk=node.pk).update(name="renamed", connection="offline")

    monkeypatch.setattr(snapshots, "write_sections", while_somebody_renames_it)
    call_command("reparse", stdout=StringIO())
    node.refresh_from_db()
    assert (node.name, node.connection) == ("renamed", "offline")


def test_a_damaged_document_is_named_and_its_sections_stay():
    node = make_node()
    snapshot = make_snapshot(node, "two-socket")
    before = snapshot.sections.count()
    snapshot.document = b"garbage"
    snapshot.save()
    said = StringIO()
    with pytest.raises(CommandError, match="1 documents"):
        call_command("reparse", stderr=said)
    assert node.name in said.getvalue()
    assert snapshot.sections.count() == before


def test_keys_that_do_not_open_what_is_stored_are_refused_with_a_word_and_change_nothing(settings):
    make_credential(make_node(), "password", password="p")
    sealed = Credential.objects.get().secret
    good, settings.NODEADMIN_SEAL_KEYS = settings.NODEADMIN_SEAL_KEYS, OTHER_KEY
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("rotate_keys")
    settings.NODEADMIN_SEAL_KEYS = good
    assert sealed == Credential.objects.get().secret
    assert secret_of(Node.objects.get()) == {"password": "p"}


def test_what_a_host_calls_itself_moves_no_cursor_of_the_terminal():
    node = make_node("kvm-01")
    name = SourceOutput("system", SourceStatus.OK, "/proc/sys/kernel/hostname:a\x1b[2Jb\n")
    make_snapshot(node, host_document("lab-plain").with_sources({"system": name}))
    said = StringIO()
    call_command("inventory", "kvm-01", stdout=said)
    assert "hostname: a\\x1b[2Jb" in said.getvalue()
    assert "\x1b" not in said.getvalue()


def test_a_reader_that_has_enough_ends_a_command_without_a_traceback(tmp_path):
    document = HOSTS / "large" / "document.json"
    command = [sys.executable, "manage.py", "inventory", "--from", str(document)]
    environment = os.environ | {"NODEADMIN_DATA_DIR": str(tmp_path), "PYTHONPATH": "."}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_smart_prints_one_line_a_file_and_names_those_that_cannot_be_read(tmp_path):
    tree = {
        "model_name": "\x1b[31mDisk\x07 9",
        "device": {"protocol": "NVMe"},
        "smart_status": {"passed": True},
        "nvme_smart_health_information_log": {
            "temperature": 41,
            "power_on_hours": 1234,
            "percentage_used": 7,
        },
    }
    (tmp_path / "nvme.json").write_text(json.dumps(tree))
    (tmp_path / "noise").write_bytes(b"\xff\x00 no output of smartctl's")
    out = StringIO()
    with pytest.raises(CommandError, match=r"gone: No such file"):
        call_command("smart", *(str(tmp_path / name) for name in ("nvme.json", "noise", "gone")), stdout=out)
    known, unknown = (" ".join(line.split()) for line in out.getvalue().splitlines())
    # No control character reaches the terminal.
    assert known == "nvme.json healthy 41 °C 1234 h wear 7 % life 93 % \\x1b[31mDisk\\x07 9 passed"
    assert unknown == "noise unknown - °C - h wear - % life - % - unreadable"


@pytest.mark.django_db
def test_roles_are_given_and_taken_on_the_command_line_and_recorded():
    User.objects.create_user("olga")
    said = StringIO()
    call_command("roles", "make", "night", "view_node", "power_node", stdout=said)
    labels = ("--label", "rack=a1", "--label", "spare=")
    call_command("roles", "assign", "night", "--user", "olga", *labels, stdout=said)
    assignment = RoleAssignment.objects.get()
    assert assignment.selector == {"rack": "a1", "spare": ""}
    call_command("roles", "list", stdout=said)
    assert f"#{assignment.pk} night → user olga for rack=a1,spare=" in said.getvalue()
    call_command("roles", "revoke", str(assignment.pk), stdout=said)
    call_command("roles", "remove", "night", stdout=said)
    assert not RoleAssignment.objects.exists()
    rows = Event.objects.filter(via="command").order_by("pk").values_list("kind", "via")
    kinds = ("role_made", "role_assigned", "role_revoked", "role_removed")
    assert list(rows) == [(kind, "command") for kind in kinds]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments",
    [
        ("make", "own", "fly"),
        ("assign", "viewer", "--user", "nobody"),
        ("assign", "viewer", "--group", "g", "--until", "soon"),
        ("assign", "viewer", "--group", "g", "--until", "2001-01-01T00:00Z"),
        ("assign", "viewer", "--group", "g", "--label", "A B=x"),
        ("revoke", "7"),
        ("remove", "viewer"),
    ],
)
def test_a_wrong_word_about_roles_is_told_in_a_sentence(arguments, groups):
    Group.objects.create(name="g")
    with pytest.raises(CommandError, match=r"\.$"):
        call_command("roles", *arguments)
