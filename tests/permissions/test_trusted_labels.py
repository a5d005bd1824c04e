"""Who may change a node gives nobody anything by its labels."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction
from django.urls import reverse
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from nodes import permissions
from nodes.engine import grants, requests
from nodes.engine.grants import Scope
from nodes.errors import TrustedLabel
from nodes.events import Actor
from nodes.models import ApiToken, Node, Role, RoleAssignment, User
from nodes.permissions import CHANGE, GRANT, NODE_PERMISSIONS, POWER, VIEW
from nodes.trusted_labels import trusted_keys
from tests.api.conftest import Api
from tests.factories import grant, make_node, make_user
from tests.permissions.people import give, token_of

KEYS, VALUES = ("rack", "zone", "team"), ("", "a", "b")
LABELS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
SELECTORS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), min_size=1)


@pytest.mark.django_db
class TestChanges:
    @pytest.fixture
    def node(self) -> Node:
        node = make_node("kvm-01", labels={"rack": "a1", "note": "x"})
        give(make_user("paula"), VIEW, POWER, labels={"rack": "a2"})
        return node

    @pytest.mark.parametrize(
        "labels", [{"rack": "a2", "note": "x"}, {"note": "x"}, {"rack": "", "note": "x"}, {}]
    )
    def test_update_node_refuses_and_names_the_label_and_the_remedy(self, node, operator, labels):
        grant(operator, node, VIEW, CHANGE)
        status, answer = Api(operator)("update-node", {"node": "kvm-01", "labels": labels, "notes": "n"})
        assert (status, answer["code"]) == (403, "trusted_label")
        assert "“rack”" in answer["detail"]
        assert GRANT in answer["detail"]
        node.refresh_from_db()
        assert (node.labels, node.notes) == ({"rack": "a1", "note": "x"}, "")

    def test_other_labels_are_changed_as_before(self, node, operator):
        grant(operator, node, VIEW, CHANGE)
        body = {"node": "kvm-01", "labels": {"rack": "a1", "other": "y"}}
        assert Api(operator)("update-node", body)[0] == 200
        node.refresh_from_db()
        assert node.labels == {"rack": "a1", "other": "y"}

    def test_who_may_grant_changes_them(self, node, administrator):
        body = {"node": "kvm-01", "labels": {"rack": "a2"}}
        assert Api(administrator)("update-node", body)[0] == 200

    def test_a_stale_copy_of_the_labels_does_not_bring_them_back(self, node, operator):
        """Whoever opened the form before an administrator moved the node has the old label in it."""
        grant(operator, node, VIEW, CHANGE)
        stale = Node.objects.get(pk=node.pk)
        Node.objects.filter(pk=node.pk).update(labels={"rack": "b7"})
        with pytest.raises(TrustedLabel):
            requests.update_node(Actor(operator), stale, {"labels": {"rack": "a1", "new": "y"}})
        node.refresh_from_db()
        assert node.labels == {"rack": "b7"}

    def test_the_page_says_it_beside_the_field(self, node, operator, client):
        grant(operator, node, VIEW, CHANGE)
        client.force_login(operator)
        form = {
            "name": "kvm-01",
            "type": "compute",
            "labels": "rack=a2",
            "notes": "",
            "migration_address": "",
        }
        answer = client.post(reverse("node-settings", args=["kvm-01"]), form)
        assert answer.status_code == 422
        assert "“rack”" in str(answer.context["form"].errors["labels"])

    def test_the_admin_refuses_it_too(self, node, operator, client):
        grant(operator, node, VIEW, CHANGE)
        User.objects.filter(pk=operator.pk).update(is_staff=True)
        client.force_login(User.objects.get(pk=operator.pk))
        form = {
            "name": "kvm-01", "node_type": "compute", "labels": '{"rack": "a2"}', "notes": "",
            "credential-TOTAL_FORMS": "0", "credential-INITIAL_FORMS": "0",
        }  # fmt: skip
        answer = client.post(reverse("admin:nodes_node_change", args=[node.pk]), form)
        assert answer.status_code == 403
        node.refresh_from_db()
        assert node.labels["rack"] == "a1"

    def test_a_node_is_not_added_with_it(self, node, operator):
        give(operator, permissions.ADD)
        body = {"name": "kvm-02", "uri": "test:///default", "labels": {"rack": "a2"}}
        status, answer = Api(operator)("add-node", body)
        assert (status, answer["code"]) == (403, "trusted_label")

    def test_the_label_of_a_token_is_trusted_until_that_ends(self, node, operator, administrator):
        grant(operator, node, VIEW, CHANGE)
        row, _text = token_of(administrator, VIEW, scope="labels", selector={"note": "z"})
        body = {"node": "kvm-01", "labels": {"rack": "a1", "note": "z"}}
        assert Api(operator)("update-node", body)[1]["code"] == "trusted_label"
        ApiToken.objects.filter(pk=row.pk).update(revoked_at=row.created_at)
        assert trusted_keys() == {"rack"}
        assert Api(operator)("update-node", body)[0] == 200


def nodes_by_permission(users: list[User]) -> dict[tuple[int, str], set[int]]:
    return {
        (user.pk, one): set(
            permissions.nodes_for(User.objects.get(pk=user.pk), one).values_list("pk", flat=True)
        )
        for user in users
        for one in NODE_PERMISSIONS
    }


@pytest.mark.django_db
@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@example(assignments=[(1, POWER, {"rack": "a"})], stored=[{}, {"zone": "b"}], edits=[(0, {"rack": "a"})])
@given(
    assignments=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(NODE_PERMISSIONS), SELECTORS), min_size=1, max_size=4
    ),
    stored=st.lists(LABELS, min_size=2, max_size=2),
    edits=st.lists(st.tuples(st.integers(0, 1), LABELS), min_size=1, max_size=4),
)
def test_no_edit_of_labels_by_who_may_change_nodes_gives_anybody_a_node(db, assignments, stored, edits):
    with transaction.atomic():
        users = [make_user() for _ in range(3)]
        nodes = [make_node(labels=labels) for labels in stored]
        for one, permission, selector in assignments:
            role, _made = Role.objects.get_or_create(
                name=f"x {permission}", defaults={"permissions": [VIEW, permission]}
            )
            RoleAssignment.objects.get_or_create(
                role=role,
                user=users[one],
                scope="labels",
                selector=selector,
                scope_key=RoleAssignment(scope="labels", selector=selector)._scope_key(),
            )
        give(users[0], VIEW, CHANGE)
        before = nodes_by_permission(users)
        for number, labels in edits:
            try:
                requests.update_node(
                    Actor(User.objects.get(pk=users[0].pk)), nodes[number], {"labels": labels}
                )
            except TrustedLabel:
                nodes[number].refresh_from_db()
        after = nodes_by_permission(users)
        assert all(after[key] <= before[key] for key in before)
        transaction.set_rollback(True)


@pytest.mark.django_db(transaction=True)
def test_a_role_for_a_label_and_a_change_of_it_come_one_after_the_other():
    """Whichever is first: a label that was set while the role was being given is none that it counts for
    unseen. With the lock held by the one that gives, the other one waits, and is then refused."""
    from nodes.management.setup import ensure_groups

    ensure_groups()
    node = make_node("kvm-01")
    changer, root = make_user(), make_user(is_superuser=True)
    grant(changer, node, VIEW, CHANGE)
    outcome: list[str] = []
    given = threading.Event()

    def change() -> None:
        given.wait(10)
        try:
            requests.update_node(Actor(changer), node, {"labels": {"rack": "a1"}})
            outcome.append("changed")
        except TrustedLabel:
            outcome.append("refused")
        finally:
            connection.close()

    thread = threading.Thread(target=change)
    thread.start()
    with transaction.atomic():
        role = Role.objects.get(name="operator")
        grants.assign_role(Actor(root), role, make_user(), Scope(labels={"rack": "a1"}))
        given.set()
        thread.join(0.5)
        assert outcome == []
    thread.join(20)
    assert outcome == ["refused"]
