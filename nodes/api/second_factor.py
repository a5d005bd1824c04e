"""The endpoints with which a person's login gives a second factor before a call that needs one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from nodes import second_factor
from nodes.api.factor_answers import FactorGivenAnswer, FactorsAnswer
from nodes.api.inputs import Id, Input, Strict
from nodes.api.schema import documented
from nodes.api.viewsets import Endpoints
from nodes.engine import jump_hosts
from nodes.errors import InvalidInput
from nodes.events import Actor, GivenFactor
from nodes.models import ApiToken
from nodes.permissions import get_node

OF_NODE = ("power-on-node", "update-node")
OF_JUMP_HOST = ("update-jump-host", "remove-jump-host")
NEEDED = {
    **dict.fromkeys(OF_NODE, "node"),
    **dict.fromkeys(OF_JUMP_HOST, "jump_host"),
    "retry-operation": "operation",
}
CALLS = (*NEEDED, "add-node", "add-jump-host", *second_factor.PURPOSES)
CONFIRMED = (
    "For a call that is confirmed, send its `confirm_token`; for `power-on-node` and `update-node` the "
    "`call` and its `node`, for `update-jump-host` and `remove-jump-host` the `call` and its `jump_host`, "
    "for `retry-operation` the `call` and its `operation`, for `add-node` and `add-jump-host` the `call` "
    "alone. "
)


class FactorForInput(Input):
    """What a factor is given for: a confirmation, or a call."""

    confirm_token = Strict(max_length=400_000, required=False)
    call = serializers.ChoiceField(choices=CALLS, required=False)
    node = Strict(max_length=63, required=False)
    operation = Id(required=False)
    jump_host = Strict(max_length=63, required=False)

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        if ("confirm_token" in data) == ("call" in data):
            raise serializers.ValidationError(_("Send either confirm_token or call."))
        field = NEEDED.get(data.get("call", ""), "")
        if field and field not in data:
            raise serializers.ValidationError({field: [_("This call's factor is for one of them: name it.")]})
        return data


class VerifyFactorInput(FactorForInput):
    code = Strict(max_length=32, required=False)
    passkey = serializers.DictField(
        required=False, help_text=gettext_lazy("The answer of navigator.credentials.get, as JSON.")
    )

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        data = super().validate(data)
        if ("code" in data) == ("passkey" in data):
            raise serializers.ValidationError(_("Send either code or passkey."))
        return data


class SecondFactorEndpoints(Endpoints):
    @documented(
        "The second factors of this login",
        FactorForInput,
        FactorsAnswer,
        example={"call": "power-on-node", "node": "kvm-01"},
        description="For logins of people: a token needs no second factor. With passkeys the answer has what "
        f"a passkey is to answer for the call that is named, and for no other. {CONFIRMED}",
    )
    def describe_second_factor(self, request: Request) -> Response:
        data = self.read(FactorForInput)
        actor = self._login()
        kinds = second_factor.factors_of(self.user)
        asked = None
        if "webauthn" in kinds:
            asked = json.loads(json.dumps(dict(second_factor.challenge(actor, self._about(data)))))
        return Response(FactorsAnswer(second_factor.is_required(actor), sorted(kinds), asked))

    @documented(
        "Give a second factor",
        VerifyFactorInput,
        FactorGivenAnswer,
        example={"code": "123456", "call": "power-on-node", "node": "kvm-01"},
        description="Before a call that answers `403 second_factor_required`. A code of the authenticator "
        f"app, a recovery code, or a passkey's answer. {CONFIRMED}It counts for that call, once, "
        "for five minutes.",
        errors=((403, "second_factor_required"),),
    )
    def verify_second_factor(self, request: Request) -> Response:
        data = self.read(VerifyFactorInput)
        actor = self._login()
        passkey = json.dumps(data["passkey"]) if "passkey" in data else ""
        given = GivenFactor(data.get("code", ""), passkey)
        ends_at = second_factor.prove(
            Actor(actor.user, actor.source_ip, actor.via, session_key=actor.session_key, factor=given),
            self._about(data),
        )
        return Response(FactorGivenAnswer(ends_at))

    def _login(self) -> Actor:
        if isinstance(self.request.auth, ApiToken):
            raise InvalidInput(
                _("A token needs no second factor: what it may do was granted with one."),
                remedy=_("Make the call itself."),
            )
        return self.actor

    def _about(self, data: Mapping[str, Any]) -> str:
        """As the call itself writes it (nodes/engine)."""
        if "confirm_token" in data:
            return second_factor.of_confirmation(data["confirm_token"])
        call = data["call"]
        if call in OF_NODE:
            return second_factor.of_call(call, get_node(self.user, data["node"], columns=("uuid",)).uuid)
        if call in OF_JUMP_HOST:
            jump_hosts.require_management(self.user)
            return second_factor.of_call(call, jump_hosts.named(data["jump_host"]).pk)
        if call == "retry-operation":
            return second_factor.of_call(call, data["operation"])
        return str(call)
