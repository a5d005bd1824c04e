"""A fresh second factor for what can hurt: bound to what is done, used once, and asked for in the dialog."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from allauth.core.context import request_context
from allauth.mfa.models import Authenticator
from cryptography.fernet import Fernet
from django.core.cache import cache
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from nodes import second_factor
from nodes.engine import bmc, jump_hosts, requests, submit
from nodes.errors import SecondFactorRequired
from nodes.events import Actor, GivenFactor
from nodes.models import ApiToken, Bmc, Event, FactorProof, JumpHost, Node, Operation, Role, User
from nodes.models.event import Via
from tests.api.test_jump_hosts import make_jump_host
from tests.factories import make_node
from tests.second_factors import App, sign_in
from tests.web.conftest import HTMX

pytestmark = pytest.mark.django_db


@pytest.fixture
def node() -> Node:
    return make_node("kvm-01", uri="test:///default")


@pytest.fixture(autouse=True)
def required(settings):
    settings.NODEADMIN_REQUIRE_SECOND_FACTOR = "power"


@pytest.fixture
def in_a_request(rf):
    """What allauth knows of the request that is under way."""
    with request_context(rf.post("/")):
        yield


def dialog(client, node, action, **fields):
    return client.post(reverse("node-service", args=[node.name, action]), fields, headers=HTMX)


def plan(client, node, action="reboot"):
    """The dialog's answer to "show the plan", and the token in it."""
    answer = dialog(client, node, action, step="plan", vm_policy="stop")
    return answer, answer.context["token"]


def confirm(client, node, token, action="reboot", **fields):
    given = {"vm_policy": "stop", "typed": node.name, "confirm_token": token, "step": "confirm"}
    return dialog(client, node, action, **given | fields)


def login_of(user, *, key="a" * 32, **factor):
    return Actor(user, "192.0.2.7", Via.PAGE, session_key=key, factor=GivenFactor(**factor))


def test_a_reboot_is_done_with_a_code_given_in_its_dialog(administrator, node):
    app = App(administrator)
    client = sign_in("ada", app)
    shown, token = plan(client, node)
    assert 'name="factor_code"' in shown.content.decode()
    assert confirm(client, node, token, factor_code=app.code()).status_code == 204
    assert Operation.objects.get().kind == "reboot-node"
    assert not FactorProof.objects.exists()


@pytest.mark.parametrize(
    "given", [{}, {"factor_code": ""}, {"factor_code": "000000"}, {"factor_passkey": "{}"}]
)
def test_without_a_right_code_nothing_is_done_and_the_dialog_says_so(administrator, node, given):
    client = sign_in("ada", App(administrator))
    _shown, token = plan(client, node)
    answer = confirm(client, node, token, **given)
    assert answer.status_code == 422
    assert answer.context["factor"].error
    assert answer.context["token"] not in ("", token)
    assert not Operation.objects.exists()


def test_a_code_counts_once(administrator, node):
    app = App(administrator)
    client = sign_in("ada", app)
    _shown, token = plan(client, node)
    code = app.code()
    answer = confirm(client, node, token, factor_code=code, typed="another name")
    assert answer.status_code == 422
    assert confirm(client, node, answer.context["token"], factor_code=code).status_code == 204
    Operation.objects.all().delete()
    _shown, token = plan(client, node)
    for variant in (code, f"{code[:3]}-{code[3:]}", f" {code[:3]} {code[3:]}."):
        answer = confirm(client, node, token, factor_code=variant)
        assert answer.status_code == 422
        token = answer.context["token"]
    assert not Operation.objects.exists()


def test_a_recovery_code_counts_once_and_is_on_record(administrator, node):
    app = App(administrator)
    client = sign_in("ada", app)
    code = app.recovery_code()
    _shown, token = plan(client, node)
    assert confirm(client, node, token, factor_code=code).status_code == 204
    event = Event.objects.get(kind="recovery_code_used")
    assert (event.user_name, event.target_name, event.data) == ("ada", "ada", {"left": 9})
    Operation.objects.all().delete()
    _shown, token = plan(client, node)
    assert confirm(client, node, token, factor_code=code).status_code == 422


def test_who_has_no_factor_is_led_to_set_one_up(administrator, node):
    client = sign_in("ada")
    shown, token = plan(client, node)
    assert reverse("mfa_index") in shown.content.decode()
    assert confirm(client, node, token).status_code == 422
    assert not Operation.objects.exists()


