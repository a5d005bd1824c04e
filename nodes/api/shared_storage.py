"""The endpoints of storage that an administrator declares to be shared."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from nodes.api.idempotency import idempotent
from nodes.api.inputs import Input, PageInput, Strict, WholeNumber
from nodes.api.schema import documented
from nodes.api.shared_storage_answers import SharedStorageAnswer, SharedStoragePage
from nodes.api.viewsets import Endpoints, page_of
from nodes.engine import shared_storage
from nodes.errors import InvalidInput
from nodes.models import DeclaredSharedStorage, Node
from nodes.models.shared_storage import LONGEST_NAME, StorageKind
from nodes.permissions import get_node, nodes_for

MOST_NODES = 5000
_NODES = gettext_lazy("Names or UUIDs of all nodes that have it, two at least.")


class _Nodes(serializers.ListField):
    def __init__(self) -> None:
        super().__init__(child=Strict(max_length=63), min_length=2, max_length=MOST_NODES, help_text=_NODES)


class DeclareSharedStorageInput(Input):
    kind = serializers.ChoiceField(choices=StorageKind.choices)
    name = Strict(
        max_length=LONGEST_NAME,
        trim_whitespace=False,
        help_text=gettext_lazy("The pool's name, an absolute path, or the volume group's name."),
    )
    nodes = _Nodes()
    comment = Strict(max_length=500, required=False, allow_blank=True)


class UpdateSharedStorageInput(Input):
    declaration = WholeNumber(min_value=1, max_value=(1 << 63) - 1)
    nodes = _Nodes()


class WithdrawSharedStorageInput(Input):
    declaration = WholeNumber(min_value=1, max_value=(1 << 63) - 1)


class ListSharedStorageInput(PageInput):
    node = Strict(max_length=63, required=False)


_ADMINISTRATORS = (
    "Plans count on what is declared, and nodeadmin cannot verify it: a VM whose disk is another one on its "
    "target is damaged. So `change_node` alone does not do; it needs the permission "
    "`%s_declaredsharedstorage`, which counts for all nodes."
)


class SharedStorageEndpoints(Endpoints):
    @documented(
        "Declare storage as shared",
        DeclareSharedStorageInput,
        SharedStorageAnswer,
        example={"kind": "path", "name": "/srv/images", "nodes": ["kvm-01", "kvm-02"]},
        changes=True,
        description="A storage pool, a path with all below it, or a volume group is the same storage on the "
        "nodes that are named. " + _ADMINISTRATORS % "add",
    )
    @idempotent
    def declare_shared_storage(self, request: Request) -> Response:
        data = self.read(DeclareSharedStorageInput)
        row = shared_storage.declare(
            self.actor,
            kind=data["kind"],
            name=data["name"],
            nodes=self._named(data["nodes"]),
            comment=data.get("comment", ""),
        )
        return Response(self._answer(row))

    @documented(
        "Change the nodes of a declaration",
        UpdateSharedStorageInput,
        SharedStorageAnswer,
        example={"declaration": 1, "nodes": ["kvm-01", "kvm-02", "kvm-03"]},
        changes=True,
        description="Replaces the list of its nodes. " + _ADMINISTRATORS % "change",
    )
    @idempotent
    def update_shared_storage(self, request: Request) -> Response:
        data = self.read(UpdateSharedStorageInput)
        row = self._find(data["declaration"])
        return Response(self._answer(shared_storage.change(self.actor, row, self._named(data["nodes"]))))

    @documented(
        "Withdraw a declaration",
        WithdrawSharedStorageInput,
        SharedStorageAnswer,
        example={"declaration": 1},
        changes=True,
        description="Answers what was declared. Needs the permission `delete_declaredsharedstorage`.",
    )
    @idempotent
    def withdraw_shared_storage(self, request: Request) -> Response:
        row = self._find(self.read(WithdrawSharedStorageInput)["declaration"])
        answer = self._answer(row)
        shared_storage.withdraw(self.actor, row)
        return Response(answer)

    @documented(
        "Storage that was declared shared",
        ListSharedStorageInput,
        SharedStoragePage,
        example={"node": "kvm-01"},
        description="The declarations with a node that you may see.",
    )
    def list_shared_storage(self, request: Request) -> Response:
        data = self.read(ListSharedStorageInput)
        rows = shared_storage.visible_to(self.user)
        if "node" in data:
            rows = rows.filter(nodes=get_node(self.user, data["node"]))
        count, page = page_of(rows, data)
        return Response(SharedStoragePage(count, [self._answer(row) for row in page]))

    def _named(self, names: Sequence[str]) -> list[Node]:
        return [get_node(self.user, name) for name in names]

    def _find(self, number: int) -> DeclaredSharedStorage:
        seen = shared_storage.visible_to(self.user).filter(pk=number).first()
        if seen is None:
            text = _("There is no such declaration, or you may not see it.")
            raise InvalidInput(text, field="declaration")
        return seen

    def _answer(self, row: DeclaredSharedStorage) -> SharedStorageAnswer:
        seen = row.nodes.filter(pk__in=nodes_for(self.user).values("pk"))
        return SharedStorageAnswer.of(row, list(seen.order_by("name").values_list("name", flat=True)))
