"""Callers × endpoints × pages × addresses of the admin: each by the tables in matrix.py, none left out.

One world for all of it, in one transaction that nothing ever commits; every call is rolled back.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.db import transaction
from django.test import Client, override_settings
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from nodes import access
from nodes.api import urls as api_urls
from nodes.models import (
    ApiToken,
    DeclaredSharedStorage,
    JumpHost,
    Node,
    Operation,
    OwnKeyPair,
    Role,
    RoleAssignment,
    User,
)
from tests.factories import make_user
from tests.permissions import matrix
from tests.permissions.matrix import CALLERS, ENDPOINTS, OPEN, PAGES, Caller
from tests.permissions.people import give
from tests.permissions.world import Trap, World

pytestmark = pytest.mark.django_db
"""Which has the database set up; the world is in a transaction around each test's own."""


@contextmanager
def rolled_back(client: Client | None = None) -> Iterator[None]:
    """What the block changes in the database, and in the client's cookies, is as it was after it."""
    cookies = copy.deepcopy(client.cookies) if client is not None else None
    with transaction.atomic():
        try:
            yield
        finally:
            transaction.set_rollback(True)
            if client is not None and cookies is not None:
                client.cookies = cookies


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    trap = Trap()
    quick = override_settings(NODEADMIN_HOST_TIMEOUT_S=2.0)
    with quick, django_db_blocker.unblock(), rolled_back():
        world = World(trap)
        world.state = state()
        yield world
    trap.close()
    access.close_pool()


def state() -> tuple[Any, ...]:
    """What a call that is refused, or that only reads, leaves as it was."""
    return (
        Operation.objects.count(),
        ApiToken.objects.filter(revoked_at=None).count(),
        DeclaredSharedStorage.objects.count(),
        Role.objects.count(),
        RoleAssignment.objects.count(),
        User.objects.filter(is_superuser=True).count(),
        list(JumpHost.objects.values_list("name", "host")),
        OwnKeyPair.objects.count(),
        Authenticator.objects.count(),
        UserSession.objects.filter(user__username="somebody").count(),
        list(Node.objects.order_by("pk").values_list("name", "notes", "uri", "labels", "scheduling")),
    )


def tried(caller: Caller) -> str:
    """The nodes to try: one where both are the same to the caller."""
    return "a" if not caller.known or caller.on_a == caller.on_b else "ab"


def told(world: World, caller: Caller, text: str, named: str) -> list[str]:
    """Names of nodes in ``text`` that the caller does not see, but for those that they named."""
    return [
        world.name(node)
        for node in "ab"
        if node not in caller.sees and world.name(node) in text and world.name(node) not in named
    ]


# -- nothing is left out ---------------------------------------------------------------------------


def addresses(patterns: Any = None, space: str = "") -> Iterator[tuple[str, str]]:
    """Every address of the server: its name with its namespace, and its pattern where it has no name."""
    for found in patterns if patterns is not None else get_resolver().url_patterns:
        if isinstance(found, URLResolver):
            inner = f"{space}{found.namespace}:" if found.namespace else space
            yield from addresses(found.url_patterns, inner)
        elif isinstance(found, URLPattern):
            yield f"{space}{found.name or ''}", str(found.pattern)


def test_every_endpoint_is_in_the_matrix():
    served = {name for names in api_urls.ENDPOINTS.values() for name in names}
    assert served == set(ENDPOINTS), "add the endpoint to tests/permissions/matrix.py"
    other = {name for name, _pattern in addresses() if name.startswith("api-")}
    assert other - {f"api-{name}" for name in served} == {"api-schema", "api-docs", "api-missing"}


def test_every_address_is_in_the_matrix():
    served = {name for name, _pattern in addresses() if not name.startswith(("api-", "admin:"))}
    assert served == {*PAGES, *OPEN}, "add the page to tests/permissions/matrix.py"


def test_no_two_addresses_have_one_name():
    """Only one of them would be tried."""
    counts = Counter(name for name, _pattern in addresses() if name.rpartition(":")[2])
    assert [name for name, count in counts.items() if count > 1] == []


