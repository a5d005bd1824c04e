"""Tokens: never more than their user has, never more than they were made for, and gone when revoked."""

from __future__ import annotations

import ast
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils import timezone

from nodes import permissions
from nodes.engine import confirm, tokens
from nodes.errors import ConfirmationInvalid, InvalidInput, PermissionDenied
from nodes.events import Actor
from nodes.models import ApiToken, Event, Node, Operation, RoleAssignment, User
from nodes.permissions import (
    ADD,
    ALL_PERMISSIONS,
    CHANGE,
    GRANT,
    MAINTAIN,
    NODE_PERMISSIONS,
    POWER,
    VIEW,
    VIEW_LOGS,
)
from nodes.realtime.access import Caller
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.factories import grant, make_node, make_operation, make_user
from tests.permissions.people import bearing, give, token_of

pytestmark = pytest.mark.django_db
SOON = timedelta(hours=1)


@pytest.fixture
def pair() -> tuple[Node, Node]:
    return make_node("a", labels={"rack": "a1"}), make_node("b", labels={"rack": "a2"})


@pytest.fixture
def root() -> User:
    return make_user("root", is_superuser=True, is_staff=True)


def caller(text: str, **client: str) -> Api:
    api = Api(None)
    api.headers["Authorization"] = f"Bearer {text}"
    api.client.defaults |= client
    return api


def names(user: User, permission: str = VIEW) -> str:
    return "".join(permissions.nodes_for(user, permission).order_by("name").values_list("name", flat=True))


def test_a_token_of_a_superuser_has_what_it_was_made_for_alone(root, pair):
    user = bearing(root, VIEW, MAINTAIN)
    assert permissions.model_permissions(user) == {VIEW, MAINTAIN}
    assert permissions.permissions_on(user, pair[0]) == {VIEW, MAINTAIN}
    assert (names(user), names(user, POWER)) == ("ab", "")
    with pytest.raises(PermissionDenied, match="token"):
        permissions.require(user, POWER, pair[0])


@pytest.mark.parametrize("limits", [{"scope": "nodes"}, {"scope": "labels", "selector": {"rack": "a1"}}])
@pytest.mark.parametrize("by", ["superuser", "model", "role", "grant"])
def test_a_token_for_some_nodes_is_for_those_whatever_its_user_has(pair, limits, by):
    user = make_user(is_superuser=by == "superuser")
    if by == "model":
        user.groups.add(Group.objects.create(name="all"))
        give(user, *ALL_PERMISSIONS)
    if by == "role":
        give(user, *NODE_PERMISSIONS, labels={"rack": "a1"})
        give(user, *NODE_PERMISSIONS, labels={"rack": "a2"})
    if by == "grant":
        for node in pair:
            grant(user, node, *NODE_PERMISSIONS)
    if limits["scope"] == "nodes":
        limits = limits | {"node_uuids": [str(pair[0].uuid)]}
    found = bearing(user, VIEW, POWER, ADD, **limits)
    for node in pair:
        make_operation(node)
        Event.objects.create(kind="x", node=node, message="m")
    make_operation(None, requested_by=user)
    Event.objects.create(kind="x", user=user, message="signed in")
    assert names(found) == names(found, POWER) == "a"
    assert names(found, CHANGE) == ""
    assert permissions.model_permissions(found) == frozenset()
    assert permissions.permissions_on(found, pair[0]) == {VIEW, POWER}
    assert permissions.permissions_on(found, pair[1]) == frozenset()
    assert [row.node for row in permissions.operations_for(found)] == [pair[0]]
    assert [row.node for row in permissions.events_for(found).filter(kind="x")] == [pair[0]]
    with pytest.raises(PermissionDenied):
        permissions.require(found, ADD)


def test_what_its_user_loses_a_token_loses_and_what_its_user_gains_it_does_not(pair):
    user = make_user()
    given = give(user, VIEW, MAINTAIN)
    _row, text = token_of(user, VIEW, MAINTAIN)
    call = caller(text)
    assert call("describe-node", {"node": "a"})[1]["permissions"] == [MAINTAIN, VIEW]
    RoleAssignment.objects.filter(pk=given.pk).delete()
    assert call("describe-node", {"node": "a"})[0] == 404
    give(user, *ALL_PERMISSIONS)
    assert call("describe-node", {"node": "a"})[1]["permissions"] == [MAINTAIN, VIEW]
    User.objects.filter(pk=user.pk).update(is_superuser=True)
    assert call("reboot-node", {"node": "a"})[0] == 403
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert call("describe-node", {"node": "a"})[0] == 401


