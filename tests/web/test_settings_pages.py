"""Tokens, a node's settings, and the page of settings."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from nodes.models import ApiToken, Credential, Event, Operation
from tests.factories import grant, make_credential, make_node, make_user
from tests.permissions.people import give
from tests.web.conftest import HTMX


def make_token(client, **data):
    return client.post(
        reverse("token-list"), {"name": "backup", "days": "30", "permissions": ["view_node"], **data}
    )


def test_a_token_is_shown_once(admin_page, administrator, client):
    answer = make_token(admin_page, read_only="on")
    text = answer.context["made"]
    assert text.startswith("na_")
    assert text in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    assert text not in admin_page.get(reverse("token-list")).content.decode()
    token = ApiToken.find(text)
    assert token.user == administrator
    assert token.read_only
    assert timedelta(days=29) < token.expires_at - timezone.now() < timedelta(days=31)
    assert text not in str(Event.objects.get(kind="token_made").__dict__)


def test_a_token_is_made_with_the_limits_that_were_chosen(admin_page):
    node = make_node("kvm-01")
    answer = make_token(
        admin_page,
        permissions=["view_node", "power_node"],
        nodes="kvm-01",
        networks="192.0.2.0/24, 2001:db8::/32",
    )
    token = ApiToken.objects.get()
    assert answer.context["made"]
    assert (token.permissions, token.read_only) == (["view_node", "power_node"], False)
    assert (token.scope, token.node_uuids) == ("nodes", [str(node.uuid)])
    assert token.networks == ["192.0.2.0/24", "2001:db8::/32"]
    page = admin_page.get(reverse("token-list")).content.decode()
    for shown in ("power_node", "kvm-01", "192.0.2.0/24"):
        assert shown in page


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"days": "100000"},
        {"days": "x"},
        {"permissions": []},
        {"permissions": ["fly_node"]},
        {"permissions": ["power_node"]},
        {"permissions": ["view_node", "power_node"], "read_only": "on"},
        {"nodes": "nowhere"},
        {"networks": "192.0.2.1/24"},
        {"labels": "A B"},
    ],
)
def test_a_token_needs_a_name_and_an_end(admin_page, wrong):
    assert make_token(admin_page, **wrong).status_code == 200
    assert not ApiToken.objects.exists()


def test_a_revoked_token_no_longer_works(admin_page):
    text = make_token(admin_page).context["made"]
    token = ApiToken.objects.get()
    assert admin_page.post(reverse("token-revoke", args=[token.pk])).status_code == 302
    assert ApiToken.find(text) is None
    assert "backup" not in admin_page.get(reverse("token-list")).context["tokens"]
    assert admin_page.post(reverse("token-revoke", args=[token.pk])).status_code == 404


def test_nobody_sees_or_revokes_another_ones_token(admin_page, stranger_page):
    make_token(admin_page)
    token = ApiToken.objects.get()
    assert "backup" not in stranger_page.get(reverse("token-list")).content.decode()
    assert stranger_page.post(reverse("token-revoke", args=[token.pk])).status_code == 404
    token.refresh_from_db()
    assert token.revoked_at is None


def test_the_own_key_is_shown_to_who_may_add_nodes(admin_page, stranger_page):
    assert "ssh-ed25519" in admin_page.get(reverse("settings")).content.decode()
    assert "ssh-ed25519" not in stranger_page.get(reverse("settings")).content.decode()


def change(client, **data):
    base = {"name": "kvm-01", "type": "compute", "labels": "", "notes": "", "migration_address": ""}
    return client.post(reverse("node-settings", args=["kvm-01"]), base | data)


def test_what_is_only_ours_to_know_is_changed_at_once(admin_page):
    node = make_node("kvm-01", labels={"rack": "a1"})
    answer = change(
        admin_page, name="kvm-09", type="hybrid", labels="rack=b2, spare", notes="Second supply replaced."
    )
    assert answer["Location"] == reverse("node-settings", args=["kvm-09"])
    node.refresh_from_db()
    assert (node.name, node.node_type) == ("kvm-09", "hybrid")
    assert node.labels == {"rack": "b2", "spare": ""}
    assert node.notes == "Second supply replaced."
    assert Event.objects.filter(kind="node_updated", node=node).exists()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"name": "Not A Name"}, "name"), ({"name": "taken"}, "name"), ({"labels": "=a1"}, "labels")],
)
def test_what_does_not_fit_stays_typed_and_changes_nothing(admin_page, read, wrong, field):
    node = make_node("kvm-01")
    make_node("taken")
    answer = change(admin_page, **wrong)
    assert answer.status_code == 422
    assert answer.context["form"].errors[field]
    assert read(answer).inputs[field] == wrong[field]
    node.refresh_from_db()
    assert (node.name, node.node_type) == ("kvm-01", "compute")
    assert 'data-name="kvm-01"' in answer.content.decode()


def test_a_type_that_is_none_of_the_three_is_refused_with_the_list(admin_page):
    node = make_node("kvm-01")
    answer = change(admin_page, type="gpu")
    assert answer.status_code == 422
    assert "compute, storage, hybrid" in str(answer.context["form"].errors["type"])
    node.refresh_from_db()
    assert node.node_type == "compute"


def test_the_settings_show_no_secret_and_who_has_which_right(admin_page):
    node = make_node("kvm-01", uri="qemu+ssh://root@192.0.2.1/system", labels={"rack": "a1"})
    make_credential(node, "password", password="s3cret")
    grant(make_user("olga"), node, "view_node", "power_node")
    give(make_user("rosa"), "view_node", "delete_node", labels={"rack": "a1"})
    give(make_user("nina"), "view_node", labels={"rack": "a2"})
    page = admin_page.get(reverse("node-settings", args=["kvm-01"])).content.decode()
    assert "Password" in page
    assert "s3cret" not in page
    assert "olga" in page
    assert "power_node" in page
    assert "rosa" in page
    assert "nina" not in page


def test_a_new_connection_is_checked_by_an_operation(admin_page):
    node = make_node(
        "kvm-01", uri="qemu+ssh://root@192.0.2.1/system", host_key_fingerprint="SHA256:" + "A" * 43
    )
    Credential.objects.create(node=node, kind="nodeadmin_key")
    address = reverse("node-connection", args=["kvm-01"])
    page = admin_page.get(address).content.decode()
    assert "SHA256:" + "A" * 43 in page
    refused = admin_page.post(address, {"uri": "qemu+ssh://root@192.0.2.9/system", "kind": ""}, headers=HTMX)
    assert refused.status_code == 422
    answer = admin_page.post(
        address,
        {
            "uri": "qemu+ssh://root@192.0.2.9/system",
            "fingerprint": "SHA256:" + "B" * 43,
            "kind": "password",
            "password": "s3",
        },
        headers=HTMX,
    )
    operation = Operation.objects.get()
    assert operation.kind == "update-node"
    assert answer["HX-Redirect"] == reverse("operation-detail", args=[operation.pk])
    node.refresh_from_db()
    assert node.uri == "qemu+ssh://root@192.0.2.1/system"


@pytest.mark.parametrize(
    ("name", "here"),
    [("settings", ["Settings"]), ("jump-hosts", ["Settings"]), ("token-list", []), ("usersessions_list", [])],
)
def test_the_navigation_shows_what_a_page_belongs_to(admin_page, name, here):
    """A page of the account belongs to none of it, whatever its address says."""
    navigation = admin_page.get(reverse(name)).context["frame"].navigation
    assert [entry.label for entry in navigation if entry.here] == here
