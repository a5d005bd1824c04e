"""What a call must fulfil that adds a node or changes how one is reached.

The rules are asked in three places: when the call is made, when its operation is retried, and when the
operation begins. Between them the node, its credential and the rights of who asked may have changed, so
nothing that held in one place is taken to hold in the next.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import HostKeyRequired, InvalidInput, NodeExists
from nodes.hosts.target import HostKey
from nodes.hosts.uri import NodeUri
from nodes.models import Credential, Node, User
from nodes.models.credential import CredentialKind
from nodes.models.labels import check_labels
from nodes.models.node import as_uuid
from nodes.models.sealed import BoundSecret
from nodes.operations.base import JsonObject
from nodes.permissions import ADD, CHANGE, require
from nodes.trusted_labels import require_label_change


def check_add(user: User, name: str, params: JsonObject) -> None:
    """Raise PermissionDenied, InvalidUri, InvalidInput, NodeExists, or HostKeyRequired where an SSH address
    comes without the fingerprint that somebody has compared."""
    require(user, ADD)
    uri = access.read_uri(params["uri"])
    if uri.transport == "ssh":
        check_fingerprint(uri, params.get("fingerprint", ""))
        if not params.get("credential_kind"):
            raise credential_missing()
    refuse_taken_name(name)
    _check_fields(name, params["type"])
    labels = params.get("labels", {})
    refuse_bad_labels(labels)
    require_label_change(user, {}, labels)


def check_update(user: User, node: Node, params: JsonObject) -> None:
    """Raise PermissionDenied, InvalidUri, InvalidInput, HostKeyRequired, and CredentialNotForTarget where the
    node's stored credential would have to be sent to what it was not stored for.

    nodeadmin's own key may be offered to any host: it is not given away by its use.
    """
    require(user, CHANGE, node)
    row = Node.objects.select_related("credential").get(pk=node.pk)
    current, wanted = access.read_uri(row.uri), access.read_uri(params["uri"])
    if wanted.transport != "ssh":
        if wanted.transport != current.transport:
            # It asks for no credential: who may change one node is not to get at this machine by that.
            require(user, ADD)
        return
    fingerprint = params.get("fingerprint", "")
    if not fingerprint and (wanted.host, wanted.port) != (current.host, current.port):
        raise fingerprint_missing(wanted)
    fingerprint = fingerprint or access.confirmed_fingerprint(row)
    check_fingerprint(wanted, fingerprint)
    if not params.get("credential_kind"):
        _check_stored(getattr(row, "credential", None), wanted, fingerprint)


def _check_stored(credential: Credential | None, wanted: NodeUri, fingerprint: str) -> None:
    if credential is None:
        raise credential_missing()
    secret = BoundSecret.of(credential.secret)
    binding = access.binding_of(wanted, fingerprint)
    if credential.kind != CredentialKind.NODEADMIN_KEY and secret is not None:
        secret.check(binding)
    sudo = BoundSecret.of(credential.sudo_secret)
    if sudo is not None:
        sudo.check(binding)


def check_fingerprint(uri: NodeUri, fingerprint: str) -> None:
    """Raise HostKeyRequired where there is none, InvalidInput where it has not the form of one."""
    if not fingerprint:
        raise fingerprint_missing(uri)
    if not HostKey.is_fingerprint(fingerprint):
        raise InvalidInput(
            _("A fingerprint is “SHA256:” and 43 characters, as scan-host-key and ssh-keygen -l print it."),
            field="host_key_fingerprint",
        )


def fingerprint_missing(uri: NodeUri) -> HostKeyRequired:
    """The error of an address whose host key nobody has compared."""
    return HostKeyRequired(
        _("The host key of %s has not been confirmed.") % uri.host,
        remedy=_(
            "Scan the host's key, compare its fingerprint on the host, and send it as host_key_fingerprint."
        ),
        field="host_key_fingerprint",
    )


def credential_missing() -> InvalidInput:
    """The error of an SSH address that nothing opens."""
    return InvalidInput(_("An SSH address needs a credential."), field="credential")


def refuse_taken_name(name: str) -> None:
    """Raise NodeExists where a node has the name. That it is taken is said; by what, is not."""
    if Node.objects.filter(name=name).exists():
        raise NodeExists(_("The name “%s” is taken.") % name, remedy=_("Choose another name."), field="name")


def refuse_uuid(name: str) -> None:
    """Raise InvalidInput for a name like a UUID: nodes are called by either, and who named a node after
    another one's UUID would get what was meant for that."""
    if as_uuid(name) is not None:
        raise InvalidInput(_("A name cannot be a UUID."), remedy=_("Choose another name."), field="name")


def refuse_bad_labels(labels: Any) -> None:
    """Raise InvalidInput for labels that break their rule."""
    try:
        check_labels(labels)
    except ValidationError as error:
        raise InvalidInput(error.messages[0], field="labels") from None


def _check_fields(name: str, node_type: str) -> None:
    draft = Node(name=name, node_type=node_type)
    others = [f.name for f in Node._meta.concrete_fields if f.name not in ("name", "node_type")]
    try:
        draft.clean_fields(exclude=others)
    except ValidationError as error:
        raise invalid(error, {"node_type": "type"}) from None
    refuse_uuid(name)


def invalid(error: ValidationError, names: JsonObject) -> InvalidInput:
    """The error of fields that the model refuses; ``names`` gives the field of a column."""
    errors = [
        {"field": names.get(column, column), "message": texts[0]}
        for column, texts in error.message_dict.items()
    ]
    return InvalidInput(errors[0]["message"], field=errors[0]["field"], errors=errors)
