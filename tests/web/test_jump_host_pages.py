"""The pages of jump hosts and of nodeadmin's own key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.urls import reverse

from nodes import access
from nodes.events import SYSTEM
from nodes.models import Credential, JumpHost, Operation, OwnKeyPair
from nodes.models.sealed import SecretFor
from nodes.operations.own_keys import make_next
from tests.api.test_jump_hosts import make_jump_host
from tests.factories import make_node
from tests.sshd import ME, LoopbackSshd

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path_factory.mktemp("bastion"), key_types=("ed25519",)) as server:
        yield server


def form(server: LoopbackSshd, **changes: str) -> dict[str, str]:
    return {
        "new": "1",
        "name": "bastion",
        "host": "127.0.0.1",
        "port": str(server.port),
        "through": "",
        "fingerprint": f"ssh-ed25519 {server.host_key().fingerprint}",
        "kind": "ssh_key",
        "user": ME,
        "private_key": server.user_key.read_text(),
    } | changes


def test_a_jump_host_is_scanned_added_changed_and_removed(admin_page, bastion):
    scanned = admin_page.post(reverse("jump-host-scan"), form(bastion)).content.decode()
    assert bastion.host_key().fingerprint in scanned
    answer = admin_page.post(reverse("jump-host-add"), form(bastion))
    assert answer["HX-Redirect"] == reverse("jump-hosts"), answer.content.decode()
    shown = admin_page.get(reverse("jump-hosts")).content.decode()
    assert f"{ME}@127.0.0.1:{bastion.port}" in shown
    row = JumpHost.objects.get()
    page = admin_page.get(reverse("jump-host", args=[row.pk])).content.decode()
    assert bastion.host_key().fingerprint in page and "PRIVATE KEY-----\n" not in page
    kept = {"new": "", "name": "renamed", "fingerprint": "", "kind": "", "user": "", "private_key": ""}
    answer = admin_page.post(reverse("jump-host", args=[row.pk]), form(bastion, **kept))
    assert answer.status_code == 204, answer.content.decode()
    row.refresh_from_db()
    assert (row.name, row.user) == ("renamed", ME)
    make_node("kvm-01", jump_host=row)
    admin_page.post(reverse("jump-host-remove", args=[row.pk]))
    assert JumpHost.objects.count() == 1, "it is in use"
    row.nodes.all().delete()
    admin_page.post(reverse("jump-host-remove", args=[row.pk]))
    assert not JumpHost.objects.exists()


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": ""}, "name"),
        ({"name": "Bad Name"}, "name"),
        ({"host": "a b"}, "host"),
        ({"port": "99999"}, "port"),
        ({"fingerprint": ""}, "fingerprint"),
        ({"through": "nowhere"}, "through"),
        ({"kind": ""}, "kind"),
    ],
)
def test_what_does_not_fit_is_said_at_its_place(admin_page, bastion, changes, place):
    answer = admin_page.post(reverse("jump-host-add"), form(bastion, **changes))
    assert answer.status_code == 422
    text = answer.content.decode()
    slot = text.split(f'id="error-{place}"')[1].split('id="error-')[0]
    assert "field-error" in slot, text
    assert not JumpHost.objects.exists()


def test_pages_are_for_who_may_manage_ssh(operator_page):
    row = make_jump_host()
    for name, args in (
        ("jump-hosts", []),
        ("jump-host-add", []),
        ("jump-host", [row.pk]),
        ("own-key", []),
    ):
        assert operator_page.get(reverse(name, args=args)).status_code == 403, name
    for name, args in (
        ("jump-host-add", []),
        ("jump-host-scan", []),
        ("jump-host", [row.pk]),
        ("jump-host-remove", [row.pk]),
        ("own-key-rotate", []),
        ("own-key-retire", []),
    ):
        assert operator_page.post(reverse(name, args=args)).status_code == 403, name
    assert JumpHost.objects.exists() and not Operation.objects.exists()
    assert "own-key/" not in operator_page.get(reverse("settings")).content.decode()


def test_the_wizards_offer_the_jump_hosts(admin_page):
    row = make_jump_host()
    node = make_node("kvm-01", uri="qemu+ssh://root@192.0.2.9/system", jump_host=row)
    assert '<option value="bastion">' in admin_page.get(reverse("node-add")).content.decode()
    shown = admin_page.get(reverse("node-connection", args=[node.name])).content.decode()
    assert '<option value="bastion" selected>' in shown
    assert "bastion" in admin_page.get(reverse("node-settings", args=[node.name])).content.decode()


def test_the_key_is_replaced_after_a_page_that_names_the_hosts(admin_page):
    pair = access.own_key_pair()
    Credential.objects.create(node=make_node("kvm-01"), kind="nodeadmin_key", own_key=pair)
    page = admin_page.get(reverse("own-key")).content.decode()
    assert pair.fingerprint in page and "kvm-01" in page
    asked = admin_page.post(reverse("own-key-rotate"))
    assert "kvm-01" in asked.content.decode() and not Operation.objects.exists()
    answer = admin_page.post(reverse("own-key-rotate"), {"confirm_token": asked.context["token"]})
    operation = Operation.objects.get()
    assert answer["Location"] == reverse("operation-detail", args=[operation.pk])
    assert "Being replaced" in admin_page.get(reverse("own-key")).content.decode()
    Operation.objects.update(status="failed")
    shown = admin_page.get(reverse("operation-detail", args=[operation.pk])).content.decode()
    assert "kvm-01" in shown
    assert reverse("operation-retry", args=[operation.pk]) not in shown, "its own page goes on with it"


def test_the_old_key_is_retired_after_a_page_that_says_who_is_left_out(admin_page):
    pair = access.own_key_pair()
    Credential.objects.create(node=make_node("kvm-01"), kind="nodeadmin_key", own_key=pair)
    make_next(SYSTEM, None)
    page = admin_page.get(reverse("own-key") + "?lacking=1").content.decode()
    assert "1 host lacks the new key." in page and "kvm-01" in page
    asked = admin_page.post(reverse("own-key-retire"), {"force": "on"})
    assert "kvm-01" in asked.content.decode()
    admin_page.post(reverse("own-key-retire"), {"force": "on", "confirm_token": asked.context["token"]})
    assert OwnKeyPair.objects.count() == 1


def test_lists_take_as_many_queries_however_long_they_are(admin_page, django_assert_max_num_queries):
    pair = access.own_key_pair()
    for number in range(6):
        make_jump_host(f"jump-{number}", own_key=pair)
        node = make_node(f"kvm-{number}")
        Credential.objects.create(node=node, kind="nodeadmin_key", own_key=pair)
    admin_page.get(reverse("jump-hosts"))
    with django_assert_max_num_queries(12):
        admin_page.get(reverse("jump-hosts"))
    with django_assert_max_num_queries(22):
        admin_page.get(reverse("own-key"))


def test_the_django_admin_shows_them_and_changes_nothing(administrator, client):
    administrator.is_staff = True
    administrator.save()
    client.force_login(administrator)
    row = make_jump_host(credential_kind="password")
    row.secret = SecretFor(access.binding_of_jump_host(row), {"password": "hunter2hunter2"})
    row.save()
    access.own_key_pair()
    for url in (
        "/admin/nodes/jumphost/",
        f"/admin/nodes/jumphost/{row.pk}/change/",
        "/admin/nodes/ownkeypair/",
    ):
        answer = client.get(url)
        assert answer.status_code == 200, url
        assert b"hunter2" not in answer.content and b'name="_save"' not in answer.content
    assert client.post(f"/admin/nodes/jumphost/{row.pk}/delete/", {"post": "yes"}).status_code == 403


def test_the_dialog_that_removes_a_node_offers_to_take_the_key_off_its_host(admin_page):
    make_node("kvm-01", uri="test:///default")
    shown = admin_page.get(reverse("node-service", args=["kvm-01", "delete"])).content.decode()
    assert 'name="remove_key"' in shown
