"""Who may do what: grants for one node, groups, model permissions, superusers, strangers."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, Group, Permission
from guardian.shortcuts import assign_perm

from nodes import permissions
from nodes.errors import PermissionDenied, UnknownNode
from nodes.models import Event, Node, NodeUserObjectPermission, Operation, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def two() -> tuple[Node, Node]:
    return tuple(Node.objects.create(name=name, uri=f"test:///{name}") for name in ("one", "two"))


def names(user, permission=permissions.VIEW):
    return list(permissions.nodes_for(user, permission).values_list("name", flat=True))


def test_a_stranger_sees_nothing_and_is_told_nothing(stranger, two):
    assert names(stranger) == []
    with pytest.raises(UnknownNode):
        permissions.get_node(stranger, "one")
    with pytest.raises(UnknownNode):
        permissions.get_node(AnonymousUser(), "one")


def test_a_grant_for_one_node_is_for_that_node_alone(operator, two):
    assign_perm("view_node", operator, two[0])
    assign_perm("maintain_node", operator, two[0])
    assert names(operator) == names(operator, permissions.MAINTAIN) == ["one"]
    assert names(operator, permissions.POWER) == []
    node = permissions.get_node(operator, str(two[0].uuid), permissions.MAINTAIN)
    assert node == two[0]
    with pytest.raises(PermissionDenied):
        permissions.get_node(operator, "one", permissions.POWER)


def test_a_right_without_the_right_to_see_is_none(operator, two):
    assign_perm("power_node", operator, two[0])
    assert names(operator, permissions.POWER) == []
    with pytest.raises(UnknownNode):
        permissions.get_node(operator, "one", permissions.POWER)


def test_a_grant_to_a_group_counts_for_its_members(operator, two):
    group = Group.objects.create(name="rack-1")
    assign_perm("view_node", group, two[1])
    assert names(operator) == []
    operator.groups.add(group)
    assert names(User.objects.get(pk=operator.pk)) == ["two"]


def test_the_groups_have_what_they_are_described_to_have(administrator, two):
    viewer = User.objects.create_user("vera")
    viewer.groups.add(Group.objects.get(name="viewers"))
    on_duty = User.objects.create_user("omar")
    on_duty.groups.add(Group.objects.get(name="operators"))
    assert names(viewer) == names(on_duty) == names(administrator) == ["one", "two"]
    assert names(viewer, permissions.MAINTAIN) == []
    assert names(on_duty, permissions.MAINTAIN) == ["one", "two"]
    assert names(on_duty, permissions.POWER) == names(on_duty, permissions.DELETE) == []
    assert names(administrator, permissions.POWER) == ["one", "two"]
    with pytest.raises(PermissionDenied):
        permissions.require(on_duty, permissions.ADD)
    permissions.require(administrator, permissions.ADD)


def test_a_model_permission_counts_for_nodes_that_come_later(operator, two):
    operator.user_permissions.add(Permission.objects.get(codename="view_node"))
    Node.objects.create(name="three", uri="test:///three")
    assert names(User.objects.get(pk=operator.pk)) == ["one", "three", "two"]


def test_who_is_inactive_may_nothing_even_as_superuser(two):
    user = User.objects.create_superuser("root", is_active=False)
    assert names(user) == []


def test_operations_and_events_are_seen_with_their_node(operator, stranger, two):
    assign_perm("view_node", operator, two[0])
    for node in two:
        Operation.objects.create(kind="refresh-node", node=node, subject=node.name, exclusive=False)
        Event.objects.create(kind="x", node=node, message="m")
    assert [row.node for row in permissions.operations_for(operator)] == [two[0]]
    assert {row.node for row in permissions.events_for(operator)} == {two[0]}
    assert not permissions.operations_for(stranger).exists()
    assert not permissions.events_for(stranger).exists()


def test_a_node_that_goes_takes_its_grants_along(operator, two):
    assign_perm("view_node", operator, two[0])
    two[0].delete()
    assert not NodeUserObjectPermission.objects.exists()


def test_asking_for_all_nodes_takes_two_queries_and_for_a_superuser_one(
    operator, two, django_assert_num_queries
):
    with django_assert_num_queries(2):
        names(operator)
    with django_assert_num_queries(1):
        names(User(is_superuser=True, is_active=True, pk=999))


def test_events_that_concern_no_node_are_for_their_own_user_and_for_readers_of_the_audit_log(
    operator, stranger, two
):
    audit = {"category": "audit", "message": "m"}
    Event.objects.all().delete()
    Event.objects.create(kind="signed_in", user=stranger, user_name="stella", **audit)
    Event.objects.create(kind="user_changed", user_name="root", **audit)
    Event.objects.create(kind="node_gone", node_name="three", user_name="root", **audit)
    Event.objects.create(kind="monitor_cut_off", message="m")
    Event.objects.create(kind="node_added", node=two[0], **audit)
    Event.objects.create(kind="node_added", node=two[1], **audit)

    def kinds(user: User) -> list[str]:
        fresh = User.objects.get(pk=user.pk)
        return sorted(permissions.events_for(fresh).values_list("kind", flat=True))

    def give(name: str) -> None:
        operator.user_permissions.add(Permission.objects.get(codename=name, content_type__model="node"))
        Event.objects.filter(kind="user_permissions_changed").delete()

    assert kinds(stranger) == ["signed_in"]
    assert kinds(operator) == []
    assign_perm("view_node", operator, two[0])
    Event.objects.filter(kind="access_granted").delete()
    assert kinds(operator) == ["node_added"]
    give("view_audit_log")
    assert kinds(operator) == ["node_added", "signed_in", "user_changed"]
    operator.user_permissions.clear()
    Event.objects.filter(kind="user_permissions_changed").delete()
    give("view_node")
    assert kinds(operator) == ["monitor_cut_off", "node_added", "node_added", "node_gone"]
    give("view_audit_log")
    assert len(kinds(operator)) == 6