def test_every_address_of_the_admin_is_in_the_matrix():
    served = {name.removeprefix("admin:") for name, _pattern in addresses() if name.startswith("admin:")}
    # Without a name are the redirect of an old form of address, one a model, and what is nowhere.
    assert served - {""} == set(matrix.ADMIN), "add the address to tests/permissions/matrix.py"


# -- endpoints -------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_each_endpoint_answers_each_caller_as_the_matrix_says(world: World, endpoint: str):
    wrong: list[str] = []
    reached = False
    for call in ENDPOINTS[endpoint]:
        for caller in CALLERS:
            for node in tried(caller) if call.of == "node" else ("both",):
                body = call.body(world, node)
                expected = call.expected(caller, node)
                cache.clear()
                with rolled_back():
                    answer = world.call(caller, endpoint, body)
                    changed = state() != world.state
                what = f"{caller.name} → {endpoint} {body}: {answer.status_code}"
                text = answer.content.decode()
                if answer.status_code not in expected:
                    wrong.append(f"{what}, expected {sorted(expected)}: {text[:200]}")
                refused = expected is not call.answers
                if (refused or call.reads) and changed:
                    wrong.append(f"{what} has changed something")
                connections = world.trap.count()
                if connections and (refused or not call.reaches):
                    wrong.append(f"{what} has connected to a host")
                if connections and caller.read_only and endpoint != "describe-node-logs":
                    wrong.append(f"{what} has connected to a host for reading")
                reached = reached or bool(connections)
                if names := told(world, caller, text, str(body)):
                    wrong.append(f"{what} names {names}")
                if call.lists and not refused:
                    shown = "".join(one for one in "ab" if world.name(one) in text)
                    if shown != caller.sees:
                        wrong.append(f"{what} shows {shown!r}, not {caller.sees!r}")
    assert not wrong, "\n".join(wrong)
    # The trap would have noticed.
    assert reached == any(call.reaches for call in ENDPOINTS[endpoint])


@pytest.mark.parametrize("name", ["api-schema", "api-docs", "api-missing"])
def test_what_is_beside_the_endpoints_takes_a_login(world: World, name: str):
    kinds = ("anonymous", "stranger", "read-only token", "revoked token")
    for caller in [one for one in CALLERS if one.name in kinds]:
        address = "/api/nowhere" if name == "api-missing" else reverse(name)
        with rolled_back():
            cache.clear()
            status = world.callers[caller.name].get(address).status_code
        wanted = {404} if name == "api-missing" else {200}
        assert status in (wanted if caller.known else {401, 404}), f"{caller.name} → {address}: {status}"


# -- pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_each_page_answers_each_caller_as_the_matrix_says(world: World, name: str):
    wrong: list[str] = []
    tokens = [caller for caller in CALLERS if caller.token]
    for page in PAGES[name]:
        # To a page a token is nothing, whatever it is for: one of them, the strongest, stands for all.
        for caller in [one for one in CALLERS if one not in tokens] + tokens[:1]:
            for node in tried(caller) if page.of == "node" else ("both",):
                for method in ("get", "post"):
                    if one := _wrong_page(world, name, page, caller, node, method):
                        wrong += one
    assert not wrong, "\n".join(wrong)


def _wrong_page(
    world: World, name: str, page: matrix.Page, caller: Caller, node: str, method: str
) -> list[str]:
    address = reverse(name, args=page.arguments(world, node)) + page.query
    data = page.data(world, node) if method == "post" else {}
    expected = page.expected(caller, node, method)
    access.close_pool()
    cache.clear()
    client = world.callers[caller.name]
    with rolled_back(client):
        answer = getattr(client, method)(address, data)
        text = "" if answer.streaming else answer.content.decode()
        changed = state() != world.state
    what = f"{caller.name} {method} {address}: {answer.status_code}"
    wrong = []
    if "//elsewhere" in answer.headers.get("Location", "").partition("?")[0]:
        wrong.append(f"{what} leads elsewhere")
    if answer.status_code not in expected:
        wrong.append(f"{what}, expected {sorted(expected)}")
    if expected == matrix.REDIRECTED and not answer["Location"].startswith(reverse("login")):
        wrong.append(f"{what} does not lead to the login")
    refused = expected is not page.answers
    if (refused or method == "get") and changed:
        wrong.append(f"{what} has changed something")
    connections = world.trap.count()
    if connections and (refused or page.reaches != method):
        plans = name == "node-service" and method == "post" and not refused
        if not plans:
            wrong.append(f"{what} has connected to a host")
    if names := told(world, caller, text, f"{address} {data}"):
        wrong.append(f"{what} names {names}")
    return wrong


