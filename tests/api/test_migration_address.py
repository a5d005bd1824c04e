"""A node's migration address: one that its own inventory shows, unless an administrator forces another."""

from __future__ import annotations

import pytest
from django.urls import reverse

from nodes.models import Event, Node, User
from nodes.permissions import CHANGE, VIEW
from tests.factories import grant, make_node, make_snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture
def node(db: None) -> Node:
    """Its inventory shows 192.0.2.20 and 2001:db8:2::20 on a bridge."""
    node = make_node("kvm-01")
    make_snapshot(node, "arm-server")
    return node


@pytest.fixture
def owner(operator, node):
    """May change this node, and nothing else."""
    grant(operator, node, VIEW, CHANGE)
    return operator


def set_address(call, address, **more):
    return call("update-node", {"node": "kvm-01", "migration_address": address, **more})


@pytest.mark.parametrize("address", ["192.0.2.20", "2001:db8:2::20", "[2001:DB8:2:0::20]", ""])
def test_an_address_that_the_inventory_shows_is_taken(owner, api, node, address):
    status, answer = set_address(api(owner), address)
    assert (status, answer["migration_address_forced"]) == (200, False)
    assert answer["migration_address"] == (address or None)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("192.0.2.21", "does not show 192.0.2.21"),
        ("2001:db8:2::21", "does not show"),
        ("127.0.0.1", "no address at which other hosts reach"),
        ("::1", "no address at which other hosts reach"),
        ("::ffff:127.0.0.1", "no address at which other hosts reach"),
        ("0.0.0.0", "no address at which other hosts reach"),
        ("::", "no address at which other hosts reach"),
        ("224.0.0.1", "no address at which other hosts reach"),
        ("169.254.7.7", "no address at which other hosts reach"),
        ("fe80::1", "no address at which other hosts reach"),
        ("localhost", "localhost ("),
        ("no-such-host.invalid", "does not lead to an address"),
    ],
)
def test_any_other_is_refused_with_those_that_there_are(owner, api, node, address, words):
    status, answer = set_address(api(owner), address)
    assert (status, answer["code"], answer["errors"][0]["field"]) == (
        400,
        "invalid_input",
        "migration_address",
    )
    assert words in answer["detail"]
    if "lead" not in words:
        assert "192.0.2.20" in answer["remedy"]
    node.refresh_from_db()
    assert node.migration_address == ""


def test_a_node_without_addresses_in_its_inventory_takes_none(owner, api, node):
    Node.objects.update(snapshot=None)
    status, answer = set_address(api(owner), "192.0.2.20")
    assert (status, "shows no addresses" in answer["detail"]) == (400, True)


def test_who_may_change_the_node_alone_forces_nothing(owner, api, node):
    status, answer = set_address(api(owner), "10.0.0.1", migration_address_forced=True)
    assert (status, answer["code"]) == (403, "permission_denied")
    assert not Event.objects.filter(kind="migration_address_forced").exists()


def test_an_administrator_forces_an_address_and_that_is_an_event(administrator, api, node):
    status, answer = set_address(api(administrator), "10.0.0.1", migration_address_forced=True)
    assert status == 200
    assert (answer["migration_address"], answer["migration_address_forced"]) == ("10.0.0.1", True)
    event = Event.objects.get(kind="migration_address_forced")
    assert (event.severity, event.data) == ("warning", {"migration_address": "10.0.0.1"})
    assert event.user == administrator


def test_a_forced_address_is_kept_by_other_changes_and_loses_its_mark_with_another_address(
    administrator, owner, api, node
):
    set_address(api(administrator), "10.0.0.1", migration_address_forced=True)
    status, answer = api(owner)("update-node", {"node": "kvm-01", "notes": "new fan"})
    assert (status, answer["migration_address_forced"]) == (200, True)
    status, answer = set_address(api(owner), "10.0.0.1", notes="another fan")
    assert (status, answer["migration_address_forced"]) == (200, True)
    status, answer = set_address(api(owner), "10.0.0.2")
    assert status == 400
    status, answer = set_address(api(owner), "192.0.2.20")
    assert (status, answer["migration_address_forced"]) == (200, False)


def test_a_mark_that_is_taken_back_needs_an_address_that_is_shown(administrator, api, node):
    set_address(api(administrator), "10.0.0.1", migration_address_forced=True)
    assert api(administrator)("update-node", {"node": "kvm-01", "migration_address_forced": False})[0] == 400
    status, answer = set_address(api(administrator), "")
    assert (status, answer["migration_address_forced"]) == (200, False)
    assert set_address(api(administrator), "", migration_address_forced=True)[0] == 400


def test_an_old_address_that_is_no_longer_shown_stands_in_the_way_of_no_other_change(owner, api, node):
    Node.objects.update(migration_address="10.0.0.1")
    status, answer = set_address(api(owner), "10.0.0.1", notes="new fan")
    assert (status, answer["notes"]) == (200, "new fan")


# -- pages -----------------------------------------------------------------------------------------


def form(node, **fields):
    base = {"name": node.name, "type": node.node_type, "labels": "", "notes": "", "migration_address": ""}
    return base | fields


def test_the_form_refuses_and_an_administrator_can_force_there(administrator, owner, client, node):
    url = reverse("node-settings", args=[node.name])
    client.force_login(owner)
    answer = client.post(url, form(node, migration_address="10.0.0.1", migration_address_forced="on"))
    assert answer.status_code == 422
    assert "does not show 10.0.0.1" in answer.content.decode()
    assert 'name="migration_address_forced"' not in answer.content.decode()
    client.force_login(administrator)
    assert 'name="migration_address_forced"' in client.get(url).content.decode()
    answer = client.post(url, form(node, migration_address="10.0.0.1", migration_address_forced="on"))
    assert answer.status_code == 302
    node.refresh_from_db()
    assert (node.migration_address, node.migration_address_forced) == ("10.0.0.1", True)


def test_the_django_admin_refuses_it_as_well(administrator, client, node):
    User.objects.update(is_staff=True)
    client.force_login(administrator)
    url = reverse("admin:nodes_node_change", args=[node.pk])
    fields = {
        "name": node.name,
        "node_type": node.node_type,
        "labels": "{}",
        "notes": "",
        "migration_address": "10.0.0.1",
        "credential-TOTAL_FORMS": "0",
        "credential-INITIAL_FORMS": "0",
    }
    answer = client.post(url, fields)
    assert answer.status_code == 400
    assert "does not show 10.0.0.1" in answer.content.decode()
    node.refresh_from_db()
    assert node.migration_address == ""


@pytest.mark.parametrize("address", ["192.0.2.20", "169.254.169.254", "0x0a000001"])
def test_an_address_that_the_settings_deny_is_refused_even_if_forced(
    administrator, api, node, settings, address
):
    settings.NODEADMIN_DENIED_NETWORKS = ["192.0.2.0/24", "10.0.0.0/8"]
    status, answer = set_address(api(administrator), address, migration_address_forced=True)
    assert (status, answer["code"], answer["errors"][0]["field"]) == (
        422, "address_denied", "migration_address",
    )  # fmt: skip
    assert "NODEADMIN_ALLOWED_NETWORKS" in answer["remedy"]
