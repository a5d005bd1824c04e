"""Several nodes at once from the list: what each of them says, and what it costs."""

from __future__ import annotations

import uuid

import pytest
from django.urls import reverse

from nodes.models import Event, Node, Operation
from tests.factories import grant, make_node, make_operation
from tests.web.conftest import HTMX

pytestmark = pytest.mark.django_db


def send(client, action, *nodes, **fields):
    data = {"node": [str(getattr(node, "uuid", node)) for node in nodes]} | fields
    return client.post(reverse("node-bulk", args=[action]), data, headers=HTMX)


def outcomes(response):
    return {outcome.name: (outcome.refused, outcome.words) for outcome in response.context["outcomes"]}


def test_maintenance_asks_for_a_reason_first_and_then_tells_each_nodes_outcome(admin_page, read):
    nodes = [make_node(f"kvm-{number}") for number in range(3)]
    asked = read(send(admin_page, "disable", *nodes))
    assert "kvm-0" in asked.text
    assert "reason" in asked.inputs
    assert not Node.objects.filter(scheduling="maintenance").exists()
    done = send(admin_page, "disable", *nodes, step="go", reason="new racks")
    assert outcomes(done) == {node.name: (False, "In maintenance") for node in nodes}
    assert "3 nodes done" in read(done).text
    assert {node.scheduling_reason for node in Node.objects.all()} == {"new racks"}
    assert Event.objects.filter(kind="node_disabled", user_name="ada").count() == 3
    assert "fleet-changed" in done["HX-Trigger-After-Swap"]


def test_a_node_that_is_refused_stops_no_other(operator_page, operator, read):
    mine, seen, hidden = make_node("mine"), make_node("seen"), make_node("hidden")
    busy = make_node("busy")
    grant(operator, mine, "view_node", "maintain_node")
    grant(operator, seen, "view_node")
    grant(operator, busy, "view_node", "maintain_node")
    make_operation(busy, "reboot-node", "running", exclusive=True, subject=f"node:{busy.uuid}")
    done = send(operator_page, "disable", seen, hidden, busy, mine, step="go")
    found = outcomes(done)
    assert found["mine"] == (False, "In maintenance")
    assert found["seen"][0]
    assert "maintain_node" in found["seen"][1]
    assert found["busy"][0]
    assert "hidden" not in read(done).text
    assert "1 node done, 3 refused" in read(done).text
    assert list(Node.objects.filter(scheduling="maintenance")) == [mine]


def test_enabling_says_which_nodes_were_enabled_already(admin_page):
    aside = make_node("aside", scheduling="maintenance", scheduling_reason="disk swap")
    well = make_node("well")
    found = outcomes(send(admin_page, "enable", aside, well))
    assert found == {"aside": (False, "Enabled"), "well": (False, "It was enabled already")}
    assert not Node.objects.filter(scheduling="maintenance").exists()


def test_a_refresh_leads_to_each_nodes_operation(admin_page, read):
    nodes = [make_node(), make_node()]
    page = read(send(admin_page, "refresh", *nodes))
    for operation in Operation.objects.filter(kind="refresh-node"):
        assert reverse("operation-detail", args=[operation.pk]) in page.links
    assert Operation.objects.count() == 2


@pytest.mark.parametrize("nodes", [[], ["x"], [uuid.uuid4() for _ in range(101)]])
def test_a_selection_that_is_none_or_too_large_is_refused_whole(admin_page, nodes):
    answer = send(admin_page, "disable", *nodes, step="go")
    assert answer.status_code == 400
    assert answer["HX-Retarget"] == "#flash"


def test_it_is_post_and_known_actions_alone(admin_page):
    assert admin_page.get(reverse("node-bulk", args=["refresh"])).status_code == 405
    assert admin_page.post(reverse("node-bulk", args=["explode"])).status_code == 404


def test_what_a_dialog_shows_is_safe_and_reachable(admin_page, read):
    make_node("kvm-01")
    page = read(admin_page.get(reverse("node-list")))
    assert page.refused == []
    assert "dialog" in page.ids
    assert "bulk" in page.ids


def test_asking_costs_the_same_for_two_nodes_and_for_sixty(admin_page, django_assert_num_queries):
    nodes = [make_node(f"kvm-{number:02d}") for number in range(60)]
    send(admin_page, "disable", nodes[0])
    for some in (nodes[:2], nodes):
        # Session, user, permissions, and the nodes.
        with django_assert_num_queries(4):
            send(admin_page, "disable", *some)