@pytest.mark.parametrize("name", sorted(OPEN))
def test_what_is_open_tells_nothing(world: World, name: str):
    for caller in CALLERS:
        for method in ("get", "post"):
            client = world.callers[caller.name]
            with rolled_back(client):
                cache.clear()
                arguments = ["oidc"] if name.startswith("openid_connect") else []
                answer = getattr(client, method)(reverse(name, args=arguments))
                changed = state() != world.state
            text = answer.content.decode()
            if name == "metrics" and caller.name in ("read-only token", "token for all nodes"):
                assert answer.status_code == (200 if method == "get" else 405)
                continue
            assert "kvm-" not in text, f"{caller.name} {method} {name}"
            assert not changed
            # 403 and 404: of allauth and of a provider, where there is none.
            assert answer.status_code in (200, 302, 401, 403, 404, 405)


# -- the admin -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def staff(world: World) -> dict[str, Any]:
    """Staff of each kind, and a superuser's token."""
    clients: dict[str, Any] = {}
    for name in ("stranger", "viewer of a", "granter", "administrator", "superuser"):
        user = make_user(f"staff {name}", is_staff=True, is_superuser=name == "superuser")
        if name == "viewer of a":
            give(user, "view_node", node=world.nodes["a"])
        if name == "granter":
            give(user, "grant_access")
        if name == "administrator":
            user.groups.add(Group.objects.get(name="administrators"))
        clients[name] = Client(raise_request_exception=False)
        clients[name].force_login(user)
    for name in ("anonymous", "stranger", "token for all nodes"):
        clients[f"no staff: {name}"] = world.callers[name]
    world.state = state()
    return clients


MAY = {
    matrix.EVERYBODY: lambda name: True,
    matrix.STAFF: lambda name: not name.startswith("no staff"),
    matrix.GRANTERS: lambda name: name in ("granter", "administrator", "superuser"),
    matrix.KEEPERS: lambda name: name in ("administrator", "superuser"),
    matrix.DECLARERS: lambda name: name in ("administrator", "superuser"),
    matrix.SUPERUSERS: lambda name: name == "superuser",
    matrix.NODE: lambda name: name in ("viewer of a", "administrator", "superuser"),
    matrix.NOBODY: lambda name: False,
}


def admin_arguments(world: World, name: str) -> list[Any]:
    model = name.rpartition("_")[0].removeprefix("nodes_")
    node = world.nodes["a"]
    if name == "app_list":
        return ["nodes"]
    if name.startswith("password"):
        return []
    if name == "nodes_node_permissions":
        return [node.pk]
    if name.startswith("nodes_node_permissions_manage"):
        group = Group.objects.get(name="viewers").pk
        return [node.pk, world.root.pk if name.endswith("user") else group]
    if name == "auth_user_password_change":
        return [world.root.pk]
    if name.rpartition("_")[2] not in ("change", "history", "delete"):
        return []
    keys = {
        "apitoken": world.others_token,
        "declaredsharedstorage": world.declared,
        "role": world.role.pk,
        "roleassignment": world.assignment.pk,
        "user": world.root.pk,
        "jumphost": world.jump_host.pk,
        "ownkeypair": world.own_key,
        "mfa_authenticator": world.others_factor,
        "usersessions_usersession": world.others_session,
        "auth_group": Group.objects.get(name="viewers").pk,
    }
    return [world.rows["a"].get(model) or keys.get(model) or 1]


