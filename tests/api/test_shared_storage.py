"""Storage that an administrator declares to be shared: who may, what is refused, what is recorded."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission

from nodes.models import DeclaredSharedStorage, Event
from tests.factories import grant, make_node

pytestmark = pytest.mark.django_db

PATH = {"kind": "path", "name": "/srv/images", "nodes": ["kvm-01", "kvm-02"]}


@pytest.fixture(autouse=True)
def nodes():
    return [make_node(name) for name in ("kvm-01", "kvm-02", "kvm-03")]


def give(user, *actions: str) -> None:
    names = [f"{action}_declaredsharedstorage" for action in actions]
    user.user_permissions.add(*Permission.objects.filter(codename__in=names))


def test_a_declaration_is_kept_shown_changed_and_withdrawn_and_each_is_recorded(administrator, api, nodes):
    call = api(administrator)
    status, made = call("declare-shared-storage", PATH | {"name": "/srv/images/", "comment": "DRBD"})
    assert (status, made["name"], made["nodes"]) == (200, "/srv/images", ["kvm-01", "kvm-02"])
    assert made["declared_by"] == administrator.username
    number = {"declaration": made["id"]}
    status, changed = call("update-shared-storage", number | {"nodes": ["kvm-01", "kvm-03"]})
    assert (status, changed["nodes"]) == (200, ["kvm-01", "kvm-03"])
    assert call("list-shared-storage", {"node": "kvm-02"})[1]["count"] == 0
    assert call("list-shared-storage", {"node": "kvm-03"})[1]["results"] == [changed]
    assert call("withdraw-shared-storage", number)[0] == 200
    assert not DeclaredSharedStorage.objects.exists()
    told = Event.objects.filter(kind__startswith="shared_storage").order_by("pk")
    assert list(told.values_list("kind", "node__name", "user_name")) == [
        (kind, name, administrator.username)
        for kind, names in (
            ("shared_storage_declared", (None, "kvm-01", "kvm-02")),
            ("shared_storage_changed", (None, "kvm-01", "kvm-02", "kvm-03")),
            ("shared_storage_withdrawn", (None, "kvm-01", "kvm-03")),
        )
        for name in names
    ]
    assert told[0].data == {
        "kind": "path",
        "name": "/srv/images",
        "nodes": ["kvm-01", "kvm-02"],
        "comment": "DRBD",
    }


def test_every_right_on_the_nodes_does_not_do_and_the_global_permission_does(operator, api, nodes):
    rights = ("view_node", "change_node", "maintain_node", "power_node", "delete_node")
    for node in nodes:
        grant(operator, node, *rights)
    operator.user_permissions.add(*Permission.objects.filter(codename="change_node"))
    call = api(operator)
    status, answer = call("declare-shared-storage", PATH)
    assert (status, answer["code"]) == (403, "permission_denied")
    assert "add_declaredsharedstorage" in answer["detail"]
    give(operator, "add")
    status, made = call("declare-shared-storage", PATH)
    assert status == 200
    number = {"declaration": made["id"]}
    assert call("update-shared-storage", number | {"nodes": ["kvm-01", "kvm-03"]})[0] == 403
    assert call("withdraw-shared-storage", number)[0] == 403
    give(operator, "change", "delete")
    assert call("update-shared-storage", number | {"nodes": ["kvm-01", "kvm-03"]})[0] == 200
    assert call("withdraw-shared-storage", number)[0] == 200


def test_nodes_that_one_may_not_see_stay_unknown(operator, api, administrator, nodes):
    made = api(administrator)("declare-shared-storage", PATH)[1]
    assert api(operator)("list-shared-storage")[1]["count"] == 0
    grant(operator, nodes[0], "view_node")
    (seen,) = api(operator)("list-shared-storage")[1]["results"]
    assert (seen["id"], seen["nodes"]) == (made["id"], ["kvm-01"])
    (event,) = api(operator)("list-events", {"kind": "shared_storage_declared"})[1]["results"]
    assert (event["node"], event["message"]) == (
        "kvm-01",
        "Path and all below it /srv/images declared shared by 2 nodes",
    )
    assert "kvm-02" not in str(event)
    give(operator, "add", "change")
    assert api(operator)("declare-shared-storage", PATH)[0] == 404
    grant(operator, nodes[2], "view_node")
    body = {"declaration": made["id"], "nodes": ["kvm-01", "kvm-03"]}
    status, answer = api(operator)("update-shared-storage", body)
    assert (status, "may not see" in answer["detail"]) == (403, True)
    assert DeclaredSharedStorage.objects.get().nodes.count() == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "srv/images"}, "name"),
        ({"name": "/srv/../etc"}, "name"),
        ({"name": "/srv/./images"}, "name"),
        ({"name": "/srv//images"}, "name"),
        ({"name": "//srv"}, "name"),
        ({"name": "/"}, "name"),
        ({"name": "/dev/"}, "name"),
        ({"name": "/srv/a\nb"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "/a" * 600}, "name"),
        ({"kind": "volume_group", "name": "vg/lv"}, "name"),
        ({"kind": "volume_group", "name": "-vg"}, "name"),
        ({"kind": "volume_group", "name": ".."}, "name"),
        ({"kind": "pool", "name": "a/b"}, "name"),
        ({"kind": "pool", "name": " "}, "name"),
        ({"kind": "disk"}, "kind"),
        ({"nodes": ["kvm-01"]}, "nodes"),
        ({"nodes": []}, "nodes"),
        ({"nodes": ["kvm-01", "kvm-01"]}, "nodes"),
        ({"nodes": "kvm-01"}, "nodes"),
    ],
)
def test_what_names_no_storage_of_several_nodes_is_refused(administrator, api, change, field):
    status, answer = api(administrator)("declare-shared-storage", PATH | change)
    assert (status, answer["errors"][0]["field"].split(".")[0]) == (400, field)
    assert not DeclaredSharedStorage.objects.exists()


def test_a_token_for_reading_declares_nothing(administrator, api):
    assert api(administrator, read_only=True)("declare-shared-storage", PATH)[0] == 403
    assert api(administrator, read_only=True)("list-shared-storage")[0] == 200


def test_an_unknown_declaration_is_said_to_be_one(administrator, api):
    status, answer = api(administrator)("withdraw-shared-storage", {"declaration": 9})
    assert (status, answer["errors"][0]["field"]) == (400, "declaration")
