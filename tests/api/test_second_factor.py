"""A second factor over the API: what a person's login gives before a call that asks for one."""

from __future__ import annotations

import pytest

from nodes.models import ApiToken, Bmc, Operation
from tests.api.conftest import Api
from tests.factories import grant, make_node
from tests.second_factors import App, sign_in

pytestmark = pytest.mark.django_db
STOP = {"node": "alpha", "vm_policy": "stop"}


class Login(Api):
    """The API as a browser's login calls it."""

    def __init__(self, client):
        super().__init__(None)
        self.client = client


@pytest.fixture(autouse=True)
def required(settings):
    settings.NODEADMIN_REQUIRE_SECOND_FACTOR = "power"


@pytest.fixture
def node():
    return make_node("alpha", uri="test:///default")


def planned(login, call="reboot-node"):
    status, answer = login(call, STOP)
    assert status == 428
    return answer["confirm_token"]


def test_a_confirmed_call_is_made_after_a_code_for_its_token(administrator, node):
    app = App(administrator)
    login = Login(sign_in("ada", app))
    token = planned(login)
    status, answer = login("reboot-node", STOP | {"confirm_token": token})
    assert (status, answer["code"], answer["enrol"]) == (403, "second_factor_required", False)
    assert login("verify-second-factor", {"code": app.code(), "confirm_token": token})[0] == 200
    assert login("reboot-node", STOP | {"confirm_token": token})[0] == 202


def test_a_code_for_one_confirmation_serves_no_other(administrator, node):
    app = App(administrator)
    login = Login(sign_in("ada", app))
    first, second = planned(login), planned(login, "shutdown-node")
    assert login("verify-second-factor", {"code": app.code(), "confirm_token": first})[0] == 200
    status, answer = login("shutdown-node", STOP | {"confirm_token": second})
    assert (status, answer["code"]) == (403, "second_factor_required")
    assert not Operation.objects.exists()


def test_the_same_idempotency_key_goes_on_after_the_factor_was_given(administrator, node):
    app = App(administrator)
    login = Login(sign_in("ada", app))
    body = STOP | {"confirm_token": planned(login)}
    assert login("reboot-node", body, Idempotency_Key="one")[0] == 403
    login("verify-second-factor", {"code": app.code(), "confirm_token": body["confirm_token"]})
    assert login("reboot-node", body, Idempotency_Key="one")[0] == 202


def test_power_on_takes_one_for_its_own_node_alone(administrator, node):
    app = App(administrator)
    login = Login(sign_in("ada", app))
    other = make_node("beta")
    for one in (node, other):
        Bmc.objects.create(node=one, url="https://127.0.0.1:1", system_path="/redfish/v1/Systems/1")
    given = {"code": app.code(), "call": "power-on-node", "node": "beta"}
    assert login("verify-second-factor", given)[0] == 200
    assert login("power-on-node", {"node": "alpha"})[0] == 403
    assert login("power-on-node", {"node": "beta"})[0] == 202


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"code": "123456"},
        {"code": "123456", "call": "power-on-node"},
        {"code": "123456", "call": "format-disks"},
        {"code": "123456", "passkey": {}, "call": "add-node"},
        {"code": "1" * 33, "call": "add-node"},
        {"code": 123456, "call": "add-node"},
        {"call": "add-node"},
        {"code": "123456", "call": "add-node", "confirm_token": "x"},
    ],
)
def test_what_does_not_fit_is_named(administrator, node, body):
    login = Login(sign_in("ada", App(administrator)))
    status, answer = login("verify-second-factor", body)
    assert (status, answer["code"]) == (400, "invalid_input")


@pytest.mark.parametrize("passkey", [{}, {"id": 7}, {"response": None}, {"id": "a", "response": {"a": [[]]}}])
def test_a_passkeys_answer_that_is_none_is_refused(administrator, passkey):
    login = Login(sign_in("ada", App(administrator)))
    status, answer = login("verify-second-factor", {"passkey": passkey, "call": "add-node"})
    assert (status, answer["code"]) == (403, "second_factor_required")


def test_a_node_that_one_may_not_see_is_told_to_nobody(stranger, node):
    app = App(stranger)
    login = Login(sign_in("stella", app))
    body = {"code": app.code(), "call": "power-on-node", "node": "alpha"}
    assert login("verify-second-factor", body)[1]["code"] == "unknown_node"


def test_it_says_what_the_login_can_give(administrator, operator, node):
    status, answer = Login(sign_in("ada", App(administrator)))("describe-second-factor", {"call": "grant"})
    assert status == 200
    assert answer == {"required": True, "kinds": ["recovery_codes", "totp"], "passkey": None}
    grant(operator, node, "view_node")
    answer = Login(sign_in("otto"))("describe-second-factor", {"call": "power-on-node", "node": "alpha"})[1]
    assert answer == {"required": True, "kinds": [], "passkey": None}


def test_a_token_that_was_made_with_one_needs_none_and_is_told_so(api, administrator, node):
    App(administrator)
    token = api(administrator)
    ApiToken.objects.update(with_factor=True)
    assert token("verify-second-factor", {"code": "1", "call": "add-node"})[0] == 400
    answer = token("reboot-node", STOP)[1]
    assert token("reboot-node", STOP | {"confirm_token": answer["confirm_token"]})[0] == 202


def test_a_token_that_was_made_without_one_does_nothing_that_needs_one(api, administrator, node):
    Bmc.objects.create(node=node, url="https://127.0.0.1:1", system_path="/redfish/v1/Systems/1")
    token = api(administrator)
    plan = token("reboot-node", STOP)[1]
    calls = {
        "reboot-node": STOP | {"confirm_token": plan["confirm_token"]},
        "power-on-node": {"node": "alpha"},
        "update-node": {
            "node": "alpha",
            "uri": "qemu+ssh://root@127.0.0.1:1/system",
            "host_key_fingerprint": "SHA256:" + "A" * 43,
            "credential": {"kind": "password", "password": "p"},
        },
        "add-node": {
            "name": "beta",
            "uri": "qemu+ssh://root@127.0.0.1:1/system",
            "host_key_fingerprint": "SHA256:" + "A" * 43,
            "credential": {"kind": "password", "password": "p"},
        },
    }
    for call, body in calls.items():
        status, answer = token(call, body)
        assert (status, answer["code"]) == (403, "permission_denied"), call
        assert "Make a new token" in answer["detail"], call
    assert not Operation.objects.exists()
    assert token("disable-node", {"node": "alpha"})[0] == 200
    assert token("list-nodes", {})[0] == 200


def test_where_none_is_required_every_token_does_what_it_may(api, administrator, node, settings):
    settings.NODEADMIN_REQUIRE_SECOND_FACTOR = ""
    token = api(administrator)
    plan = token("reboot-node", STOP)[1]
    assert token("reboot-node", STOP | {"confirm_token": plan["confirm_token"]})[0] == 202