ENDS_OR_HAS_NO_ROW = re.compile("login|logout|^password_change|axes_.*_(change|history|delete)$")
"""Addresses that lead away whoever asks, and rows of which there are none."""


@pytest.mark.parametrize("name", matrix.ADMIN)
def test_each_address_of_the_admin_answers_as_the_matrix_says(world: World, staff: dict[str, Any], name: str):
    address = reverse(f"admin:{name}", args=admin_arguments(world, name))
    may = MAY[matrix.ADMIN[name]]
    wrong: list[str] = []
    for caller, client in staff.items():
        if may(caller):
            if ENDS_OR_HAS_NO_ROW.search(name):
                continue
            with rolled_back(client):
                status = client.get(address).status_code
            if status != 200:
                wrong.append(f"{caller} get {address}: {status}, and they may")
            continue
        for method in ("get", "post"):
            with rolled_back(client):
                cache.clear()
                answer = getattr(client, method)(address, {"post": "yes"} if method == "post" else {})
                changed = state() != world.state
            what = f"{caller} {method} {address}: {answer.status_code}"
            # guardian's pages send back to where one came from, with a message.
            back = "permissions" in address
            away = answer.status_code == 302 and (back or answer["Location"] not in (address, "../"))
            if answer.status_code not in (403, 404, 405) and not away:
                wrong.append(f"{what}, and they may not")
            if changed:
                wrong.append(f"{what} has changed something")
    assert not wrong, "\n".join(wrong)


# -- a login without the second factor that the settings ask for -----------------------------------


@pytest.fixture
def all_need_a_factor() -> Iterator[None]:
    with override_settings(NODEADMIN_REQUIRE_SECOND_FACTOR="all"):
        yield


def _tried_without(world: World, client: Client, method: str, address: str, body: Any = None) -> Any:
    cache.clear()
    kind = {"content_type": "application/json"} if isinstance(body, str) else {}
    with rolled_back(client):
        answer = getattr(client, method)(address, body or {}, **kind)
        assert state() == world.state, f"{method} {address} has changed something"
    assert not world.trap.count(), f"{method} {address} has connected to a host"
    return answer


def test_a_superuser_without_the_factor_has_no_endpoint(world: World, all_need_a_factor: None):
    client = world.callers["superuser"]
    wrong = []
    for name, calls in ENDPOINTS.items():
        for call in calls:
            answer = _tried_without(world, client, "post", f"/api/{name}", json.dumps(call.body(world, "a")))
            if (answer.status_code, answer.json().get("code")) != (403, "second_factor_required"):
                wrong.append(f"{name}: {answer.status_code} {answer.content[:100]!r}")
    assert _tried_without(world, client, "get", reverse("api-schema")).status_code == 403
    assert _tried_without(world, client, "get", reverse("api-docs"))["Location"] == reverse("mfa_index")
    assert not wrong, "\n".join(wrong)


def test_a_superuser_without_the_factor_is_led_to_set_one_up_from_every_page(
    world: World, all_need_a_factor: None
):
    client = world.callers["superuser"]
    addresses = {name: reverse(name, args=PAGES[name][0].arguments(world, "a")) for name in PAGES}
    addresses |= {f"admin:{name}": reverse(f"admin:{name}", args=admin_arguments(world, name))
                  for name in matrix.ADMIN}  # fmt: skip
    wrong = []
    for name, address in addresses.items():
        if address.startswith(("/account/second-factor/", "/account/password-again/")):
            continue
        for method in ("get", "post"):
            answer = _tried_without(world, client, method, address)
            if (answer.status_code, answer.headers.get("Location")) != (302, reverse("mfa_index")):
                wrong.append(f"{method} {name}: {answer.status_code}")
    assert not wrong, "\n".join(wrong)


def test_a_token_is_none_of_that(world: World, all_need_a_factor: None):
    with rolled_back():
        caller = next(one for one in CALLERS if one.name == "token for all nodes")
        assert world.call(caller, "list-nodes", {}).status_code == 200
