"""Nobody sees a page without signing in, and nobody sees or does what is not theirs."""

import pytest
from django.urls import URLResolver, get_resolver, reverse

from nodes.models import Operation
from nodes.web import urls
from tests.factories import grant, make_node, make_operation, make_snapshot
from tests.web.conftest import HTMX

OPEN_TO_ALL = {
    "login",
    "logout",
    "account_login",
    "account_logout",
    "account_inactive",
    "mfa_login_webauthn",
    "oidc-login",
    "oidc-callback",
    "openid_connect_login",
    "openid_connect_callback",
    "socialaccount_login_cancelled",
}
"""What signing in is made of: tests/web/test_signing_in.py and test_identity_provider.py."""


def every_pattern(patterns, above=()):
    """Patterns with the names of their parameters, those of included ones too."""
    for pattern in patterns:
        names = (*above, *pattern.pattern.converters)
        if isinstance(pattern, URLResolver):
            yield from every_pattern(pattern.url_patterns, names)
        else:
            yield pattern, names


def every_address():
    """All addresses of the pages, with something in the place of their parameters."""
    uuid = "0b6ad36c-56e9-4ba1-8c6c-2c0f1f0a8b53"
    for pattern, names in every_pattern(urls.urlpatterns):
        if pattern.name in OPEN_TO_ALL or pattern.name is None:
            continue
        values = {
            "pk": uuid if pattern.name.startswith(("operation", "node")) else 7,
            "name": "kvm-01",
            "slug": "pci",
            "action": "disable",
        }
        yield reverse(pattern.name, kwargs={name: values[name] for name in names})


@pytest.mark.django_db
@pytest.mark.parametrize("address", list(every_address()) if get_resolver() else [])
def test_who_is_not_signed_in_is_sent_to_the_login(client, address):
    answer = client.get(address)
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("login"))


@pytest.mark.django_db
def test_a_page_that_polls_after_the_session_has_ended_goes_to_the_login_as_a_whole(client):
    answer = client.get(reverse("running"), headers=HTMX)
    assert answer.status_code == 204
    assert answer["HX-Redirect"] == reverse("login")


def test_a_node_does_not_exist_for_a_stranger(stranger_page):
    node = make_node("kvm-01")
    make_snapshot(node)
    for address in (
        reverse("node-detail", args=["kvm-01"]),
        reverse("node-section", args=["kvm-01", "pci"]),
        reverse("node-settings", args=["kvm-01"]),
        reverse("node-events", args=["kvm-01"]),
    ):
        answer = stranger_page.get(address)
        assert answer.status_code == 404
        assert "two-socket" not in answer.content.decode()
    assert "kvm-01" not in stranger_page.get(reverse("node-list")).content.decode()
    assert "kvm-01" not in stranger_page.get(reverse("dashboard")).content.decode()
    assert "kvm-01" not in stranger_page.get(reverse("search"), {"q": "kvm"}).content.decode().replace(
        "“kvm”", ""
    )


def test_an_operator_sees_their_node_and_no_other(operator_page, operator):
    mine, other = make_node("kvm-01"), make_node("kvm-02")
    grant(operator, mine, "view_node")
    page = operator_page.get(reverse("node-list")).content.decode()
    assert "kvm-01" in page
    assert "kvm-02" not in page
    assert operator_page.get(reverse("node-detail", args=[other.name])).status_code == 404


def test_who_may_only_look_cannot_change(operator_page, operator, read):
    node = make_node("kvm-01")
    grant(operator, node, "view_node")
    address = reverse("node-settings", args=["kvm-01"])
    assert "notes" not in read(operator_page.get(address)).inputs
    answer = operator_page.post(address, {"name": "kvm-09", "type": "compute"})
    assert answer.status_code == 403
    node.refresh_from_db()
    assert node.name == "kvm-01"


def test_adding_a_node_needs_its_own_right(operator_page, operator, read):
    grant(operator, make_node("kvm-01"), "view_node", "change_node", "power_node")
    assert operator_page.get(reverse("node-add")).status_code == 403
    answer = operator_page.post(reverse("node-add"), {"name": "kvm-02", "uri": "qemu:///system"})
    assert answer.status_code == 403
    assert not Operation.objects.exists()
    assert reverse("node-add") not in read(operator_page.get(reverse("node-list"))).links


def test_the_scan_and_the_check_of_an_address_need_their_permissions(operator_page):
    for name in ("node-add-scan", "node-add-check"):
        assert operator_page.post(reverse(name), {"uri": "qemu+ssh://127.0.0.1:1/system"}).status_code == 403


def test_a_stranger_does_not_see_somebody_elses_operation(stranger_page):
    operation = make_operation(make_node("kvm-01"))
    assert stranger_page.get(reverse("operation-detail", args=[operation.pk])).status_code == 404
    assert stranger_page.post(reverse("operation-cancel", args=[operation.pk])).status_code == 404


def test_who_sees_an_operation_may_not_cancel_it_for_that(operator_page, operator):
    node = make_node("kvm-01")
    grant(operator, node, "view_node")
    operation = make_operation(node, kind="update-node", status="running")
    assert operator_page.get(reverse("operation-detail", args=[operation.pk])).status_code == 200
    assert operator_page.post(reverse("operation-cancel", args=[operation.pk])).status_code == 403
    operation.refresh_from_db()
    assert operation.cancel_requested_at is None


@pytest.mark.parametrize(
    "name", ["node-refresh", "operation-cancel", "operation-retry", "token-revoke", "shared-storage-withdraw"]
)
def test_what_changes_something_takes_post_alone(admin_page, name):
    node = make_node("kvm-01")
    operation = make_operation(node, status="failed")
    argument = {"node-refresh": "kvm-01", "token-revoke": 1, "shared-storage-withdraw": 1}.get(
        name, operation.pk
    )
    assert admin_page.get(reverse(name, args=[argument])).status_code == 405


def test_signing_out_takes_post_alone(admin_page):
    assert admin_page.get(reverse("logout")).status_code == 405
    assert admin_page.post(reverse("logout")).status_code == 302
    assert admin_page.get(reverse("dashboard")).status_code == 302


def test_a_form_from_elsewhere_is_refused(administrator):
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    client.force_login(administrator)
    make_node("kvm-01")
    answer = client.post(reverse("node-refresh", args=["kvm-01"]))
    assert answer.status_code == 403
    assert "expired" in answer.content.decode()
    assert not Operation.objects.exists()
