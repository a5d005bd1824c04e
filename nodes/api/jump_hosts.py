"""The endpoints of jump hosts."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.request import Request
from rest_framework.response import Response

from nodes.api.idempotency import idempotent
from nodes.api.inputs import CredentialInput, Input, PageInput, Strict, WholeNumber, host_key_type_field
from nodes.api.jump_host_answers import JumpHostAnswer, JumpHostPage
from nodes.api.schema import documented
from nodes.api.viewsets import Endpoints, page_of
from nodes.engine import jump_hosts
from nodes.errors import InvalidInput, UnknownJumpHost
from nodes.models import JumpHost

_NAME = gettext_lazy("The jump host's name.")
_FRONT = gettext_lazy("The jump host in front of it, where it is not reached directly.")


class JumpHostInput(Input):
    jump_host = Strict(max_length=63, help_text=_NAME)


class ListJumpHostsInput(PageInput):
    """All of them."""


class AddJumpHostInput(Input):
    name = Strict(max_length=63)
    host = Strict(max_length=255)
    port = WholeNumber(min_value=1, max_value=65535, default=22)
    host_key_fingerprint = Strict(
        max_length=64, required=False, help_text=gettext_lazy("As scan-host-key gives it.")
    )
    host_key_type = host_key_type_field()
    credential = CredentialInput()
    through = Strict(max_length=63, required=False, help_text=_FRONT)


class UpdateJumpHostInput(JumpHostInput):
    name = Strict(max_length=63, required=False)
    host = Strict(max_length=255, required=False)
    port = WholeNumber(min_value=1, max_value=65535, required=False)
    user = Strict(max_length=64, required=False)
    host_key_fingerprint = Strict(max_length=64, required=False)
    host_key_type = host_key_type_field()
    credential = CredentialInput(required=False)
    through = Strict(max_length=63, required=False, allow_null=True, help_text=_FRONT)


EXAMPLE = {"jump_host": "bastion"}
REACHED = (
    (403, "permission_denied"),
    (409, "jump_host_exists, jump_host_in_use, host_key_mismatch, jump_host_key_mismatch"),
    (422, "host_key_required, authentication_failed, jump_host_auth_failed, jump_host_forwarding_refused"),
    (429, "rate_limited"),
    (502, "host_unreachable, jump_host_unreachable, jump_host_failed"),
    (504, "timeout"),
)


class JumpHostEndpoints(Endpoints):
    @documented(
        "Jump hosts",
        ListJumpHostsInput,
        JumpHostPage,
        example={"page_size": 50},
        description="Needs `manage_ssh` or `add_node`. `list-nodes` with `jump_host` gives the nodes behind "
        "one.",
        errors=((403, "permission_denied"),),
    )
    def list_jump_hosts(self, request: Request) -> Response:
        data = self.read(ListJumpHostsInput)
        jump_hosts.require_sight(self.user)
        count, page = page_of(jump_hosts.counted(jump_hosts.visible_to(self.user)), data)
        return Response(JumpHostPage(count, [JumpHostAnswer.of(row) for row in page]))

    @documented(
        "One jump host",
        JumpHostInput,
        JumpHostAnswer,
        example=EXAMPLE,
        description="Needs `manage_ssh` or `add_node`.",
        errors=((403, "permission_denied"),),
    )
    def describe_jump_host(self, request: Request) -> Response:
        row = jump_hosts.find(self.user, self.read(JumpHostInput)["jump_host"])
        return Response(self._answer(row))

    @documented(
        "Add a jump host",
        AddJumpHostInput,
        JumpHostAnswer,
        example={
            "name": "bastion",
            "host": "bastion.example.org",
            "host_key_fingerprint": "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "credential": {"kind": "nodeadmin_key", "user": "jump"},
        },
        changes=True,
        description="Reaches out to the jump host, for 15 seconds at most: the host key is compared with "
        "`host_key_fingerprint` (see scan-host-key), then the credential is tried; it is kept only where it "
        "is taken. Without a fingerprint: `422 host_key_required` before any contact. Needs `manage_ssh`.",
        errors=REACHED,
    )
    @idempotent
    def add_jump_host(self, request: Request) -> Response:
        data = self.read(AddJumpHostInput)
        jump_hosts.require_management(self.user)
        row = jump_hosts.add(
            self.actor,
            name=data["name"],
            host=data["host"],
            port=data["port"],
            fingerprint=data.get("host_key_fingerprint", ""),
            key_type=data.get("host_key_type", ""),
            credential=data["credential"],
            jump_host=_front(data.get("through")),
        )
        return Response(self._answer(row))

    @documented(
        "Change a jump host",
        UpdateJumpHostInput,
        JumpHostAnswer,
        example=EXAMPLE | {"port": 2222, "host_key_fingerprint": "SHA256:" + "A" * 43},
        changes=True,
        description="What is left out stays; `through: null` reaches it directly. What decides how it is "
        "entered is tried first, for 15 seconds at most, and only then replaces what was in force. A stored "
        "secret is sent to no other address, user or host key: give the credential again with such a "
        "change. Needs `manage_ssh`.",
        errors=REACHED,
    )
    @idempotent
    def update_jump_host(self, request: Request) -> Response:
        data = self.read(UpdateJumpHostInput)
        jump_hosts.require_management(self.user)
        changes = {"name", "host", "port", "user", "host_key_fingerprint", "credential", "through"} & set(
            data
        )
        if not changes:
            raise InvalidInput(
                _("The request changes nothing."), remedy=_("Name at least one field to change.")
            )
        row = jump_hosts.update(
            self.actor,
            jump_hosts.named(data["jump_host"]),
            name=data.get("name", ""),
            host=data.get("host", ""),
            port=data.get("port"),
            user=data.get("user", ""),
            fingerprint=data.get("host_key_fingerprint", ""),
            key_type=data.get("host_key_type", ""),
            credential=data.get("credential"),
            jump_host=_front(data["through"]) if "through" in data else jump_hosts.UNCHANGED,
        )
        return Response(self._answer(row))

    @documented(
        "Remove a jump host",
        JumpHostInput,
        JumpHostAnswer,
        example=EXAMPLE,
        changes=True,
        description="Answers what it was. Refused while nodes or other jump hosts are reached through it. "
        "Needs `manage_ssh`.",
        errors=((403, "permission_denied"), (409, "jump_host_in_use")),
    )
    @idempotent
    def remove_jump_host(self, request: Request) -> Response:
        name = self.read(JumpHostInput)["jump_host"]
        jump_hosts.require_management(self.user)
        row = jump_hosts.named(name)
        answer = self._answer(row)
        jump_hosts.remove(self.actor, row)
        return Response(answer)

    def _answer(self, row: JumpHost) -> JumpHostAnswer:
        return JumpHostAnswer.of(jump_hosts.counted(jump_hosts.all_rows()).get(pk=row.pk))


def _front(name: str | None) -> JumpHost | None:
    try:
        return jump_hosts.named(name) if name else None
    except UnknownJumpHost as error:
        error.field = "through"
        raise