@pytest.mark.parametrize("written", ["{0}{1}", "{0}-{1}", " {0} {1}."])
def test_a_code_counts_once_for_all_processes_however_it_is_written(administrator, in_a_request, written):
    app = App(administrator)
    code = app.code()
    assert second_factor.verify_code(administrator, code) is not None
    cache.clear()  # another process has seen nothing of it
    assert second_factor.verify_code(administrator, written.format(code[:3], code[3:])) is None


@pytest.mark.parametrize("setting", ["", "power", "all"])
def test_what_hurts_nobody_needs_no_fresh_factor(administrator, node, settings, setting):
    settings.NODEADMIN_REQUIRE_SECOND_FACTOR = setting
    client = sign_in("ada", App(administrator))
    assert dialog(client, node, "disable", step="plan").status_code == 204
    assert dialog(client, node, "enable", step="plan").status_code == 204


def test_switched_off_it_asks_nobody(administrator, node, settings):
    settings.NODEADMIN_REQUIRE_SECOND_FACTOR = ""
    client = sign_in("ada", App(administrator))
    shown, token = plan(client, node)
    assert "factor_code" not in shown.content.decode()
    assert confirm(client, node, token).status_code == 204


def test_a_drain_needs_one_where_it_stops_vms(administrator, node):
    app = App(administrator)
    client = sign_in("ada", app)
    fields = {"drain": "on", "vm_policy": "stop"}
    answer = dialog(client, node, "disable", step="plan", **fields)
    token = answer.context["token"]
    assert answer.context["factor"] is not None
    assert dialog(client, node, "disable", step="confirm", confirm_token=token, **fields).status_code == 422
    assert not Operation.objects.exists()


# -- what a proof is bound to ----------------------------------------------------------------------


def test_a_proof_serves_no_other_thing_no_other_login_and_no_other_user(
    administrator, stranger, in_a_request
):
    app = App(administrator)
    App(stranger)
    second_factor.prove(login_of(administrator, code=app.code()), "one thing")
    for actor, about in (
        (login_of(administrator), "another thing"),
        (login_of(administrator, key="b" * 32), "one thing"),
        (login_of(stranger), "one thing"),
        (Actor(administrator, via=Via.PAGE), "one thing"),
    ):
        with pytest.raises(SecondFactorRequired):
            second_factor.require_fresh(actor, "power", about=about)
    second_factor.require_fresh(login_of(administrator), "power", about="one thing")
    with pytest.raises(SecondFactorRequired):
        second_factor.require_fresh(login_of(administrator), "power", about="one thing")


def test_a_proof_is_too_old_after_five_minutes(administrator, in_a_request):
    app = App(administrator)
    second_factor.prove(login_of(administrator, code=app.code()), "grant")
    FactorProof.objects.update(made_at=timezone.now() - timedelta(seconds=second_factor.LIVES_S + 1))
    with pytest.raises(SecondFactorRequired):
        second_factor.require_fresh(login_of(administrator), "grant")


def test_tokens_commands_and_nodeadmin_itself_are_not_asked(administrator):
    for actor in (
        Actor(administrator, via=Via.API, token_name="backup"),
        Actor(administrator, via=Via.COMMAND),
        Actor(),
    ):
        second_factor.require_fresh(actor, "power")
    with pytest.raises(SecondFactorRequired):
        second_factor.require_fresh(Actor(administrator, via=Via.API), "power")


def test_wrong_codes_are_counted_and_then_refused_unread(administrator, node):
    app = App(administrator)
    client = sign_in("ada", app)
    for _number in range(6):
        _shown, token = plan(client, node)
        answer = confirm(client, node, token, factor_code="000000")
    assert "Too many wrong codes" in answer.content.decode()
    _shown, token = plan(client, node)
    assert confirm(client, node, token, factor_code=app.code()).status_code == 422
    assert Event.objects.filter(kind="second_factor_failed").count() <= 6


# -- the other calls that ask ----------------------------------------------------------------------


