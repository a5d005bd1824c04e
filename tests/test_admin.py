"""The Django admin: what staff see, what they may change, and that it goes the same way as everywhere."""

from __future__ import annotations

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.test import Client, RequestFactory
from django.urls import reverse
from guardian.shortcuts import assign_perm

from nodes.models import (
    Credential,
    Event,
    Node,
    NodeUserObjectPermission,
    Operation,
    Role,
    RoleAssignment,
    User,
)
from nodes.models.sealed import SecretFor
from nodes.permissions import GRANT, VIEW
from tests.factories import ANYWHERE, NOBODYS_KEY, make_credential, make_snapshot, secret_given, secret_of
from tests.permissions.people import give
from tests.second_factors import App

pytestmark = pytest.mark.django_db
SECRET = "an0ther-s3cret-passphrase"


@pytest.fixture
def node() -> Node:
    found = Node.objects.create(
        name="one",
        uri="qemu+ssh://root@one/system",
        host_key=NOBODYS_KEY.to_text(),
        host_key_fingerprint=NOBODYS_KEY.fingerprint,
    )
    make_credential(found, "password", password=SECRET)
    make_snapshot(found)
    return found


def staff(user: User) -> Client:
    User.objects.filter(pk=user.pk).update(is_staff=True)
    client = Client()
    client.force_login(User.objects.get(pk=user.pk))
    return client


@pytest.fixture
def root(groups) -> Client:
    return staff(User.objects.create_superuser("root"))


PAGES = ["node", "snapshot", "operation", "event", "apitoken", "user"]


@pytest.mark.parametrize("model", PAGES)
def test_every_list_opens_and_nothing_but_users_can_be_added_or_deleted(root, node, model):
    assert root.get(reverse(f"admin:nodes_{model}_changelist")).status_code == 200
    if model != "user":
        assert root.get(reverse(f"admin:nodes_{model}_add")).status_code == 403


def test_every_record_opens_and_no_secret_is_in_it(root, node):
    operation = Operation.objects.create(
        kind="update-node",
        node=node,
        subject="s",
        secret=SecretFor(ANYWHERE, {"password": SECRET}),
        exclusive=False,
    )
    event = Event.objects.create(kind="x", node=node, message="m")
    for model, pk in (
        ("node", node.pk),
        ("snapshot", node.snapshot_id),
        ("operation", operation.pk),
        ("event", event.pk),
    ):
        response = root.get(reverse(f"admin:nodes_{model}_change", args=[pk]))
        assert response.status_code == 200, model
        assert SECRET.encode() not in response.content
        if model != "node":
            assert root.get(reverse(f"admin:nodes_{model}_delete", args=[pk])).status_code == 403


def form(node: Node, **changes: str) -> dict[str, str]:
    return {
        "name": node.name,
        "node_type": node.node_type,
        "labels": "{}",
        "notes": node.notes,
        "migration_address": "",
        "credential-TOTAL_FORMS": "1",
        "credential-INITIAL_FORMS": "1",
        "credential-0-id": str(node.credential.pk),
        "credential-0-node": str(node.pk),
        "credential-0-kind": node.credential.kind,
        "credential-0-user_secret": "",
        "credential-0-passphrase": "",
        **changes,
    }


def test_a_changed_note_is_recorded_with_who_changed_it(root, node):
    url = reverse("admin:nodes_node_change", args=[node.pk])
    response = root.post(url, form(node, notes="new disk"))
    assert response.status_code == 302, response.context["errors"]
    node.refresh_from_db()
    assert node.notes == "new disk"
    event = Event.objects.get(kind="node_updated")
    assert (event.user_name, event.data) == ("root", {"notes": {"before": "", "after": "new disk"}})
    assert not Operation.objects.exists()


def test_a_new_credential_becomes_an_operation_and_the_old_one_stays_until_then(root, node):
    url = reverse("admin:nodes_node_change", args=[node.pk])
    response = root.post(url, form(node, **{"credential-0-user_secret": "brand-new-password"}))
    assert response.status_code == 302
    operation = Operation.objects.get()
    assert (operation.kind, operation.requested_by_name) == ("update-node", "root")
    assert secret_given(operation) == {"password": "brand-new-password"}
    assert "brand-new-password" not in str(operation.params)
    assert secret_of(node) == {"password": SECRET}


@pytest.mark.parametrize("kind", ["password", "ssh_key"])
def test_a_passphrase_without_its_key_is_refused_by_the_form(root, node, kind):
    Credential.objects.filter(node=node).update(kind=kind)
    node.credential.refresh_from_db()
    url = reverse("admin:nodes_node_change", args=[node.pk])
    response = root.post(url, form(node, **{"credential-0-passphrase": "open sesame"}))
    assert response.status_code == 200
    assert not Operation.objects.exists()


def test_columns_that_the_host_decides_cannot_be_posted(root, node):
    url = reverse("admin:nodes_node_change", args=[node.pk])
    root.post(
        url, form(node, connection="online", uri="qemu+ssh://root@evil/system", scheduling="maintenance")
    )
    node.refresh_from_db()
    assert (node.uri, node.scheduling) == ("qemu+ssh://root@one/system", "enabled")


