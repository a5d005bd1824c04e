"""Each change of users, groups, grants, tokens and credentials is an entry of who, how, whom, before and
after."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from guardian.shortcuts import assign_perm, remove_perm

from nodes.audit.verification import verify
from nodes.events import Actor, acting, told
from nodes.models import ApiToken, Bmc, Credential, Event, JumpHost, Node, User
from nodes.models.event import Via
from tests.factories import make_node, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def root() -> Client:
    client = Client(raise_request_exception=False, REMOTE_ADDR="192.0.2.7")
    client.force_login(make_user("root", is_staff=True, is_superuser=True))
    Event.objects.all().delete()
    return client


def user_form(user: User, **changes: object) -> dict[str, object]:
    moment = user.date_joined
    fields: dict[str, object] = {
        "username": user.username,
        "date_joined_0": moment.date().isoformat(),
        "date_joined_1": moment.time().isoformat("seconds"),
        "is_active": "on",
    }
    return fields | changes


def test_making_somebody_superuser_in_the_admin_is_an_entry(root):
    otto = make_user("otto")
    address = reverse("admin:nodes_user_change", args=[otto.pk])
    assert root.post(address, user_form(otto, is_superuser="on", is_staff="on")).status_code == 302
    entry = Event.objects.get(kind="user_changed")
    assert (entry.user_name, entry.source_ip, entry.via) == ("root", "192.0.2.7", "admin")
    assert (entry.target_type, entry.target_id, entry.target_name) == ("user", str(otto.pk), "otto")
    assert entry.data == {
        "before": {"is_superuser": False, "is_staff": False},
        "after": {"is_superuser": True, "is_staff": True},
    }
    assert entry.category == "audit"


def test_a_form_that_changes_nothing_or_is_refused_leaves_no_entry(root):
    otto, node = make_user("otto"), make_node()
    Event.objects.all().delete()
    address = reverse("admin:nodes_user_change", args=[otto.pk])
    root.get(address)
    root.post(address, user_form(otto))
    root.post(address, user_form(otto, username="not a name!"))
    manage = reverse("admin:nodes_node_permissions", args=[node.pk])
    root.get(manage)
    root.post(manage, {"user": "nobody", "submit_manage_user": "1"})
    root.get(reverse("admin:nodes_node_permissions_manage_user", args=[node.pk, otto.pk]))
    assert not Event.objects.exists()


def test_a_grant_in_the_admin_says_whom_and_which_permission(root):
    otto, node = make_user("otto"), make_node()
    address = reverse("admin:nodes_node_permissions_manage_user", args=[node.pk, otto.pk])
    root.post(address, {"permissions": ["power_node", "view_node"]})
    entries = Event.objects.filter(kind="access_granted").order_by("pk")
    assert {entry.data["after"]["permission"] for entry in entries} == {"power_node", "view_node"}
    assert {(entry.node, entry.target_name, entry.user_name) for entry in entries} == {(node, "otto", "root")}
    root.post(address, {"permissions": ["view_node"]})
    [gone] = Event.objects.filter(kind="access_withdrawn")
    assert gone.data["before"]["permission"] == "power_node"


def test_a_grant_to_a_group_says_so():
    node, group = make_node(), Group.objects.create(name="night shift")
    assign_perm("maintain_node", group, node)
    remove_perm("maintain_node", group, node)
    granted, gone = Event.objects.filter(node=node, target_type="group").order_by("pk")
    assert (granted.kind, gone.kind, gone.target_name) == (
        "access_granted",
        "access_withdrawn",
        "night shift",
    )


def test_memberships_and_permissions_are_told_from_both_sides():
    otto, group = make_user("otto"), Group.objects.create(name="admins")
    power = Permission.objects.get(codename="power_node")
    otto.groups.add(group)
    group.user_set.remove(otto)
    group.user_set.add(otto)
    otto.groups.clear()
    kinds = Event.objects.filter(kind="user_groups_changed").order_by("pk")
    assert [(row.data["before"]["groups"], row.data["after"]["groups"]) for row in kinds] == [
        ([], ["admins"]),
        (["admins"], []),
        ([], ["admins"]),
        (["admins"], []),
    ]
    group.permissions.set([power])
    otto.user_permissions.add(power)
    told_of_group = Event.objects.get(kind="group_permissions_changed")
    assert (told_of_group.target_name, told_of_group.data["added"]) == ("admins", ["power_node"])
    assert Event.objects.get(kind="user_permissions_changed").data["added"] == ["power_node"]


def test_what_is_added_again_or_removed_twice_is_no_change():
    otto, group = make_user("otto"), Group.objects.create(name="admins")
    otto.groups.add(group)
    Event.objects.all().delete()
    otto.groups.add(group)
    otto.groups.set([group])
    otto.groups.remove(Group.objects.create(name="other"))
    assert set(Event.objects.values_list("kind", flat=True)) == {"group_created"}


def test_a_password_is_told_as_changed_and_never_itself():
    otto = make_user("otto")
    otto.set_password("another horse battery")
    otto.save()
    entry = Event.objects.get(kind="user_changed")
    assert entry.data == {"before": {"password": "set"}, "after": {"password": "changed"}}
    assert "md5" not in str(Event.objects.values_list("data"))


def test_a_password_hashed_anew_at_a_sign_in_is_no_change(settings):
    otto = make_user("otto")
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    assert otto.check_password("correct horse battery")
    otto.refresh_from_db()
    assert otto.password.startswith("pbkdf2")
    assert not Event.objects.filter(kind="user_changed").exists()


def test_a_sign_in_is_no_change_of_the_user(client):
    make_user("otto")
    client.post(reverse("login"), {"username": "otto", "password": "correct horse battery"})
    assert Event.objects.filter(kind="signed_in").exists()
    assert not Event.objects.filter(kind="user_changed").exists()


def test_a_deleted_user_is_told_with_what_they_had():
    otto, group, node = make_user("otto"), Group.objects.create(name="admins"), make_node()
    otto.groups.add(group)
    assign_perm("view_node", otto, node)
    ApiToken.make(otto, "ci", timezone.now() + timedelta(days=1), read_only=True)
    otto.delete()
    gone = Event.objects.get(kind="user_deleted")
    assert (gone.data["before"]["groups"], gone.data["before"]["password"]) == (["admins"], "set")
    assert Event.objects.get(kind="token_deleted").data["deleted_with"] == "user"
    assert Event.objects.get(kind="access_withdrawn").data["before"]["permission"] == "view_node"


def test_a_deleted_node_takes_its_grants_and_credential_and_each_is_told():
    otto, node = make_user("otto"), make_node("kvm-09")
    assign_perm("view_node", otto, node)
    Credential.objects.create(node=node, kind="nodeadmin_key")
    node.delete()
    for kind in ("access_withdrawn", "credential_removed"):
        entry = Event.objects.get(kind=kind)
        assert (entry.node, entry.node_name, entry.data["deleted_with"]) == (None, "kvm-09", "node")


def test_a_token_is_told_when_it_is_made_and_revoked():
    token, text = ApiToken.make(make_user("otto"), "ci", timezone.now() + timedelta(days=1), read_only=True)
    made = Event.objects.get(kind="token_made")
    assert (made.target_name, made.data["after"]["user"], made.data["after"]["read_only"]) == (
        "ci",
        "otto",
        True,
    )
    assert text not in str(made.__dict__) and token.digest not in str(made.__dict__)
    token.touch()
    token.refresh_from_db()
    token.revoked_at = timezone.now()
    token.save(update_fields=["revoked_at"])
    changed = Event.objects.get(kind="token_changed")
    assert list(changed.data["after"]) == ["revoked_at"]


def test_a_stored_credential_is_told_and_sealed_anew_it_is_not():
    node = make_node("kvm-09")
    row = Credential.objects.create(node=node, kind="nodeadmin_key")
    stored = Event.objects.get(kind="credential_stored")
    assert (stored.node, stored.data["after"]) == (
        node,
        {"node": "kvm-09", "kind": "nodeadmin_key", "secret": "not set", "sudo_secret": "not set"},
    )
    Credential.objects.get(pk=row.pk).save()
    assert not Event.objects.filter(kind="credential_changed").exists()
    Bmc.objects.create(node=node, url="https://192.0.2.9", system_path="/x")
    assert Event.objects.get(kind="node_bmc_set").data["after"]["url"] == "https://192.0.2.9"


def test_what_is_rolled_back_leaves_no_entry():
    from django.db import transaction

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        make_user("otto")
        raise ZeroDivisionError
    assert not Event.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_change_whose_entry_cannot_be_written_is_not_made(monkeypatch):
    """Outside of any transaction of the caller's."""
    group = Group.objects.create(name="admins")

    def refuse(*args: object, **more: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr("nodes.audit.watch.record", refuse)
    group.name = "changed"
    with pytest.raises(RuntimeError):
        group.save()
    with pytest.raises(RuntimeError):
        group.delete()
    assert Group.objects.get().name == "admins"


@pytest.mark.django_db(transaction=True)
def test_entries_of_the_watch_are_part_of_the_chain():
    otto = make_user("otto")
    otto.groups.add(Group.objects.create(name="admins"))
    otto.delete()
    assert verify().is_clean
    assert not Event.objects.unsealed().exists()


def test_who_acts_is_named_without_being_passed_on():
    with acting(Actor(make_user("ada"), "192.0.2.1", Via.API, "ci")):
        Group.objects.create(name="admins")
    entry = Event.objects.get(kind="group_created")
    assert (entry.user_name, entry.source_ip, entry.via, entry.token_name) == (
        "ada",
        "192.0.2.1",
        "api",
        "ci",
    )


def test_nobody_named_is_nodeadmin_itself_and_still_an_entry():
    Group.objects.create(name="admins")
    entry = Event.objects.get(kind="group_created")
    assert (entry.user, entry.via, entry.category) == (None, "system", "audit")


def test_who_records_a_change_themselves_is_not_told_twice():
    with told():
        Group.objects.create(name="admins")
    assert not Event.objects.exists()


def test_a_watched_change_costs_two_queries_more(django_assert_num_queries):
    otto = make_user("otto")
    otto.is_staff = True
    # The row before, the change, the entry.
    with django_assert_num_queries(3):
        otto.save()
    # Nothing changed: no entry.
    with django_assert_num_queries(2):
        otto.save()
    with django_assert_num_queries(1):
        otto.save(update_fields=["last_login"])


def test_a_node_is_deleted_through_its_entry_and_leaves_the_log_whole():
    node = make_node()
    assign_perm("view_node", make_user(), node)
    assign_perm("power_node", make_user(), node)
    Node.objects.filter(pk=node.pk).delete()
    assert Event.objects.filter(kind="access_withdrawn", node=None).count() == 2


def test_another_password_does_not_pass_for_the_same_one_hashed_anew(settings):
    """As a fixture or a shell sets it: a hash of another kind, or of the same with other parameters."""
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    otto = make_user("otto")
    otto.refresh_from_db()
    for rounds in (5, 6):
        otto.password = PBKDF2PasswordHasher().encode(f"stolen-{rounds}", "salt", rounds)
        otto.save()
    assert [entry.data["after"] for entry in Event.objects.filter(kind="user_changed")] == [
        {"password": "changed"},
        {"password": "changed"},
    ]


def test_what_is_handed_to_somebody_else_is_told_with_both():
    otto, eve, node, other = make_user("otto"), make_user("eve"), make_node("a"), make_node("b")
    token, _text = ApiToken.make(otto, "ci", timezone.now() + timedelta(days=1), read_only=True)
    link = SocialAccount.objects.create(user=otto, provider="keycloak", uid="7")
    email = EmailAddress.objects.create(user=otto, email="otto@example.org")
    factor = Authenticator.objects.create(user=otto, type="totp", data={})
    credential = Credential.objects.create(node=node, kind="nodeadmin_key")
    bmc = Bmc.objects.create(node=node, url="https://192.0.2.9", system_path="/x")
    Event.objects.all().delete()
    for row in (token, link, email, factor):
        row.user = eve
        row.save()
    for row in (credential, bmc):
        row.node = other
        row.save()
    found = Event.objects.values_list("kind", "data__before", "data__after")
    assert {(kind, *before.values(), *after.values()) for kind, before, after in found} == {
        ("token_changed", "otto", "eve"),
        ("sign_in_link_changed", "otto", "eve"),
        ("email_changed", "otto", "eve"),
        ("second_factor_changed", "otto", "eve"),
        ("credential_changed", "a", "b"),
        ("node_bmc_set", "a", "b"),
    }


def test_a_change_far_into_a_long_value_is_one():
    row = JumpHost.objects.create(name="bastion", host="b", host_key="x" * 1500)
    row.host_key = "x" * 1400 + "y" * 100
    row.save()
    assert Event.objects.filter(kind="jump_host_changed").exists()


def test_who_loses_a_group_or_a_permission_with_its_deletion_is_told():
    otto, group = make_user("otto"), Group.objects.create(name="admins")
    kinds = ContentType.objects.get_for_model(Node), ContentType.objects.get_for_model(Bmc)
    one, alike = (Permission.objects.create(content_type=kind, codename="x", name="x") for kind in kinds)
    otto.groups.add(group, Group.objects.create(name="other"))
    otto.user_permissions.add(one, alike)
    group.permissions.add(one)
    Event.objects.all().delete()
    one.delete()
    changed = {entry.kind: entry.data for entry in Event.objects.all()}
    assert changed["user_permissions_changed"] == {
        "before": {"user_permissions": ["x", "x"]},
        "after": {"user_permissions": ["x"]},
        "added": [],
        "removed": ["x"],
    }
    assert changed["group_permissions_changed"]["removed"] == ["x"]
    Group.objects.filter(pk=group.pk).delete()
    entry = Event.objects.get(kind="user_groups_changed")
    assert (entry.target_name, entry.data["before"], entry.data["after"]) == (
        "otto",
        {"groups": ["admins", "other"]},
        {"groups": ["other"]},
    )


def test_a_sign_in_provider_in_the_database_is_told_without_its_secret():
    SocialApp.objects.create(
        provider="openid_connect", name="Evil", client_id="id", secret="hunter2", settings={"x": "hunter2"}
    )
    entry = Event.objects.get(kind="sign_in_provider_added")
    assert (entry.target_name, entry.data["after"]["secret"]) == ("Evil", "set")
    assert "hunter2" not in str(entry.__dict__)


def load(path: Path, *rows: dict[str, object]) -> None:
    path.write_text(json.dumps(rows))
    with acting(Actor(via=Via.COMMAND)):
        call_command("loaddata", path, verbosity=0)


def test_what_a_fixture_brings_is_told_as_any_other_change(tmp_path):
    otto, group = make_user("otto"), Group.objects.create(name="admins")
    Event.objects.all().delete()
    fields = {"username": "otto", "password": "!", "is_superuser": True, "groups": [group.pk]}
    fields |= {"date_joined": otto.date_joined.isoformat()}
    row = {"model": "nodes.user", "pk": otto.pk, "fields": fields}
    load(tmp_path / "fixture.json", row)
    found = {(entry.kind, entry.via, str(entry.data["after"])) for entry in Event.objects.all()}
    assert found == {
        ("user_changed", "command", "{'password': 'changed', 'is_superuser': True}"),
        ("user_groups_changed", "command", "{'groups': ['admins']}"),
    }
    load(tmp_path / "fixture.json", row)
    assert Event.objects.count() == 2


def test_a_fixture_may_have_a_row_before_the_one_that_it_points_to(tmp_path):
    email = {"user": 900, "email": "late@example.org", "verified": True, "primary": True}
    late = {"username": "late", "password": "!", "date_joined": timezone.now().isoformat()}
    load(
        tmp_path / "fixture.json",
        {"model": "account.emailaddress", "pk": 1, "fields": email},
        {"model": "nodes.user", "pk": 900, "fields": late},
    )
    entries = Event.objects.order_by("pk")
    assert [entry.kind for entry in entries] == ["email_added", "user_created"]
    assert (entries[0].target_id, entries[0].data["after"]["email"]) == ("900", "late@example.org")
