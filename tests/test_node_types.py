"""The three types of node: stored, filtered by, and any other refused with the list."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from nodes.models import Node
from tests.api.conftest import Api
from tests.factories import make_node, make_user


@pytest.mark.django_db
def test_the_database_keeps_no_other_type():
    node = make_node()
    with pytest.raises(IntegrityError), transaction.atomic():
        Node.objects.filter(pk=node.pk).update(node_type="gpu")


@pytest.mark.django_db
@pytest.mark.parametrize("wrong", ["gpu", "Compute", "", "compute,storage"])
def test_another_type_is_refused_with_the_list_wherever_one_is_named(wrong):
    api = Api(make_user(is_superuser=True))
    make_node("kvm-01")
    for name, body in (
        ("add-node", {"name": "kvm-02", "uri": "test:///default", "type": wrong}),
        ("update-node", {"node": "kvm-01", "type": wrong}),
        ("list-nodes", {"type": wrong}),
    ):
        status, answer = api(name, body)
        (error,) = answer["errors"]
        assert (status, error["field"]) == (400, "type"), name
        assert "compute, storage, hybrid" in error["message"], name
    assert Node.objects.get().node_type == "compute"


@pytest.mark.django_db
def test_each_of_the_three_is_stored_and_filtered_by():
    api = Api(make_user(is_superuser=True))
    make_node("kvm-01")
    for kind in ("storage", "hybrid", "compute"):
        assert api("update-node", {"node": "kvm-01", "type": kind})[0] == 200
        status, answer = api("list-nodes", {"type": kind})
        assert (status, [row["type"] for row in answer["results"]]) == (200, [kind])