def test_credentials_a_bmc_and_power_on_need_one(administrator, node):
    App(administrator)
    actor = login_of(administrator)
    given = {"url": "https://127.0.0.1:1", "user": "root", "password": "p"}
    fingerprint = "SHA256:" + "A" * 43
    calls = (
        lambda: bmc.try_bmc(actor, node, given),
        lambda: requests.add_node(
            actor,
            name="kvm-09",
            uri="qemu+ssh://root@127.0.0.1:1/system",
            fingerprint=fingerprint,
            credential={"kind": "password", "password": "p"},
        ),
        lambda: requests.update_connection(
            actor,
            node,
            uri="qemu+ssh://root@127.0.0.1:1/system",
            fingerprint=fingerprint,
            credential={"kind": "nodeadmin_key"},
        ),
    )
    for call in calls:
        with pytest.raises(SecondFactorRequired):
            call()
    assert not Operation.objects.exists()


def test_each_change_of_how_a_node_is_entered_and_its_retry_need_one(administrator, node):
    App(administrator)
    actor = login_of(administrator)
    make_jump_host()
    for change in ({"uri": "test:///other"}, {"jump_host": ""}):
        with pytest.raises(SecondFactorRequired):
            requests.update_connection(actor, node, **change)
    failed = Operation.objects.create(
        kind="update-node", node=node, node_name="kvm-01", status="failed", params={"uri": "test:///default"}
    )
    with pytest.raises(SecondFactorRequired):
        submit.retry(failed, actor=actor)
    assert Operation.objects.get() == failed


def test_a_bmc_and_an_address_in_one_call_need_one_proof(administrator, node, in_a_request):
    app = App(administrator)
    Bmc.objects.create(node=node, url="https://192.0.2.1")
    client = sign_in("ada", app)
    given = {"call": "update-node", "node": "kvm-01"}
    api = partial(client.post, content_type="application/json")
    assert api("/api/verify-second-factor", given | {"code": app.code()}).status_code == 200
    body = {"node": "kvm-01", "bmc": None, "uri": "qemu+ssh://root@192.0.2.1/system"}
    body |= {"host_key_fingerprint": "SHA256:" + "A" * 43, "credential": {"kind": "nodeadmin_key"}}
    answer = api("/api/update-node", body)
    assert answer.status_code == 202, answer.content
    assert not Bmc.objects.exists() and not FactorProof.objects.exists()


def test_a_retry_is_made_on_a_page_that_asks_for_the_factor(administrator, node):
    app = App(administrator)
    client = sign_in("ada", app)
    failed = Operation.objects.create(
        kind="update-node", node=node, node_name="kvm-01", status="failed", params={"uri": "test:///default"}
    )
    url = reverse("operation-retry", args=[failed.pk])
    asked = client.post(url)
    assert asked.status_code == 403 and 'name="factor_code"' in asked.content.decode()
    wrong = client.post(url, {"factor_code": "000000"}).content.decode()
    assert "wrong or already used" in wrong
    assert client.post(url, {"factor_code": app.code()}).status_code == 302
    assert Operation.objects.count() == 2


def test_jump_hosts_and_the_own_key_need_one(administrator):
    app = App(administrator)
    client = sign_in("ada", app)
    actor, row = login_of(administrator), make_jump_host()
    credential = {"kind": "nodeadmin_key"}
    for call in (
        lambda: jump_hosts.add(actor, name="b", host="192.0.2.1", credential=credential),
        lambda: jump_hosts.update(actor, row, host="192.0.2.2"),
        lambda: jump_hosts.remove(actor, row),
    ):
        with pytest.raises(SecondFactorRequired):
            call()
    for page in (reverse("jump-host-add"), reverse("jump-host", args=[row.pk])):
        assert 'name="factor_code"' in client.get(page).content.decode()
    asked = client.post(reverse("own-key-rotate"))
    assert 'name="factor_code"' in asked.content.decode()
    token = {"confirm_token": asked.context["token"]}
    refused = client.post(reverse("own-key-rotate"), token)
    assert refused.status_code == 403 and refused.context["token"] == token["confirm_token"]
    assert not Operation.objects.exists()
    started = client.post(reverse("own-key-rotate"), token | {"factor_code": app.code()})
    assert started.status_code == 302 and Operation.objects.get().kind == "rotate-own-key"
    removal = reverse("jump-host-remove", args=[row.pk])
    assert 'name="factor_code"' in client.post(removal).content.decode()
    assert JumpHost.objects.exists()
    client.post(removal, {"factor_code": app.code()})
    assert not JumpHost.objects.exists()


