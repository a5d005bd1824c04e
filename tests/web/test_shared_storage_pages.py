"""The page of declared shared storage, and the same in the Django admin."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from nodes.models import DeclaredSharedStorage, Event
from tests.factories import grant, make_node, make_user

pytestmark = pytest.mark.django_db

FORM = {"kind": "path", "name": "/srv/images", "nodes": "kvm-01, kvm-02", "comment": ""}


@pytest.fixture(autouse=True)
def nodes():
    return [make_node(name) for name in ("kvm-01", "kvm-02")]


def test_an_administrator_declares_and_withdraws(admin_page, read):
    page = reverse("shared-storage")
    assert admin_page.post(page, FORM)["Location"] == page
    shown = admin_page.get(page).content.decode()
    assert "/srv/images" in shown and "kvm-02" in shown
    row = DeclaredSharedStorage.objects.get()
    answer = admin_page.post(reverse("shared-storage-withdraw", args=[row.pk]))
    assert answer.status_code == 302
    assert not DeclaredSharedStorage.objects.exists()
    assert admin_page.get(reverse("shared-storage-withdraw", args=[row.pk])).status_code == 405


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"name": "/a/../b"}, "name"), ({"nodes": "kvm-01"}, "nodes"), ({"nodes": "kvm-01, kvm-99"}, "nodes")],
)
def test_what_does_not_fit_is_said_at_its_field(admin_page, wrong, field):
    answer = admin_page.post(reverse("shared-storage"), FORM | wrong)
    assert answer.status_code == 422
    assert answer.context["form"].errors[field]
    assert not DeclaredSharedStorage.objects.exists()


def test_who_may_change_nodes_sees_declarations_and_makes_none(operator_page, operator, admin_page, nodes):
    admin_page.post(reverse("shared-storage"), FORM)
    grant(operator, nodes[0], "view_node", "change_node")
    shown = operator_page.get(reverse("shared-storage")).content.decode()
    assert "/srv/images" in shown and "kvm-02" not in shown
    assert 'name="nodes"' not in shown and "Withdraw" not in shown
    grant(operator, nodes[1], "view_node", "change_node")
    assert operator_page.post(reverse("shared-storage"), FORM).status_code == 403
    row = DeclaredSharedStorage.objects.get()
    assert operator_page.post(reverse("shared-storage-withdraw", args=[row.pk])).status_code == 403
    assert DeclaredSharedStorage.objects.count() == 1


def test_the_django_admin_declares_through_the_same_call(administrator, nodes):
    administrator.is_staff = True
    administrator.save()
    root = Client()
    root.force_login(administrator)
    add = reverse("admin:nodes_declaredsharedstorage_add")
    form = FORM | {"nodes": [str(node.pk) for node in nodes]}
    assert root.post(add, form | {"name": "/srv/../x"}).context["errors"]
    assert root.post(add, form | {"nodes": form["nodes"][:1]}).context["errors"]
    assert root.post(add, form | {"name": "/srv/images/"}).status_code == 302
    row = DeclaredSharedStorage.objects.get()
    assert (row.name, row.declared_by_name) == ("/srv/images", administrator.username)
    third = make_node("kvm-03")
    change = reverse("admin:nodes_declaredsharedstorage_change", args=[row.pk])
    assert root.post(change, {"nodes": [str(nodes[0].pk), str(third.pk)]}).status_code == 302
    assert sorted(row.nodes.values_list("name", flat=True)) == ["kvm-01", "kvm-03"]
    assert (
        root.post(
            reverse("admin:nodes_declaredsharedstorage_delete", args=[row.pk]), {"post": "yes"}
        ).status_code
        == 302
    )
    kinds = set(Event.objects.values_list("kind", flat=True))
    assert {"shared_storage_declared", "shared_storage_changed", "shared_storage_withdrawn"} <= kinds


def test_staff_who_may_change_all_nodes_declares_nothing_in_the_django_admin(nodes):
    staff = make_user("staff", is_staff=True)
    staff.user_permissions.add(*Permission.objects.filter(codename__in=["change_node", "view_node"]))
    client = Client()
    client.force_login(staff)
    assert client.get(reverse("admin:nodes_declaredsharedstorage_add")).status_code == 403
