"""The tab of the journal: a frame for who may read it, and no tab for who may not."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from nodes.permissions import VIEW, VIEW_LOGS
from tests.factories import grant, make_node

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
    assert json.loads(response.context["words"])["live"] == "Live"
    assert "<script>" not in page
    assert "/nodes/kvm-01/logs/" in signed_in(operator).get("/nodes/kvm-01/").content.decode()


def test_without_the_permission_there_is_neither_tab_nor_page(operator, stranger):
    node = make_node("kvm-01")
    grant(operator, node, VIEW)
    assert signed_in(operator).get("/nodes/kvm-01/logs/").status_code == 403
    assert "/nodes/kvm-01/logs/" not in signed_in(operator).get("/nodes/kvm-01/").content.decode()
    assert signed_in(stranger).get("/nodes/kvm-01/logs/").status_code == 404