def test_a_code_over_the_api_serves_the_jump_host_it_was_given_for(administrator):
    app = App(administrator)
    client = sign_in("ada", app)
    make_jump_host("one"), make_jump_host("two")
    api = partial(client.post, content_type="application/json")
    given = {"call": "remove-jump-host", "jump_host": "one", "code": app.code()}
    assert api("/api/verify-second-factor", given).status_code == 200
    assert api("/api/remove-jump-host", {"jump_host": "two"}).status_code == 403
    assert api("/api/remove-jump-host", {"jump_host": "one"}).status_code == 200


def test_a_token_is_made_with_one_and_not_without(administrator):
    app = App(administrator)
    client = sign_in("ada", app)
    form = {"name": "backup", "days": "30", "scope": "all", "permissions": ["view_node", "power_node"]}
    assert client.post(reverse("token-list"), form).status_code == 422
    assert not ApiToken.objects.exists()
    answer = client.post(reverse("token-list"), form | {"factor_code": app.code()})
    assert answer.context["made"]
    token = ApiToken.objects.get()
    assert (token.name, token.with_factor) == ("backup", True)
    ApiToken.objects.update(with_factor=False)
    assert "made without a second factor" in client.get(reverse("token-list")).content.decode()


def test_a_token_that_was_made_while_none_was_asked_for_is_known_for_it(administrator, settings):
    settings.NODEADMIN_REQUIRE_SECOND_FACTOR = ""
    client = sign_in("ada", App(administrator))
    form = {"name": "backup", "days": "30", "permissions": ["view_node", "power_node"]}
    assert client.post(reverse("token-list"), form).context["made"]
    assert ApiToken.objects.get().with_factor is False


def test_object_permissions_use_the_factor_up_with_a_valid_form_and_not_before(administrator, node):
    User.objects.filter(pk=administrator.pk).update(is_staff=True, is_superuser=True)
    app = App(administrator)
    client = sign_in("ada", app)
    choice = reverse("admin:nodes_node_permissions", args=[node.pk])
    away = client.get(choice)["Location"]
    assert client.post(away, {"factor_code": app.code()})["Location"] == choice
    chosen = client.post(choice, {"submit_manage_user": "1", "user": "ada"})
    assert FactorProof.objects.count() == 1
    answer = client.post(chosen["Location"], {"permissions": ["no_such"]})
    assert (answer.status_code, FactorProof.objects.count()) == (200, 1)
    assert client.post(chosen["Location"], {"permissions": ["view_node"]}).status_code == 302
    assert (FactorProof.objects.count(), Event.objects.filter(kind="access_granted").count()) == (0, 1)
    assert client.post(chosen["Location"], {"permissions": []})["Location"].startswith(
        reverse("factor-confirm")
    )
    assert Event.objects.filter(kind="access_withdrawn").count() == 0


def test_several_roles_are_removed_with_one_factor_all_or_none(administrator):
    User.objects.filter(pk=administrator.pk).update(is_staff=True, is_superuser=True)
    app = App(administrator)
    client = sign_in("ada", app)
    rows = [Role.objects.create(name=name, permissions=["view_node"]).pk for name in ("one", "two")]
    builtin = Role.objects.get(name="viewer").pk
    address = reverse("admin:nodes_role_changelist")
    data = {"action": "delete_selected", "post": "yes", "_selected_action": rows}
    away = client.post(address, data)["Location"]
    assert away.startswith(reverse("factor-confirm"))
    client.post(away, {"factor_code": app.code()})
    client.post(address, data | {"_selected_action": [*rows, builtin]})
    assert (Role.objects.filter(pk__in=rows).count(), FactorProof.objects.count()) == (2, 1)
    client.post(address, data)
    assert (Role.objects.filter(pk__in=rows).count(), FactorProof.objects.count()) == (0, 0)