def test_who_came_with_a_token_is_nothing_to_django(root):
    user = bearing(root)
    assert not (user.is_superuser or user.is_staff)
    for refused in (
        user.has_perm("nodes.view_node"),
        user.has_perms(["nodes.view_node"]),
        user.has_module_perms("nodes"),
        user.get_all_permissions(),
    ):
        assert not refused
    user.refresh_from_db()
    assert not (user.is_superuser or user.is_staff)
    assert permissions.has_for_all(user, POWER)
    with pytest.raises(TypeError):
        user.save()
    assert User.objects.get(pk=root.pk).is_superuser


def test_a_token_opens_no_page_and_no_admin(root, client):
    _row, text = token_of(root)
    headers = {"Authorization": f"Bearer {text}"}
    for address in (reverse("dashboard"), reverse("token-list"), reverse("admin:index")):
        assert client.get(address, headers=headers).status_code == 302


# -- networks and the last use ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "address", "taken"),
    [
        ([], "203.0.113.9", True),
        (["192.0.2.0/24"], "192.0.2.77", True),
        (["192.0.2.0/24"], "::ffff:192.0.2.77", True),
        (["192.0.2.0/24", "2001:db8::/32"], "2001:db8::1", True),
        (["192.0.2.0/24"], "192.0.3.1", False),
        (["192.0.2.0/24"], "", False),
        (["192.0.2.0/24"], "garbage", False),
    ],
)
def test_a_token_is_taken_from_its_networks_alone(root, networks, address, taken):
    row, text = token_of(root, networks=networks)
    status, answer = caller(text, REMOTE_ADDR=address)("list-nodes")
    assert status == (200 if taken else 401)
    scope = {"headers": [(b"authorization", f"Bearer {text}".encode())], "client": (address, 1)}
    assert (Caller.of(scope).user() is not None) == taken
    row.refresh_from_db()
    assert (row.last_used_at is not None) == taken
    if not taken:
        assert answer["detail"] == caller("na_" + "x" * 43)("list-nodes")[1]["detail"]


def test_the_last_use_is_kept_with_its_address(root):
    row, text = token_of(root)
    caller(text, REMOTE_ADDR="192.0.2.7")("list-nodes")
    row.refresh_from_db()
    assert row.last_used_from == "192.0.2.7"


# -- operations ------------------------------------------------------------------------------------


def queued(text: str) -> Operation:
    status, answer = caller(text)("refresh-node", {"node": "a"})
    assert status == 202
    return Operation.objects.get(pk=answer["id"])


def ended(operation: Operation) -> Operation:
    run_queued()
    operation.refresh_from_db()
    return operation


def test_an_operation_keeps_the_limits_that_it_was_asked_for_with(root, pair):
    row, text = token_of(root, VIEW, scope="nodes", node_uuids=[str(pair[0].uuid)])
    operation = queued(text)
    assert (operation.token, operation.token_limits) == (row, row.limits.to_row())
    requester = Operation.objects.get(pk=operation.pk).requester
    assert names(requester) == "a"
    assert not requester.is_superuser


def test_what_a_revoked_token_asked_for_is_not_done(root, pair):
    row, text = token_of(root, VIEW)
    operation = queued(text)
    tokens.revoke_token(Actor(root), row)
    found = ended(operation)
    assert (found.status, found.error["code"]) == ("failed", "permission_denied")
    assert "revoked" in found.message


def test_what_a_token_asked_for_before_it_expired_is_done(root, pair):
    row, text = token_of(root, VIEW)
    operation = queued(text)
    ApiToken.objects.filter(pk=row.pk).update(expires_at=timezone.now() - SOON)
    assert (ended(operation).error or {}).get("code") != "permission_denied"