def test_refreshing_from_the_list_queues_the_same_operation(root, node):
    data = {"action": "refresh", "_selected_action": [str(node.pk)]}
    assert root.post(reverse("admin:nodes_node_changelist"), data).status_code == 302
    assert Operation.objects.get().kind == "refresh-node"


def test_staff_see_only_the_nodes_they_may_see(operator, node):
    other = Node.objects.create(name="two", uri="qemu+ssh://root@two/system")
    assign_perm("view_node", operator, other)
    client = staff(operator)
    listing = client.get(reverse("admin:nodes_node_changelist")).content.decode()
    assert "two" in listing
    assert ">one<" not in listing
    assert client.get(reverse("admin:nodes_node_change", args=[node.pk])).status_code in (302, 403, 404)
    response = client.post(reverse("admin:nodes_node_change", args=[other.pk]), {"name": "renamed"})
    assert response.status_code == 403
    snapshots = client.get(reverse("admin:nodes_snapshot_changelist")).content.decode()
    assert "0 snapshots" in snapshots


def test_only_superusers_give_rights_on_nodes(administrator, root, node):
    client = staff(administrator)
    url = reverse("admin:nodes_node_permissions", args=[node.pk])
    assert client.get(url).status_code == 302
    assert root.get(url).status_code == 200
    user = User.objects.create_user("new")
    manage = reverse("admin:nodes_node_permissions_manage_user", args=[node.pk, user.pk])
    assert client.post(manage, {"permissions": ["power_node"]}).status_code == 302
    assert not NodeUserObjectPermission.objects.exists()
    root.post(manage, {"permissions": ["power_node"]})
    assert NodeUserObjectPermission.objects.get().user == user
    told = Event.objects.get(kind="access_granted", node=node)
    assert (told.target_type, told.target_name, told.via) == ("user", "new", "admin")
    assert told.data["after"]["permission"] == "power_node"
    denied = Event.objects.get(kind="permission_denied")
    assert (denied.user_name, denied.node, denied.via) == (administrator.username, node, "admin")


def test_the_right_to_change_users_or_groups_gives_no_other_right(operator, root):
    codenames = ("view_user", "change_user", "add_user", "view_group", "change_group")
    operator.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = staff(operator)
    own = reverse("admin:nodes_user_change", args=[operator.pk])
    assert client.get(own).status_code == 200
    assert client.post(own, {"username": "otto", "is_superuser": "on"}).status_code == 403
    assert client.get(reverse("admin:nodes_user_add")).status_code == 403
    group = Group.objects.get(name="viewers")
    address = reverse("admin:auth_group_change", args=[group.pk])
    everything = [str(pk) for pk in Permission.objects.values_list("pk", flat=True)]
    assert client.post(address, {"name": "viewers", "permissions": everything}).status_code == 403
    assert root.post(address, {"name": "viewers", "permissions": everything[:1]}).status_code == 302
    operator.refresh_from_db()
    assert not operator.is_superuser


def test_groups_are_kept_here(root):
    assert root.get(reverse("admin:auth_group_changelist")).status_code == 200
    assert Group.objects.filter(name="operators").exists()


def test_labels_that_are_no_texts_are_refused_by_the_form(root, node):
    for labels in ('["a"]', '{"rack": 1}', '"text"'):
        response = root.post(
            reverse("admin:nodes_node_change", args=[node.pk]), form(node, labels=labels, notes="kept out")
        )
        assert response.status_code == 400
    node.refresh_from_db()
    assert (node.labels, node.notes) == ({}, "")


def test_who_may_grant_gives_and_takes_roles_in_the_admin_and_no_other_staff_does(
    administrator, operator, node
):
    role, given = Role.objects.get(name="operator"), reverse("admin:nodes_roleassignment_add")
    form = {"role": role.pk, "user": operator.pk, "scope": "labels", "selector": '{"rack": "a1"}'}
    other = staff(operator)
    for address in (given, reverse("admin:nodes_role_changelist"), reverse("admin:nodes_role_add")):
        assert other.get(address).status_code == 403
    assert other.post(given, form).status_code == 403
    client = staff(administrator)
    assert client.post(given, form).status_code == 302
    assignment = RoleAssignment.objects.get()
    assert (assignment.granted_by, assignment.selector) == (administrator, {"rack": "a1"})
    event = Event.objects.get(kind="role_assigned")
    assert (event.user_name, event.via, event.target_name) == ("ada", "admin", "otto")
    assert client.get(reverse("admin:nodes_roleassignment_changelist")).status_code == 200
    gone = reverse("admin:nodes_roleassignment_delete", args=[assignment.pk])
    assert client.post(gone, {"post": "yes"}).status_code == 302
    assert not RoleAssignment.objects.exists()
    assert Event.objects.filter(kind="role_revoked").count() == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"user": ""}, "user"),
        ({"scope": "node"}, "node"),
        ({"scope": "labels"}, "selector"),
        ({"scope": "labels", "selector": '{"A B": ""}'}, "selector"),
        ({"expires_at_0": "2001-01-01", "expires_at_1": "00:00"}, "expires_at"),
    ],
)
def test_an_assignment_that_is_none_is_refused_by_the_form(root, operator, wrong, field):
    role = Role.objects.get(name="viewer")
    form = {"role": role.pk, "user": operator.pk, "scope": "all", "selector": "{}"} | wrong
    answer = root.post(reverse("admin:nodes_roleassignment_add"), form)
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert not RoleAssignment.objects.exists()