def test_grants_in_the_admin_need_one_given_on_the_page_before(groups):
    root = User.objects.create_superuser("root", password="correct horse battery")
    app = App(root)
    client = sign_in("root", app)
    address = reverse("admin:nodes_user_change", args=[root.pk])
    answer = client.get(address)
    assert answer["Location"].startswith(reverse("factor-confirm"))
    assert client.post(answer["Location"], {"factor_code": "000000"}).status_code == 422
    assert client.post(answer["Location"], {"factor_code": app.code()})["Location"] == address
    page = client.get(address)
    form = dict.fromkeys(("first_name", "last_name", "email"), "") | {
        "username": "root", "is_active": "on", "is_staff": "on", "is_superuser": "on", "last_name": "Changed",
        "date_joined_0": f"{root.date_joined:%Y-%m-%d}", "date_joined_1": f"{root.date_joined:%H:%M:%S}",
    }  # fmt: skip
    assert page.status_code == 200
    assert client.post(address, form).status_code == 302
    assert User.objects.get(pk=root.pk).last_name == "Changed"
    assert client.post(address, form | {"last_name": "Again"})["Location"].startswith(
        reverse("factor-confirm")
    )
    assert User.objects.get(pk=root.pk).last_name == "Changed"


def test_the_confirmation_leads_to_no_other_site(administrator):
    app = App(administrator)
    client = sign_in("ada", app)
    address = reverse("factor-confirm") + "?for=grant&next=https://evil.example/"
    assert client.post(address, {"factor_code": app.code()})["Location"] == reverse("dashboard")


# -- required at each sign-in ----------------------------------------------------------------------


def test_a_login_without_the_required_factor_may_only_set_one_up(administrator, settings):
    settings.NODEADMIN_REQUIRE_SECOND_FACTOR = "all"
    client = sign_in("ada")
    for name in ("dashboard", "node-list", "settings", "token-list", "account_change_password"):
        assert client.get(reverse(name))["Location"] == reverse("mfa_index"), name
    User.objects.filter(pk=administrator.pk).update(is_staff=True, is_superuser=True)
    assert client.get("/admin/")["Location"] == reverse("mfa_index")
    answer = client.get(reverse("running"), headers=HTMX)
    assert (answer.status_code, answer["HX-Redirect"]) == (204, reverse("mfa_index"))
    answer = client.post("/api/list-nodes", {}, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_required")
    assert "requires a second factor" in client.get(reverse("mfa_index")).content.decode()


@pytest.mark.django_db(transaction=True)  # allauth tells of it after the commit
def test_setting_one_up_makes_the_login_whole_under_another_key(administrator, settings):
    settings.NODEADMIN_REQUIRE_SECOND_FACTOR = "all"
    client = sign_in("ada")
    before = client.session.session_key
    setting_up = reverse("mfa_activate_totp")
    again = client.get(setting_up)["Location"]
    assert again.startswith(reverse("account_reauthenticate"))
    client.post(again, {"password": "correct horse battery"})
    app = App.__new__(App)
    app.secret, app._given = client.get(setting_up).context["form"].secret, set()
    assert client.post(setting_up, {"code": app.code()}).status_code == 302
    assert client.session.session_key != before
    assert client.get(reverse("dashboard")).status_code == 200
    added = Event.objects.filter(kind="second_factor_added", target_name="ada", user_name="ada")
    assert [event.data["after"]["type"] for event in added.order_by("pk")] == ["totp", "recovery_codes"]


def test_a_password_alone_takes_no_factor_away(administrator):
    app = App(administrator)
    client = sign_in("ada", app)
    removal = reverse("mfa_deactivate_totp")
    assert client.post(removal)["Location"].startswith(reverse("account_reauthenticate"))
    again = client.post(reverse("account_reauthenticate"), {"password": "correct horse battery"})
    assert again["Location"].startswith(reverse("mfa_reauthenticate"))
    assert Authenticator.objects.filter(type="totp").exists()
    client.post(reverse("mfa_reauthenticate") + f"?next={removal}", {"code": app.code()})
    client.post(removal)
    assert not Authenticator.objects.exists()
    assert Event.objects.filter(kind="second_factor_removed", target_name="ada").count() == 2


def test_the_secrets_of_factors_are_sealed_and_rotated(administrator, settings, in_a_request):

    app = App(administrator)
    row = Authenticator.objects.get(type="totp")
    assert app.secret not in str(row.data)
    old, new = settings.NODEADMIN_SEAL_KEYS, Fernet.generate_key().decode()
    settings.NODEADMIN_SEAL_KEYS = f"{new},{old}"
    Event.objects.all().delete()
    call_command("rotate_keys")
    # No secret has changed, and it is on record that all were encrypted anew.
    assert list(Event.objects.values_list("kind", "category")) == [("secrets_reencrypted", "audit")]
    settings.NODEADMIN_SEAL_KEYS = new
    assert second_factor.verify_code(administrator, app.code()) is not None
