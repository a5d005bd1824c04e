"""A node's BMC over the API: set, shown, replaced, removed, and asked for by power-on-node."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission

from nodes import access
from nodes.models import Bmc, Event, Node, Operation, OperationStatus
from tests.factories import grant, make_node
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.software_bmc import PASSWORD, USER, SoftwareBmc, define_machine

pytestmark = [pytest.mark.django_db, pytest.mark.skipif(not AVAILABLE, reason="needs root and libvirtd")]
MACHINE = "11111111-2222-4333-8444-555555555555"
OTHER = "66666666-7777-4888-9999-aaaaaaaaaaaa"
SYSTEM = f"/redfish/v1/Systems/{MACHINE}"


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibvirtHost]:
    with LibvirtHost(tmp_path_factory.mktemp("machines")) as host:
        define_machine(host, "machine", MACHINE)
        yield host


@pytest.fixture(scope="module")
def bmc(machines: LibvirtHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareBmc]:
    with SoftwareBmc(tmp_path_factory.mktemp("bmc"), prefix=machines.inside) as running:
        yield running


@pytest.fixture
def node(db: None) -> Node:
    return make_node("kvm-01", firmware_uuid=MACHINE)


def settings_of(bmc: SoftwareBmc, **changes: str) -> dict[str, str]:
    given = {
        "url": bmc.address.url,
        "user": USER,
        "password": PASSWORD,
        "certificate_fingerprint": bmc.fingerprint,
    }
    return {name: value for name, value in (given | changes).items() if value}


def test_a_bmc_is_tried_kept_and_described_without_its_password(administrator, api, node, bmc):
    call = api(administrator)
    assert call("describe-node", {"node": "kvm-01"})[1]["bmc"] is None
    status, body = call("update-node", {"node": "kvm-01", "bmc": settings_of(bmc), "notes": "n"})
    assert status == 200, body
    shown = body["bmc"]
    assert (shown["url"], shown["user"], shown["system"]) == (bmc.address.url, USER, SYSTEM)
    assert shown["certificate_fingerprint"].replace(":", "").lower() == bmc.fingerprint
    assert call("describe-node", {"node": "kvm-01"})[1]["bmc"] == shown
    row = Bmc.objects.get()
    assert row.secret is not None
    assert access.bmc_target(row.node).password == PASSWORD
    assert Node.objects.get().notes == "n"
    event = Event.objects.get(kind="node_bmc_set")
    assert event.data["after"]["url"] == bmc.address.url
    assert (event.data["before"], event.data["after"]["password"]) == (None, "set")
    # Given again: that it was is all that anybody can say of it.
    assert call("update-node", {"node": "kvm-01", "bmc": settings_of(bmc)})[0] == 200
    again = Event.objects.filter(kind="node_bmc_set").latest("pk")
    assert (again.data["before"]["password"], again.data["after"]["password"]) == ("set", "changed")
    told = json.dumps([body, event.data, event.message, call("list-events")[1]])
    assert PASSWORD not in told
    assert bytes(PASSWORD, "ascii") not in bytes(Bmc.objects.values_list("secret", flat=True).get()._token)


def test_a_certificate_that_nobody_vouches_for_is_shown_and_nothing_is_kept(administrator, api, node, bmc):
    status, body = api(administrator)(
        "update-node",
        {"node": "kvm-01", "notes": "changed", "bmc": settings_of(bmc, certificate_fingerprint="")},
    )
    assert (status, body["code"], body["reason"]) == (502, "bmc_failed", "certificate_unknown")
    assert body["shown"].replace(":", "").lower() == bmc.fingerprint
    assert body["shown"] in body["detail"]
    assert body["errors"][0]["field"] == "bmc.certificate_fingerprint"
    assert not Bmc.objects.exists()
    assert Node.objects.get().notes == ""
    # The fingerprint as it was shown is what confirms it.
    given = settings_of(bmc, certificate_fingerprint=body["shown"])
    assert api(administrator)("update-node", {"node": "kvm-01", "bmc": given})[0] == 200


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"password": "wrong-password"}, "authentication_failed"),
        ({"certificate_fingerprint": "ab" * 32}, "certificate_differs"),
        ({"system": "no-such-system"}, "no_such_system"),
        ({"url": "https://127.0.0.1:1"}, "no_redfish_service"),
    ],
)
def test_one_that_fails_its_trial_leaves_the_old_one_alone(
    administrator, api, node, bmc, changes, reason, settings
):
    call = api(administrator)
    assert call("update-node", {"node": "kvm-01", "bmc": settings_of(bmc)})[0] == 200
    before = Bmc.objects.values().get()
    if reason == "no_redfish_service":  # told when the deadline is over
        settings.NODEADMIN_HOST_TIMEOUT_S = 1.0
    status, body = call("update-node", {"node": "kvm-01", "bmc": settings_of(bmc, **changes)})
    assert (status, body["reason"]) == (502, reason)
    assert body["code"] == ("bmc_unreachable" if reason == "no_redfish_service" else "bmc_failed")
    assert "wrong-password" not in json.dumps(body)
    after = Bmc.objects.values().get()
    assert {**after, "secret": None} == {**before, "secret": None}
    assert access.bmc_target(Bmc.objects.get().node).password == PASSWORD


def test_the_bmc_of_another_machine_is_refused_unless_its_system_is_named(administrator, api, bmc):
    make_node("kvm-02", firmware_uuid=OTHER)
    call = api(administrator)
    status, body = call("update-node", {"node": "kvm-02", "bmc": settings_of(bmc)})
    assert (status, body["reason"]) == (502, "other_system")
    assert MACHINE in body["detail"]
    assert OTHER in body["detail"]
    assert call("update-node", {"node": "kvm-02", "bmc": settings_of(bmc, system=MACHINE)})[0] == 200


def test_null_removes_it_and_its_secret(administrator, api, node, bmc):
    call = api(administrator)
    call("update-node", {"node": "kvm-01", "bmc": settings_of(bmc)})
    status, body = call("update-node", {"node": "kvm-01", "bmc": None})
    assert (status, body["bmc"]) == (200, None)
    assert not Bmc.objects.exists()
    assert Event.objects.filter(kind="node_bmc_removed").count() == 1
    assert call("update-node", {"node": "kvm-01", "bmc": None})[0] == 200
    assert Event.objects.filter(kind="node_bmc_removed").count() == 1


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "bmc.url"),
        ({"url": "http://10.0.0.7"}, "bmc.url"),
        ({"url": "https://root:hunter22@10.0.0.7"}, "bmc.url"),
        ({"url": "https://10.0.0.7", "user": "admin"}, "bmc.password"),
        ({"url": "https://10.0.0.7", "password": "hunter22"}, "bmc.user"),
        ({"url": "https://10.0.0.7", "certificate_fingerprint": "abc"}, "bmc.certificate_fingerprint"),
        ({"url": "https://10.0.0.7", "insecure": True}, "bmc.insecure"),
    ],
)
def test_what_cannot_be_a_bmc_is_400_and_names_the_field(administrator, api, node, given, field):
    status, body = api(administrator)("update-node", {"node": "kvm-01", "bmc": given})
    assert (status, body["code"]) == (400, "invalid_input")
    assert field in [error["field"] for error in body["errors"]]
    assert "hunter22" not in json.dumps(body)


def test_its_certificate_is_scanned_by_who_may_scan_and_change_the_node(operator, api, node, bmc):
    body = {"node": "kvm-01", "url": bmc.address.url}
    call = api(operator)
    assert call("scan-bmc-certificate", body)[0] == 404
    grant(operator, node, "view_node", "power_node")
    assert call("scan-bmc-certificate", body)[0] == 403
    grant(operator, node, "change_node")
    assert call("scan-bmc-certificate", body)[0] == 403
    operator.user_permissions.add(Permission.objects.get(codename="scan_host"))
    assert api(operator, read_only=True)("scan-bmc-certificate", body)[0] == 403
    status, shown = call("scan-bmc-certificate", body)
    assert status == 200
    assert shown["certificate_fingerprint"].replace(":", "").lower() == bmc.fingerprint
    assert (shown["vouched_for"], shown["subject"]) == (False, "CN=bmc")
    assert shown["doubt"]
    assert not Bmc.objects.exists()


def test_power_on_needs_its_permission_and_a_bmc(operator, api, node, bmc, administrator):
    call = api(operator)
    assert call("power-on-node", {"node": "kvm-01"})[0] == 404
    grant(operator, node, "view_node", "maintain_node", "change_node")
    assert call("power-on-node", {"node": "kvm-01"})[1]["code"] == "permission_denied"
    grant(operator, node, "power_node")
    status, body = call("power-on-node", {"node": "kvm-01"})
    assert (status, body["code"]) == (409, "bmc_missing")
    assert not Operation.objects.exists()
    call("update-node", {"node": "kvm-01", "bmc": settings_of(bmc)})
    status, body = call("power-on-node", {"node": "kvm-01"}, Idempotency_Key="k1")
    assert (status, body["kind"]) == (202, "power-on-node")
    assert call("power-on-node", {"node": "kvm-01"}, Idempotency_Key="k1")[1]["id"] == body["id"]
    assert call("power-on-node", {"node": "kvm-01"})[1]["code"] == "node_busy"
    assert Operation.objects.get().status == OperationStatus.QUEUED


def test_a_node_that_goes_takes_its_bmc_along(administrator, api, node, bmc):
    api(administrator)("update-node", {"node": "kvm-01", "bmc": settings_of(bmc)})
    node.delete()
    assert not Bmc.objects.exists()


def test_secrets_of_bmcs_are_sealed_anew_with_the_others(administrator, api, node, bmc, settings):
    from cryptography.fernet import Fernet
    from django.core.management import call_command

    api(administrator)("update-node", {"node": "kvm-01", "bmc": settings_of(bmc)})
    fresh = Fernet.generate_key().decode()
    settings.NODEADMIN_SEAL_KEYS = f"{fresh},{settings.NODEADMIN_SEAL_KEYS}"
    call_command("rotate_keys")
    settings.NODEADMIN_SEAL_KEYS = fresh
    assert access.bmc_target(Bmc.objects.get().node).password == PASSWORD
