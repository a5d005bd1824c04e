"""A node's BMC on its pages: looked at, confirmed, kept, shown without its password, removed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.urls import reverse

from nodes.models import Bmc, Event, Node
from tests.factories import grant, make_node
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.software_bmc import PASSWORD, USER, SoftwareBmc, define_machine
from tests.web.conftest import HTMX

pytestmark = [pytest.mark.django_db, pytest.mark.skipif(not AVAILABLE, reason="needs root and libvirtd")]
MACHINE = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(scope="module")
def bmc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareBmc]:
    with LibvirtHost(tmp_path_factory.mktemp("machines")) as host:
        define_machine(host, "machine", MACHINE)
        with SoftwareBmc(tmp_path_factory.mktemp("bmc"), prefix=host.inside) as running:
            yield running


@pytest.fixture
def node(db: None) -> Node:
    return make_node("kvm-01", firmware_uuid=MACHINE)


def page(name: str) -> str:
    return reverse(name, args=["kvm-01"])


def typed(bmc: SoftwareBmc, **changes: str) -> dict[str, str]:
    return {"url": bmc.address.url, "user": USER, "password": PASSWORD, "system": ""} | changes


def shown(bmc: SoftwareBmc) -> str:
    digits = bmc.fingerprint.upper()
    return ":".join(digits[i : i + 2] for i in range(0, 64, 2))


def test_the_certificate_is_looked_at_before_anything_is_sent(admin_page, node, bmc):
    before = bmc.log
    answer = admin_page.post(page("node-bmc-scan"), {"url": bmc.address.url}, headers=HTMX)
    text = answer.content.decode()
    assert shown(bmc) in text
    assert f"openssl s_client -connect 127.0.0.1:{bmc.address.port}" in text
    assert "none that is trusted" in text
    asked = [line for line in bmc.log.removeprefix(before).splitlines() if "GET" in line]
    assert all("GET /redfish/v1/ " in line for line in asked), "its root alone, which everybody may read"
    wrong = admin_page.post(page("node-bmc-scan"), {"url": "http://10.0.0.7"}, headers=HTMX)
    assert "HTTPS alone" in wrong.content.decode()


def test_a_confirmed_bmc_is_kept_and_shown_without_its_password(admin_page, node, bmc, read):
    given = typed(bmc, certificate_fingerprint=shown(bmc))
    answer = admin_page.post(page("node-bmc"), given, headers=HTMX)
    assert (answer.status_code, answer["HX-Redirect"]) == (204, page("node-settings"))
    text = admin_page.get(page("node-settings")).content.decode()
    assert bmc.address.url in text
    assert shown(bmc) in text
    assert PASSWORD not in text
    form = read(admin_page.get(page("node-bmc")))
    assert form.inputs["url"] == bmc.address.url
    assert form.inputs["password"] == ""
    assert not form.refused


def test_without_a_look_at_it_the_certificate_comes_back_to_be_confirmed(admin_page, node, bmc):
    answer = admin_page.post(page("node-bmc"), typed(bmc), headers=HTMX)
    text = answer.content.decode()
    assert answer.status_code == 422
    assert f'value="{shown(bmc)}"' in text
    assert f'value="{shown(bmc)}" checked' not in text
    assert PASSWORD not in text
    assert not Bmc.objects.exists()


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ({"password": "wrong-password"}, "password", "refused the user"),
        ({"password": ""}, "password", "Type the password"),
        ({"user": ""}, "user", "Name the user"),
        ({"url": ""}, "url", "required"),
        ({"url": "https://127.0.0.1:1"}, "url", "No Redfish service answered"),
        ({"system": "none-such"}, "system", "no such system"),
        ({"certificate_fingerprint": "abc"}, "certificate_fingerprint", "64 hexadecimal"),
    ],
)
def test_what_fails_is_said_at_its_field_and_nothing_is_kept(
    admin_page, node, bmc, changes, place, words, settings
):
    if place == "url":  # told when the deadline is over
        settings.NODEADMIN_HOST_TIMEOUT_S = 1.0
    given = typed(bmc, certificate_fingerprint=shown(bmc)) | changes
    answer = admin_page.post(page("node-bmc"), given, headers=HTMX)
    text = answer.content.decode()
    assert answer.status_code == 422
    slot = text.partition(f'<div id="error-{place}"')[2].partition('<div id="error-')[0]
    assert words in slot
    assert "wrong-password" not in text
    assert not Bmc.objects.exists()


def test_it_is_removed_by_a_post_alone(admin_page, node, bmc):
    admin_page.post(page("node-bmc"), typed(bmc, certificate_fingerprint=shown(bmc)), headers=HTMX)
    assert 'id="bmc-remove"' in admin_page.get(page("node-settings")).content.decode()
    assert admin_page.get(page("node-bmc-remove")).status_code == 405
    assert admin_page.post(page("node-bmc-remove")).status_code == 302
    assert not Bmc.objects.exists()
    assert Event.objects.filter(kind="node_bmc_removed").exists()
    text = admin_page.get(page("node-settings")).content.decode()
    assert 'id="bmc-remove"' not in text
    assert bmc.address.url not in text


def test_who_may_only_look_sees_the_address_and_changes_nothing(operator_page, operator, node, bmc):
    Bmc.objects.create(node=node, url="https://10.0.0.7", system_path="/redfish/v1/Systems/1", user="root")
    for route in ("node-bmc", "node-bmc-scan", "node-bmc-remove"):
        assert operator_page.post(page(route)).status_code == 404
    grant(operator, node, "view_node", "power_node")
    text = operator_page.get(page("node-settings")).content.decode()
    assert "https://10.0.0.7" in text
    assert page("node-bmc") not in text
    assert "bmc-remove" not in text
    for route in ("node-bmc", "node-bmc-scan", "node-bmc-remove"):
        assert operator_page.post(page(route), {"url": "https://10.0.0.7"}).status_code == 403
    assert operator_page.get(page("node-bmc")).status_code == 403
    assert Bmc.objects.exists()
