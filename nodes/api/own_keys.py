"""The endpoints of nodeadmin's own key pair."""

from __future__ import annotations

from django.utils.translation import gettext_lazy
from rest_framework.request import Request
from rest_framework.response import Response

from nodes.api.idempotency import idempotent
from nodes.api.inputs import Input, PageInput, Strict, Truth
from nodes.api.operation_answers import OperationAnswer
from nodes.api.own_key_answers import (
    KeyHolderAnswer,
    KeyHolderPage,
    OwnKeyAnswer,
    OwnKeyPage,
    RetiredKeyAnswer,
)
from nodes.api.schema import documented
from nodes.api.viewsets import Endpoints
from nodes.engine import own_keys
from nodes.models import OwnKeyPair
from nodes.permissions import MANAGE_SSH, require


class ListOwnKeysInput(PageInput):
    """All of them."""


class DescribeOwnKeyInput(PageInput):
    lacking = Truth(default=False, help_text=gettext_lazy("Only those that lack the current key pair."))


class ConfirmedKeyInput(Input):
    confirm_token = Strict(
        max_length=4096, required=False, help_text=gettext_lazy("What the call answered with at first.")
    )


class RetireOwnKeyInput(ConfirmedKeyInput):
    force = Truth(
        default=False,
        help_text=gettext_lazy("Though hosts lack the current key pair: they are left without."),
    )


CONFIRMED = (
    "Made without `confirm_token` it changes nothing and answers `428` with the plan, which names whom it "
    "concerns, and a token. "
)


class OwnKeyEndpoints(Endpoints):
    @documented(
        "nodeadmin's own key pairs",
        ListOwnKeysInput,
        OwnKeyPage,
        example={},
        description="The current one, and the one that is being replaced. Needs `manage_ssh`.",
        errors=((403, "permission_denied"),),
    )
    def list_own_keys(self, request: Request) -> Response:
        self.read(ListOwnKeysInput)
        require(self.user, MANAGE_SSH)
        rows = [_answer(row) for row in own_keys.pairs()]
        return Response(OwnKeyPage(len(rows), rows))

    @documented(
        "Who lets nodeadmin's own key in",
        DescribeOwnKeyInput,
        KeyHolderPage,
        example={"lacking": True},
        description="Jump hosts first, then nodes, by name. Needs `manage_ssh`.",
        errors=((403, "permission_denied"),),
    )
    def describe_own_key(self, request: Request) -> Response:
        data = self.read(DescribeOwnKeyInput)
        require(self.user, MANAGE_SSH)
        start = (data["page"] - 1) * data["page_size"]
        found = own_keys.holders(self.user, lacking=data["lacking"])
        page = found.page(start, data["page_size"])
        return Response(
            KeyHolderPage(
                found.count,
                own_keys.lacking_count(),
                [
                    KeyHolderAnswer(row.kind, row.name, row.has_current, row.fingerprint, row.old_line_left)
                    for row in page
                ],
            )
        )

    @documented(
        "Replace nodeadmin's own key",
        ConfirmedKeyInput,
        OperationAnswer,
        example={},
        long=True,
        description="Every node and jump host that lets it in gets the new one; the old one is taken out "
        "only after a login with the new one was seen. Hosts that do not answer keep the old one and are "
        "named (`lacking` of the error): call it again, and it goes on with them. "
        f"{CONFIRMED}Needs `manage_ssh`.",
        errors=(
            (403, "permission_denied"),
            (409, "confirmation_invalid, plan_changed, node_busy"),
            (428, "confirmation_required"),
        ),
    )
    @idempotent
    def rotate_own_key(self, request: Request) -> Response:
        data = self.read(ConfirmedKeyInput)
        return self.accepted(own_keys.rotate(self.actor, data.get("confirm_token", ""), **self.tracked))

    @documented(
        "Retire nodeadmin's old key",
        RetireOwnKeyInput,
        RetiredKeyAnswer,
        example={"force": False},
        changes=True,
        description="Destroys the key pair that was replaced. Refused while hosts lack the current one, "
        f"unless `force`. {CONFIRMED}Needs `manage_ssh`.",
        errors=(
            (403, "permission_denied"),
            (409, "own_key_needed, confirmation_invalid, plan_changed, node_busy"),
            (428, "confirmation_required"),
        ),
    )
    @idempotent
    def retire_own_key(self, request: Request) -> Response:
        data = self.read(RetireOwnKeyInput)
        left = own_keys.retire(self.actor, force=data["force"], confirm_token=data.get("confirm_token", ""))
        return Response(RetiredKeyAnswer(own_keys.current_fingerprint(), left.names))


def _answer(row: OwnKeyPair) -> OwnKeyAnswer:
    counts = own_keys.counts_of(row)
    return OwnKeyAnswer(
        fingerprint=row.fingerprint,
        state=row.state,
        public_key=row.public_key,
        authorized_keys_line=own_keys.line_of(row),
        node_count=counts[0],
        jump_host_count=counts[1],
        created_at=row.created_at,
    )
