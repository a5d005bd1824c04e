"""What nodes are called by: a name or a UUID, and never another one's."""

from __future__ import annotations

import pytest

from nodes.models import Node
from tests.factories import grant, make_node

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("write", [str, lambda uuid: uuid.hex])
def test_no_node_is_named_like_a_uuid(administrator, api, write):
    other, node = make_node("kvm-01"), make_node("kvm-02")
    for call, body in (
        ("update-node", {"node": "kvm-02"}),
        ("add-node", {"uri": "test:///default"}),
    ):
        status, answer = api(administrator)(call, {**body, "name": write(other.uuid)})
        assert (status, answer["errors"][0]["field"]) == (400, "name")
    node.refresh_from_db()
    assert node.name == "kvm-02"


def test_a_uuid_names_its_own_node_whatever_another_is_called(administrator, operator, api):
    node = make_node("kvm-01")
    # From before such names were refused.
    impostor = make_node(str(node.uuid))
    status, answer = api(administrator)("describe-node", {"node": str(node.uuid)})
    assert (status, answer["name"]) == (200, "kvm-01")
    assert api(administrator)("describe-node", {"node": str(impostor.uuid)})[1]["uuid"] == str(impostor.uuid)
    grant(operator, impostor, "view_node")
    assert api(operator)("describe-node", {"node": str(node.uuid)})[0] == 404


def test_a_name_like_a_uuid_that_no_node_has_is_still_found(administrator, api):
    name = "8c2f0a51-4f0e-4b6e-9d5c-0d4a1c2b3e4f"
    make_node(name)
    assert not Node.objects.filter(uuid=name).exists()
    assert api(administrator)("describe-node", {"node": name})[1]["name"] == name
