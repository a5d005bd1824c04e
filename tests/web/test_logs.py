"""The tab of the journal: a frame for who may read it, and no tab for who may not."""

from __future__ import annotations

import pytest
from django.test import Client

from nodes.permissions import VIEW, VIEW_LOGS
from tests.factories import grant, make_node, make_operation, make_snapshot

pytestmark = pytest.mark.django_db


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_who_may_read_journals_sees_the_tab_and_the_frame(operator):
    node = make_node("kvm-01")
    grant(operator, node, VIEW, VIEW_LOGS)
    response = signed_in(operator).get("/nodes/kvm-01/logs/?vm=web-1")
    assert response.status_code == 200
    page = response.content.decode()
    assert 'data-node="kvm-01"' in page
    assert "data-words" in page
    assert "<script>" not in page
    assert "/nodes/kvm-01/logs/" in signed_in(operator).get("/nodes/kvm-01/").content.decode()


def test_without_the_permission_there_is_neither_tab_nor_page(operator, stranger):
    node = make_node("kvm-01")
    grant(operator, node, VIEW)
    assert signed_in(operator).get("/nodes/kvm-01/logs/").status_code == 403
    assert "/nodes/kvm-01/logs/" not in signed_in(operator).get("/nodes/kvm-01/").content.decode()
    assert signed_in(stranger).get("/nodes/kvm-01/logs/").status_code == 404


def test_tabs_and_failed_operations_have_a_panel_filtered_to_their_subject(operator):
    node = make_node("kvm-01")
    make_snapshot(node)
    failed = make_operation(node, status="failed", error={"code": "timeout", "detail": "no"})
    fine = make_operation(node)
    grant(operator, node, VIEW)
    pages = ["/nodes/kvm-01/vms/", "/nodes/kvm-01/disks/", "/nodes/kvm-01/net/", f"/operations/{failed.pk}/"]
    client = signed_in(operator)
    assert not any("data-logs" in client.get(page).content.decode() for page in pages)
    grant(operator, node, VIEW_LOGS)
    client = signed_in(operator)
    shown = [client.get(page).content.decode() for page in pages]
    assert all("data-logs" in page and "js/logs" in page for page in shown)
    assert "&quot;libvirtd&quot;, &quot;qemu&quot;" in shown[0]
    assert "&quot;since&quot;" in shown[3]
    assert "data-logs" not in client.get(f"/operations/{fine.pk}/").content.decode()