def test_an_operation_does_not_outlive_the_right_of_its_token_s_user(pair):
    user = make_user()
    given = give(user, VIEW)
    operation = queued(token_of(user, VIEW)[1])
    given.delete()
    assert ended(operation).error["code"] == "permission_denied"


def test_the_right_is_read_anew_at_execution(pair):
    """Of the instance that was read with the operation, what the user had is remembered."""
    user = make_user(is_superuser=True)
    operation = queued(token_of(user)[1])
    User.objects.filter(pk=user.pk).update(is_superuser=False)
    assert ended(operation).error["code"] == "permission_denied"


def test_one_token_does_not_cancel_or_retry_what_takes_more_than_it_has(root, pair):
    operation = make_operation(pair[0], kind="update-node", status="failed", requested_by=root)
    running = make_operation(pair[0], kind="update-node", status="running", requested_by=root)
    weak = caller(token_of(root, VIEW)[1])
    assert weak("retry-operation", {"operation": str(operation.pk)})[0] == 403
    assert weak("cancel-operation", {"operation": str(running.pk)})[0] == 403


def test_nothing_outside_asks_an_operation_for_its_account():
    """``requested_by`` knows nothing of the token: what decides by it would decide with the whole account."""
    for path in [*Path("nodes/operations").rglob("*.py"), *Path("nodes/engine").rglob("*.py")]:
        for found in ast.walk(ast.parse(path.read_text())):
            if isinstance(found, ast.Attribute) and found.attr == "requested_by":
                pytest.fail(f"{path}:{found.lineno} reads requested_by; what decides reads requester")


# -- confirmations and repeated calls --------------------------------------------------------------


def test_a_confirmation_is_redeemed_with_the_token_that_it_was_given_to(root, pair):
    from nodes.operations.plans import Plan

    plan = Plan("reboot-node", "a", str(pair[0].uuid), {}, ())
    first, second = bearing(root), bearing(root, VIEW, POWER)
    text, _end = confirm.issue(first, "reboot-node", pair[0], {}, plan)
    assert confirm.read(text, first, "reboot-node", pair[0], {})
    for other in (second, root):
        with pytest.raises(ConfirmationInvalid):
            confirm.read(text, other, "reboot-node", pair[0], {})
    text, _end = confirm.issue(root, "reboot-node", pair[0], {}, plan)
    with pytest.raises(ConfirmationInvalid):
        confirm.read(text, second, "reboot-node", pair[0], {})


def test_an_answer_is_not_repeated_for_another_token(root, pair):
    body = {"node": "a", "notes": "in the cellar"}
    first, second = caller(token_of(root)[1]), caller(token_of(root, VIEW)[1])
    assert first("update-node", body, Idempotency_Key="k1")[0] == 200
    assert first("update-node", body, Idempotency_Key="k1")[0] == 200
    status, answer = second("update-node", body, Idempotency_Key="k1")
    assert (status, answer["code"]) == (422, "idempotency_key_reused")


# -- reading only ----------------------------------------------------------------------------------


def test_a_token_for_reading_only_has_no_permission_to_change_however_it_was_made(root, pair):
    user = bearing(root, *ALL_PERMISSIONS, read_only=True)
    assert permissions.permissions_on(user, pair[0]) == {VIEW, VIEW_LOGS, permissions.AUDIT}
    assert names(user, CHANGE) == names(user, POWER) == ""


def test_a_token_for_reading_only_starts_no_inventory(root, pair):
    call = caller(token_of(root, read_only=True)[1])
    for endpoint, body in (
        ("describe-node", {"node": "a", "refresh": True}),
        ("describe-node-pci", {"node": "a", "refresh": True}),
        ("refresh-node", {"node": "a"}),
    ):
        assert call(endpoint, body)[0] == 403
    assert call("describe-node", {"node": "a"})[0] == 200
    assert not Operation.objects.exists()


# -- making and revoking ---------------------------------------------------------------------------


def make(user: User, *names: str, read_only: bool = False, **fields: object) -> tuple[ApiToken, str]:
    actor = Actor(User.objects.get(pk=user.pk))
    return tokens.make_token(
        actor, "t", timezone.now() + SOON, permissions=names, read_only=read_only, **fields
    )


