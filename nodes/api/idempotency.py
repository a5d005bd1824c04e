"""Idempotency-Key: the same call made twice is done once, and answered alike.

The key's row is written before the work, so that of two calls at the same instant one does it and the
other is told to wait. An operation is tied to the key in the transaction that queues it: should the process
die before it has answered, the same call again finds that operation and starts no second one. An answer
that a retry could better (5xx, 429, and the call for a confirmation) does not use the key up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar, cast
from uuid import UUID

import msgspec
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response

from nodes.api.exceptions import CONTENT_TYPE
from nodes.api.operation_answers import operation_answer
from nodes.api.rendering import encode_unknown
from nodes.errors import IdempotencyKeyReused, InvalidInput, NodeBusy, UnknownNode, UnknownOperation
from nodes.models import IdempotencyKey, Node, Operation, User
from nodes.permissions import nodes_for, operations_for

KEY = re.compile(r"[\x21-\x7e]{1,255}")
KEPT = timedelta(hours=24)
NOT_KEPT = frozenset({428, 429})
UNANSWERED_AFTER = timedelta(minutes=2)
"""A first call that has not answered by then died with its process; the key is free again."""

BETTER_LATER = frozenset({"second_factor_required"})
"""Codes of answers that a retry could better, of statuses that are kept otherwise."""

NOT_COMPARED = ("confirm_token",)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Response])


def idempotent(endpoint: Endpoint) -> Endpoint:
    """Let an endpoint of a viewset honour ``Idempotency-Key``."""

    @wraps(endpoint)
    def answer(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return endpoint(view, request, *args, **kwargs)
        if not KEY.fullmatch(key):
            raise InvalidInput(
                _("An Idempotency-Key has 1 to 255 visible ASCII characters."), field="Idempotency-Key"
            )
        row, first = _claim(request, view.action, key)
        if not first:
            _check_still_visible(row, request)
            return _replay(row)
        request.idempotency_key = row  # type: ignore[attr-defined]
        try:
            response = endpoint(view, request, *args, **kwargs)
        except BaseException:
            IdempotencyKey.objects.filter(pk=row.pk, operation=None).delete()
            raise
        _keep(row, response)
        return response

    return answer  # type: ignore[return-value]


def _claim(request: Request, action: str, key: str) -> tuple[IdempotencyKey, bool]:
    if not isinstance(request.data, dict):
        raise InvalidInput(_("The body must be a JSON object."))
    body = {name: value for name, value in request.data.items() if name not in NOT_COMPARED}
    # Keyed: a plain hash would let who reads the database try passwords against it.
    # With another API token of the same user it is another request: the answer may not be for that one.
    limits = cast("User", request.user).token_limits
    text = json.dumps([action, body, limits.token if limits is not None else None], sort_keys=True)
    digest = salted_hmac("nodeadmin.idempotency", text, algorithm="sha256").hexdigest()
    now = timezone.now()
    user = cast("User", request.user)
    rows = IdempotencyKey.objects.filter(user=user, key=key)
    rows.filter(created_at__lt=now - KEPT).delete()
    rows.filter(status_code=None, operation=None, created_at__lt=now - UNANSWERED_AFTER).delete()
    try:
        with transaction.atomic():
            return (
                IdempotencyKey.objects.create(user=user, key=key, endpoint=action, body_digest=digest),
                True,
            )
    except IntegrityError:
        row = rows.select_related("operation__node").defer("operation__secret").first()
    if row is None:
        # The first call has just been refused, which frees the key.
        raise _still_answered()
    if row.body_digest != digest:
        raise IdempotencyKeyReused(
            _("This Idempotency-Key came with another request before."),
            remedy=_("Use a new key for each request."),
        )
    return row, False


def _still_answered() -> NodeBusy:
    return NodeBusy(
        _("The first request with this Idempotency-Key is still being answered."),
        remedy=_("Try again shortly."),
    )


def _check_still_visible(row: IdempotencyKey, request: Request) -> None:
    """Raise UnknownNode or UnknownOperation where the first answer is of what the user may no longer see.

    What has been removed since is no secret from who was told of it before: that answer is given again.
    """
    user = cast("User", request.user)
    answer = row.answer if isinstance(row.answer, dict) else {}
    asked = cast("dict[str, Any]", request.data)
    operations = [row.operation_id, answer.get("id"), asked.get("operation")]
    wanted = [found for found in map(_uuid, operations) if found is not None]
    existing = Operation.objects.filter(pk__in=wanted)
    if existing.count() > operations_for(user).filter(pk__in=wanted).count():
        raise UnknownOperation(_("There is no such operation, or you may not see it."), field="operation")
    for name in (answer.get("uuid"), asked.get("node")):
        if not isinstance(name, str) or not Node.objects.named(name).exists():
            continue
        if not nodes_for(user).named(name).exists():
            raise UnknownNode(
                _("There is no node “%(name)s”, or you may not see it.") % {"name": name}, field="node"
            )


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _replay(row: IdempotencyKey) -> Response:
    headers = {"Idempotency-Replayed": "true"}
    if row.operation is not None and row.status_code is None:
        return Response(operation_answer(row.operation), status=202, headers=headers)
    if row.status_code is None:
        raise _still_answered()
    kind = CONTENT_TYPE if row.status_code >= 400 else None
    return Response(row.answer, status=row.status_code, content_type=kind, headers=headers)


def _keep(row: IdempotencyKey, response: Response) -> None:
    row.refresh_from_db(fields=["operation"])
    if row.operation is None and (response.status_code >= 500 or _better_later(response)):
        row.delete()
        return
    row.status_code = response.status_code
    row.answer = msgspec.json.decode(msgspec.json.encode(response.data, enc_hook=encode_unknown))
    row.save(update_fields=["status_code", "answer"])


def _better_later(response: Response) -> bool:
    code = response.data.get("code") if isinstance(response.data, dict) else None
    return response.status_code in NOT_KEPT or code in BETTER_LATER
