"""Idempotency-Key: the same call made twice is done once, and answered alike.

The key's row is written before the work, so that of two calls at the same instant one does it and the
other is told to wait. An operation is tied to the key in the transaction that queues it: should the process
die before it has answered, the same call again finds that operation and starts no second one. An answer
that a retry could better (5xx, 429, and the call for a confirmation) does not use the key up.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar, cast

import msgspec
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response

from nodes.api.answers import OperationAnswer
from nodes.api.exceptions import CONTENT_TYPE
from nodes.api.rendering import encode_unknown
from nodes.errors import IdempotencyKeyReused, InvalidInput, NodeBusy
from nodes.models import IdempotencyKey, User

KEY = re.compile(r"[\x21-\x7e]{1,255}")
KEPT = timedelta(hours=24)
NOT_KEPT = frozenset({428, 429})
UNANSWERED_AFTER = timedelta(minutes=2)
"""A first call that has not answered by then died with its process; the key is free again."""

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
    body = {name: value for name, value in dict(request.data).items() if name not in NOT_COMPARED}
    digest = hashlib.sha256(json.dumps([action, body], sort_keys=True).encode()).hexdigest()
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
        row = rows.select_related("operation__node").get()
    if row.body_digest != digest:
        raise IdempotencyKeyReused(
            _("This Idempotency-Key came with another request before."),
            remedy=_("Use a new key for each request."),
        )
    return row, False


def _replay(row: IdempotencyKey) -> Response:
    headers = {"Idempotency-Replayed": "true"}
    if row.operation is not None and row.status_code is None:
        return Response(OperationAnswer.of(row.operation), status=202, headers=headers)
    if row.status_code is None:
        raise NodeBusy(
            _("The first request with this Idempotency-Key is still being answered."),
            remedy=_("Try again shortly."),
        )
    kind = CONTENT_TYPE if row.status_code >= 400 else None
    return Response(row.answer, status=row.status_code, content_type=kind, headers=headers)


def _keep(row: IdempotencyKey, response: Response) -> None:
    row.refresh_from_db(fields=["operation"])
    if row.operation is None and (response.status_code >= 500 or response.status_code in NOT_KEPT):
        row.delete()
        return
    row.status_code = response.status_code
    row.answer = msgspec.json.decode(msgspec.json.encode(response.data, enc_hook=encode_unknown))
    row.save(update_fields=["status_code", "answer"])