def test_a_token_is_made_for_a_part_of_what_its_user_has(pair):
    user = make_user("ursula")
    grant(user, pair[0], VIEW, POWER)
    give(user, MAINTAIN, labels={"rack": "a2"})
    row, _text = make(user, VIEW, POWER, MAINTAIN, nodes=[pair[0]], networks=["192.0.2.0/24"])
    assert (row.permissions, row.scope) == ([VIEW, MAINTAIN, POWER], "nodes")
    event = Event.objects.get(kind="token_made")
    assert (event.target_type, event.target_name, event.severity) == ("token", "t", "warning")
    assert event.data["after"]["networks"] == ["192.0.2.0/24"]


@pytest.mark.parametrize(
    ("names", "fields", "field"),
    [
        ([], {}, "permissions"),
        (["fly_node"], {}, "permissions"),
        ([VIEW, CHANGE], {}, "permissions"),
        ([POWER], {}, "permissions"),
        ([VIEW, POWER], {"read_only": True}, "permissions"),
        ([VIEW, ADD], {"labels": {"rack": "a1"}}, "permissions"),
        ([VIEW], {"labels": {"rack": "a1"}, "nodes": True}, "labels"),
        ([VIEW], {"labels": {"B A D": ""}}, "labels"),
        ([VIEW], {"labels": {"zone": "n"}}, "labels"),
        ([VIEW], {"networks": ["192.0.2.1/24"]}, "networks"),
        ([VIEW], {"networks": ["example.org"]}, "networks"),
        ([VIEW], {"networks": [f"10.0.{n}.0/24" for n in range(33)]}, "networks"),
    ],
)
def test_what_is_wrong_with_a_token_is_named_by_its_field(pair, names, fields, field):
    user = make_user()
    give(user, VIEW, POWER, labels={"rack": "a1"})
    give(user, ADD)
    if fields.get("nodes"):
        fields = fields | {"nodes": [pair[0]]}
    with pytest.raises(InvalidInput) as refusal:
        make(user, *names, **fields)
    assert refusal.value.field == field
    assert not ApiToken.objects.exists()


def test_who_may_not_grant_freezes_no_label_by_a_token(pair):
    user = make_user()
    give(user, VIEW)
    with pytest.raises(InvalidInput, match="rack"):
        make(user, VIEW, labels={"rack": "a1"})
    give(make_user(), VIEW, labels={"rack": "a2"})
    assert make(user, VIEW, labels={"rack": "a1"})[0].scope == "labels"
    give(user, GRANT)
    assert make(user, VIEW, labels={"zone": "n"})


def test_a_token_makes_no_token(root):
    limited = bearing(root)
    with pytest.raises(PermissionDenied):
        tokens.make_token(Actor(limited), "t", timezone.now() + SOON, permissions=[VIEW], read_only=True)


def test_a_user_has_a_hundred_tokens_at_most(root):
    ApiToken.objects.bulk_create(
        ApiToken(user=root, name=str(n), digest=str(n), expires_at=timezone.now()) for n in range(100)
    )
    with pytest.raises(InvalidInput, match="100"):
        make(root, VIEW)


def test_administrators_revoke_the_tokens_of_others_and_others_do_not(administrator, stranger, client):
    owner = make_user("olga")
    row, text = token_of(owner)
    with pytest.raises(PermissionDenied):
        tokens.revoke_token(Actor(stranger), row)
    client.force_login(administrator)
    page = client.get(reverse("token-list")).content.decode()
    assert "olga" in page
    assert client.post(reverse("token-revoke", args=[row.pk])).status_code == 302
    assert ApiToken.find(text) is None
    event = Event.objects.get(kind="token_revoked")
    assert (event.user_name, event.target_id, event.data["before"]["user"]) == ("ada", str(row.pk), "olga")
    assert not tokens.revoke_token(Actor(administrator), row)


def test_the_admin_revokes_tokens(root, client):
    rows = [token_of(make_user())[0] for _ in range(2)]
    client.force_login(root)
    data = {"action": "revoke", "_selected_action": [str(row.pk) for row in rows]}
    assert client.post(reverse("admin:nodes_apitoken_changelist"), data).status_code == 302
    assert not ApiToken.objects.filter(revoked_at=None).exists()
    assert Event.objects.filter(kind="token_revoked", via="admin").count() == 2
