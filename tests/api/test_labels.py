"""Labels: one rule, whichever way they come in, and every one of them can be searched by."""

from __future__ import annotations

import pytest
from django.test import Client

from nodes.models import Node
from tests.factories import make_node

pytestmark = pytest.mark.django_db
GOOD = {"2024": "x", "0": "first", "example.org/rack": "a 1", "e": "", "quote": 'it\'s "b" \\ %_'}


@pytest.mark.parametrize("key", GOOD)
def test_nodes_are_found_by_any_label(administrator, api, key):
    make_node("kvm-01", labels=GOOD)
    make_node("kvm-02", labels={key: "other"})
    make_node("kvm-03", labels={})
    call = api(administrator)
    assert [n["name"] for n in call("list-nodes", {"labels": {key: GOOD[key]}})[1]["results"]] == ["kvm-01"]
    assert call("list-nodes", {"labels": {key: "none"}})[1]["count"] == 0
    assert call("list-nodes", {"labels": GOOD})[1]["count"] == 1


@pytest.mark.parametrize("key", ['x"y', "a.b", "$", "", "'", "a\\b", "%", "[0]"])
def test_odd_keys_in_the_address_of_the_list_find_nothing(administrator, key):
    make_node("kvm-01", labels={"a": "1"})
    client = Client()
    client.force_login(administrator)
    assert client.get("/nodes/", {"label": f"{key}=1"}).status_code == 200


BAD = [
    {"Rack": "a1"},
    {"a b": "x"},
    {"-a": "x"},
    {"rack": "a1, a2"},
    {"rack": "a\nb"},
    {"rack": "x" * 129},
    {f"k{n}": "x" for n in range(33)},
]


@pytest.mark.parametrize("labels", BAD)
def test_what_is_no_label_is_refused_everywhere(administrator, api, labels):
    node = make_node("kvm-01")
    for call, body in (
        ("update-node", {"node": "kvm-01"}),
        ("add-node", {"name": "kvm-02", "uri": "test:///default"}),
    ):
        status, answer = api(administrator)(call, {**body, "labels": labels})
        assert (status, answer["errors"][0]["field"].partition(".")[0]) == (400, "labels")
    client = Client()
    client.force_login(administrator)
    text = ", ".join(f"{key}={value}" for key, value in labels.items())
    form = {"name": "kvm-01", "type": "compute", "labels": text, "notes": "", "migration_address": ""}
    response = client.post("/nodes/kvm-01/settings/", form)
    if labels not in ({"rack": "a1, a2"}, {"rack": "a\nb"}):  # two labels, as they are written there
        assert response.status_code == 422
        assert Node.objects.get(pk=node.pk).labels == {}


def test_a_migration_address_is_a_host(administrator, api):
    make_node("kvm-01")
    call = api(administrator)
    for address in ("two words", "tcp://10.0.0.1", "10.0.0.1:49152", "-x", "a/b"):
        status, answer = call("update-node", {"node": "kvm-01", "migration_address": address})
        assert (status, answer["errors"][0]["field"]) == (400, "migration_address"), address
    for address in ("10.0.0.1", "fd00::1", "[fd00::1]", "kvm-01.lan", ""):
        forced = {"migration_address_forced": bool(address)}
        answer = call("update-node", {"node": "kvm-01", "migration_address": address, **forced})
        assert answer[0] == 200, address
