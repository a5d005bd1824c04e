"""Roles: what they give, to whom and where, and who can give them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import IntegrityError, transaction
from django.utils import timezone
from guardian.shortcuts import remove_perm

from nodes import permissions
from nodes.engine import grants
from nodes.engine.grants import Scope
from nodes.errors import InvalidInput, PermissionDenied, UnknownNode
from nodes.events import Actor
from nodes.management.setup import ensure_administrator, ensure_groups
from nodes.models import Event, Node, Role, RoleAssignment, User
from nodes.models.event import Via
from nodes.permissions import ADD, CHANGE, GRANT, MAINTAIN, POWER, VIEW, VIEW_LOGS
from tests.factories import grant, make_node, make_operation, make_user
from tests.permissions.people import give

# The groups' fixture brings the built-in roles, which a test that empties the database takes away.
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("groups")]


@pytest.fixture
def rack() -> list[Node]:
    """Three nodes: two in rack a1, of which one is spare, and one in a2."""
    return [
        make_node("a", labels={"rack": "a1", "spare": ""}),
        make_node("b", labels={"rack": "a1"}),
        make_node("c", labels={"rack": "a2"}),
    ]


def fresh(user: User) -> User:
    return User.objects.get(pk=user.pk)


def names(user: User, permission: str = VIEW) -> str:
    return "".join(
        permissions.nodes_for(fresh(user), permission).order_by("name").values_list("name", flat=True)
    )


def on(user: User, node: Node) -> frozenset[str]:
    return permissions.permissions_on(fresh(user), node)


def test_a_role_counts_for_all_nodes_for_labels_and_for_one_node(rack):
    everywhere, labelled, single = make_user(), make_user(), make_user()
    give(everywhere, VIEW, POWER)
    give(labelled, VIEW, POWER, labels={"rack": "a1"})
    give(single, VIEW, POWER, node=rack[2])
    for user, seen in ((everywhere, "abc"), (labelled, "ab"), (single, "c")):
        assert names(user) == names(user, POWER) == seen
        assert names(user, MAINTAIN) == ""
        assert [POWER in on(user, node) for node in rack] == [node.name in seen for node in rack]
    assert permissions.has_for_all(fresh(everywhere), POWER)
    assert not permissions.has_for_all(fresh(labelled), POWER)
    make_node("d", labels={"rack": "a1"})
    assert names(labelled) == "abd"


def test_all_labels_of_a_selector_have_to_match_and_none_matches_nothing(rack):
    user = make_user()
    give(user, VIEW, labels={"rack": "a1", "spare": ""})
    assert names(user) == "a"
    with pytest.raises(Exception, match="at least"):
        RoleAssignment.objects.create(role=Role.objects.first(), user=user, scope="labels", selector={})
    assert names(make_user()) == ""


def test_a_role_of_a_group_counts_for_its_members_while_they_are_members(rack):
    user, group = make_user(), Group.objects.create(name="night shift")
    give(group, VIEW, labels={"rack": "a2"})
    assert names(user) == ""
    user.groups.add(group)
    assert names(user) == "c"
    user.groups.remove(group)
    assert names(user) == ""


def test_a_role_ends_when_it_expires(rack):
    user = make_user()
    given = give(user, VIEW, labels={"rack": "a1"}, expires_at=timezone.now() + timedelta(hours=1))
    assert names(user) == "ab"
    RoleAssignment.objects.filter(pk=given.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert names(user) == ""
    assert on(user, rack[0]) == frozenset()


def test_permissions_of_no_node_count_for_all_nodes_alone(rack):
    user = make_user()
    give(user, VIEW, ADD, GRANT, labels={"rack": "a1"})
    give(user, ADD, node=rack[2])
    for permission in (ADD, GRANT):
        with pytest.raises(PermissionDenied):
            permissions.require(fresh(user), permission)
        with pytest.raises(PermissionDenied):
            permissions.require(fresh(user), permission, rack[0])
    give(user, ADD)
    permissions.require(fresh(user), ADD)


def test_operations_and_events_are_seen_by_role(rack):
    user = make_user()
    give(user, VIEW, labels={"rack": "a1"})
    for node in rack:
        make_operation(node)
        Event.objects.create(kind="x", node=node, message="m")
    Event.objects.create(kind="x", message="of no node")
    for rows in (permissions.operations_for(fresh(user)), permissions.events_for(fresh(user))):
        assert sorted(row.node.name for row in rows) == ["a", "b"]


def test_labels_that_are_not_stored_give_nothing(rack):
    user = make_user()
    give(user, VIEW, CHANGE, POWER, labels={"rack": "a1"})
    rack[2].labels = {"rack": "a1"}
    assert on(user, rack[2]) == frozenset()
    rack[0].labels = {}
    assert POWER in on(user, rack[0])


def test_roles_cost_no_query_more_than_grants(rack, django_assert_num_queries):
    user, group = make_user(), Group.objects.create(name="night shift")
    user.groups.add(group)
    give(user, VIEW, labels={"rack": "a1"})
    give(group, POWER, labels={"rack": "a1"})
    give(group, VIEW, node=rack[2])
    grant(user, rack[1], MAINTAIN)
    found = fresh(user)
    with django_assert_num_queries(2):
        assert len(permissions.nodes_for(found)) == 3
    with django_assert_num_queries(1):
        list(permissions.nodes_for(found, POWER))
    found = fresh(user)
    with django_assert_num_queries(3):
        assert permissions.permissions_on(found, rack[1]) == {VIEW, POWER, MAINTAIN}
    with pytest.raises(UnknownNode):
        permissions.get_node(fresh(make_user()), "a")


# -- giving ---------------------------------------------------------------------------------------


def actor(user: User) -> Actor:
    return Actor(fresh(user), "192.0.2.1", Via.ADMIN)


@pytest.fixture
def granter(rack) -> User:
    """Grants, and has all of nodes but their power, which they have on rack a1."""
    user = make_user("greta")
    give(user, GRANT, VIEW, VIEW_LOGS, MAINTAIN)
    give(user, POWER, labels={"rack": "a1"})
    return user


def test_nobody_gives_without_the_permission_to_grant(rack):
    user, other = make_user(), make_user()
    give(user, *(one for one in permissions.ALL_PERMISSIONS if one != GRANT))
    viewer = Role.objects.get(name="viewer")
    given = give(other, VIEW)
    for refused in (
        lambda: grants.assign_role(actor(user), viewer, user, Scope()),
        lambda: grants.make_role(actor(user), "own", [VIEW]),
        lambda: grants.revoke_role(actor(user), given),
        lambda: grants.change_role(actor(user), given.role, name="x", permissions=[]),
        lambda: grants.remove_role(actor(user), given.role),
        lambda: grants.assign_role(Actor(None, None, Via.SYSTEM), viewer, user, Scope()),
    ):
        with pytest.raises(PermissionDenied):
            refused()
    assert not Event.objects.exclude(user=None).exists()


@pytest.mark.parametrize(
    ("scope", "given"),
    [
        (Scope(), False),
        (Scope(labels={"rack": "a1"}), True),
        (Scope(labels={"rack": "a1", "spare": ""}), True),
        (Scope(labels={"rack": "a2"}), False),
        (Scope(labels={"spare": ""}), False),
    ],
)
def test_nobody_gives_more_than_they_have_for_that_scope(granter, scope, given):
    user = make_user()
    role = Role.objects.create(name="power", permissions=[VIEW, POWER])
    if given:
        assert grants.assign_role(actor(granter), role, user, scope).granted_by == granter
        return
    with pytest.raises(PermissionDenied, match="power_node"):
        grants.assign_role(actor(granter), role, user, scope)
    assert not Event.objects.exclude(user=None).exists()


def test_for_one_node_one_gives_what_one_has_on_it(granter, rack):
    role = Role.objects.create(name="power", permissions=[VIEW, POWER])
    grants.assign_role(actor(granter), role, make_user(), Scope(node=rack[0]))
    with pytest.raises(PermissionDenied, match="power_node"):
        grants.assign_role(actor(granter), role, make_user(), Scope(node=rack[2]))


def test_a_role_is_not_widened_by_who_has_less(granter):
    role = Role.objects.create(name="own", permissions=[VIEW])
    with pytest.raises(PermissionDenied, match="power_node"):
        grants.change_role(actor(granter), role, name="own", permissions=[VIEW, POWER])
    grants.change_role(actor(granter), role, name="own", permissions=[VIEW, MAINTAIN])
    root = make_user(is_superuser=True)
    grants.change_role(actor(root), role, name="own", permissions=[VIEW, POWER])
    # What it has already may stay.
    changed = grants.change_role(actor(granter), role, name="ours", permissions=[VIEW, POWER])
    assert changed.permissions == [VIEW, POWER]


def test_each_change_is_recorded_with_who_whom_before_and_after(granter):
    user = make_user("ursula")
    role = grants.make_role(actor(granter), "own", [VIEW])
    given = grants.assign_role(actor(granter), role, user, Scope(labels={"rack": "a1"}))
    grants.change_role(actor(granter), role, name="own", permissions=[VIEW, MAINTAIN])
    grants.revoke_role(actor(granter), given)
    grants.remove_role(actor(granter), role)
    rows = list(Event.objects.exclude(user=None).order_by("pk"))
    assert [row.kind for row in rows] == [
        "role_made", "role_assigned", "role_changed", "role_revoked", "role_removed",
    ]  # fmt: skip
    assert {(row.user_name, row.source_ip, row.via) for row in rows} == {("greta", "192.0.2.1", "admin")}
    assigned, changed = rows[1], rows[2]
    assert (assigned.target_type, assigned.target_name) == ("user", "ursula")
    assert assigned.data["after"] == {
        "role": "own",
        "permissions": [VIEW],
        "holder": "ursula",
        "scope": "rack=a1",
        "expires_at": None,
    }
    assert (changed.target_type, changed.target_name) == ("role", "own")
    assert changed.data["before"]["permissions"] == [VIEW]
    assert changed.data["after"]["permissions"] == [VIEW, MAINTAIN]


def test_what_is_wrong_is_named(granter, rack):
    viewer, user = Role.objects.get(name="viewer"), make_user()
    grants.assign_role(actor(granter), viewer, user, Scope())
    for wrong, field in (
        (lambda: grants.assign_role(actor(granter), viewer, user, Scope()), "role"),
        (lambda: grants.assign_role(actor(granter), viewer, user, Scope(labels={})), "labels"),
        (lambda: grants.assign_role(actor(granter), viewer, user, Scope(labels={"A B": "x"})), "labels"),
        (
            lambda: grants.assign_role(actor(granter), viewer, user, Scope(), expires_at=timezone.now()),
            "expires_at",
        ),
        (lambda: grants.make_role(actor(granter), "own", ["fly"]), "permissions"),
        (lambda: grants.make_role(actor(granter), "viewer", []), "name"),
        (lambda: grants.make_role(actor(granter), " ", []), "name"),
        (lambda: grants.change_role(actor(granter), viewer, name="v", permissions=[]), "role"),
        (lambda: grants.remove_role(actor(granter), viewer), "role"),
    ):
        with pytest.raises(InvalidInput) as refusal:
            wrong()
        assert refusal.value.field == field


def test_an_assignment_has_one_holder_and_a_whole_scope(rack):
    role, user, group = Role.objects.get(name="viewer"), make_user(), Group.objects.create(name="g")
    for fields in (
        {},
        {"user": user, "group": group},
        {"user": user, "scope": "node"},
        {"user": user, "node": rack[0]},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            RoleAssignment.objects.create(role=role, **fields)


def test_the_built_in_roles_are_what_the_code_says():
    Role.objects.filter(name="operator").update(permissions=[POWER], builtin=False)
    Role.objects.filter(name="viewer").delete()
    ensure_groups()
    for name, codenames in permissions.BUILTIN_ROLES.items():
        role = Role.objects.get(name=name)
        assert (role.permissions, role.builtin) == (list(codenames), True)


def test_every_permission_that_the_code_knows_is_one_that_django_has():
    known = Permission.objects.filter(content_type__app_label="nodes").values_list("codename", flat=True)
    assert set(permissions.ALL_PERMISSIONS) <= set(known)


def test_what_is_granted_and_revoked_is_told_in_these_words_whichever_way_it_is_done():
    viewer, otto, node = Role.objects.get(name="viewer"), make_user("otto"), make_node("kvm-09")
    command = Actor(via=Via.COMMAND)
    Event.objects.all().delete()
    grants.revoke_role(command, grants.assign_role(command, viewer, otto, Scope(node=node)))
    RoleAssignment.objects.create(role=viewer, user=otto, scope="all").delete()
    grant(otto, node, "view_node")
    remove_perm("view_node", otto, node)
    assert list(Event.objects.order_by("pk").values_list("message", flat=True)) == [
        "Role “viewer” granted to otto for kvm-09",
        "Role “viewer” revoked from otto for kvm-09",
        "Role “viewer” granted.",
        "Role “viewer” revoked.",
        "Access to kvm-09 granted to user “otto”.",
        "Access to kvm-09 revoked from user “otto”.",
    ]


def test_the_first_administrator_is_an_entry_of_the_audit_log():
    ensure_administrator(lambda _password: None)
    entry = Event.objects.get(kind="administrator_created")
    assert (entry.category, entry.target_name, entry.is_authentic) == ("audit", "admin", True)