def test_staff_who_may_grant_cannot_give_more_than_they_have(operator):
    give(operator, GRANT, VIEW)
    client = staff(operator)
    form = {"role": Role.objects.get(name="operator").pk, "user": operator.pk, "scope": "all", "selector": ""}
    answer = client.post(reverse("admin:nodes_roleassignment_add"), form)
    assert "maintain_node" in str(answer.context["adminform"].form.errors) or "view_node_logs" in str(
        answer.context["adminform"].form.errors
    )
    assert RoleAssignment.objects.count() == 1


def test_own_roles_are_made_and_changed_and_built_in_ones_are_not(root):
    form = {"name": "night", "permissions": ["view_node", "power_node"]}
    assert root.post(reverse("admin:nodes_role_add"), form).status_code == 302
    role = Role.objects.get(name="night")
    address = reverse("admin:nodes_role_change", args=[role.pk])
    assert root.post(address, form | {"permissions": ["view_node"]}).status_code == 302
    role.refresh_from_db()
    assert role.permissions == ["view_node"]
    assert root.post(reverse("admin:nodes_role_delete", args=[role.pk]), {"post": "yes"}).status_code == 302
    kinds = ("role_made", "role_changed", "role_removed")
    assert Event.objects.filter(kind__in=kinds, user_name="root").count() == 3
    builtin = reverse("admin:nodes_role_change", args=[Role.objects.get(name="viewer").pk])
    assert root.post(builtin, form).status_code == 403


def test_allauths_own_pages_which_show_secrets_and_record_nothing_are_not_there():
    for model in (EmailAddress, SocialApp, SocialToken, SocialAccount):
        assert not admin.site.is_registered(model), model
    for model in (Authenticator, UserSession):
        assert type(admin.site.get_model_admin(model)).__module__ == "nodes.admin_accounts"


def test_a_lost_second_factor_is_removed_by_who_may_grant_alone(root, operator):
    factor = App(operator).factor.instance
    address = reverse("admin:mfa_authenticator_delete", args=[factor.pk])
    assert (
        factor.data["secret"]
        not in root.get(reverse("admin:mfa_authenticator_change", args=[factor.pk])).content.decode()
    )
    assert staff(operator).post(address, {"post": "yes"}).status_code == 403
    assert root.post(address, {"post": "yes"}).status_code == 302
    assert not Authenticator.objects.filter(pk=factor.pk).exists()
    event = Event.objects.get(kind="second_factor_removed")
    assert (event.user_name, event.target_name) == ("root", "otto")


def test_nobody_finds_out_the_key_of_anothers_session_by_filtering(root, operator):
    """Who may grant sees that superusers have sessions; with the key of one they would be a superuser."""
    give(operator, GRANT)
    key = root.session.session_key
    owner = User.objects.get(username="root")
    UserSession.objects.create(user=owner, session_key=key, ip="192.0.2.1", user_agent="x")
    client, address = staff(operator), reverse("admin:usersessions_usersession_changelist")
    assert ">root<" in client.get(address).content.decode()
    for lookup in ("session_key__startswith", "session_key", "session_key__gte", "data__contains"):
        answers = [client.get(address, {lookup: value}) for value in (key[:1], "-")]
        assert [answer.status_code for answer in answers] == [400, 400], lookup


def test_no_list_of_the_admin_is_filtered_by_what_it_does_not_offer(root):
    request = RequestFactory().get("/")
    request.user = User.objects.get(username="root")
    own = {model: found for model, found in admin.site._registry.items() if model._meta.app_label != "axes"}
    assert UserSession in own
    for model, found in own.items():
        offered = {*found.list_filter, found.date_hierarchy, model._meta.pk.name}
        for column in model._meta.concrete_fields:
            allowed = found.lookup_allowed(f"{column.name}__gte", "x", request)
            assert not allowed or column.name in offered, f"{model.__name__}.{column.name}"
        for name in found.list_filter:
            assert found.lookup_allowed(f"{name}__exact", "x", request), f"{model.__name__}.{name}"


def test_the_admin_has_no_page_of_its_own_for_ones_password(root):
    """It would let the current one be tried as often as one likes, and leave other sessions listed."""
    form = {"old_password": "x", "new_password1": "y", "new_password2": "y"}
    for answer in (
        root.get(reverse("admin:password_change")),
        root.post(reverse("admin:password_change"), form),
    ):
        assert (answer.status_code, answer["Location"]) == (302, reverse("account_change_password"))
