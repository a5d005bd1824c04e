"""Errors as problem documents (RFC 9457): the API's one way to say no."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework import exceptions as drf
from rest_framework.response import Response

from nodes.database_faults import unavailable
from nodes.errors import NodeAdminError

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (drf.ValidationError, "invalid_input"),
    (drf.ParseError, "invalid_input"),
    (drf.UnsupportedMediaType, "unsupported_media_type"),
    (drf.NotAcceptable, "not_acceptable"),
    (drf.NotAuthenticated, "not_authenticated"),
    (drf.AuthenticationFailed, "not_authenticated"),
    (drf.PermissionDenied, "permission_denied"),
    (drf.MethodNotAllowed, "method_not_allowed"),
    (drf.NotFound, "not_found"),
    (drf.Throttled, "rate_limited"),
)


def problem_response(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document. ``type`` is a URN of the code, which names it for good and promises no page."""
    body: dict[str, Any] = {
        "type": f"urn:nodeadmin:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "errors": list(errors),
        **(extra or {}),
    }
    return Response(body, status=status, content_type=CONTENT_TYPE, headers=dict(headers or {}))


def handle(error: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's exception handler.

    What nobody expected becomes a reference number in the answer and a traceback in the log.
    """
    if isinstance(error, NodeAdminError):
        response = from_error(error)
    elif (busy := unavailable(error)) is not None:
        log.warning("the database does not answer", detail=str(error))
        response = from_error(busy)
    elif isinstance(error, Http404):
        response = problem_response(404, "not_found", _("Not found"), _("There is nothing here."))
    elif isinstance(error, DjangoPermissionDenied):
        response = problem_response(403, "permission_denied", _("Not allowed"), _("You may not do this."))
    elif isinstance(error, RequestDataTooBig):
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        detail = _("A body has %d bytes at most.") % limit
        response = problem_response(413, "body_too_large", _("The body is too large"), detail)
    elif isinstance(error, drf.APIException):
        response = _from_drf(error)
    else:
        reference = secrets.token_hex(4)
        log.error("unexpected error in the API", reference=reference, exc_info=error)
        detail = _("An unexpected error. Its reference in the server's log is %s.") % reference
        response = problem_response(
            500, "internal_error", _("Something went wrong"), detail, extra={"reference": reference}
        )
    _roll_back()
    return response


def _roll_back() -> None:
    connection = transaction.get_connection()
    if connection.in_atomic_block and connection.settings_dict.get("ATOMIC_REQUESTS"):
        transaction.set_rollback(True)


def from_error(error: NodeAdminError) -> Response:
    """One of our errors, with its remedy."""
    errors = list(error.errors)
    if error.field and not errors:
        errors = [{"field": error.field, "message": str(error.message)}]
    extra: dict[str, Any] = {**error.extra, "retryable": error.retryable}
    if error.remedy:
        extra["remedy"] = str(error.remedy)
    wait_s = extra.get("retry_after_s")
    return problem_response(
        error.http_status,
        error.code,
        str(error.title),
        error.detail(),
        errors=errors,
        extra=extra,
        headers={"Retry-After": str(wait_s)} if wait_s is not None else None,
    )


def _from_drf(error: drf.APIException) -> Response:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "invalid_input")
    errors = list(_field_errors(error.detail)) if isinstance(error, drf.ValidationError) else []
    if errors:
        detail = "; ".join(
            f"{row['field']}: {row['message']}" if row["field"] else row["message"] for row in errors
        )
        title = _("The request has an invalid value")
    else:
        detail = str(error.detail)
        # Of some the default is a template with a hole in it.
        title = str(error.default_detail)
        title = detail if "{" in title else title
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if (wait_s := getattr(error, "wait", None)) is not None:
        headers["Retry-After"] = str(int(wait_s) + 1)
    return problem_response(error.status_code, code, title, detail, errors=errors, headers=headers)


def _field_errors(detail: Any, path: str = "") -> Iterator[dict[str, str]]:
    """DRF's nested errors as a flat list with dotted field names."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            here = "" if name == "non_field_errors" else str(name)
            yield from _field_errors(inner, ".".join(part for part in (path, here) if part))
    elif isinstance(detail, list | tuple):
        nested = any(isinstance(inner, Mapping) for inner in detail)
        for index, inner in enumerate(detail):
            yield from _field_errors(inner, f"{path}.{index}" if nested else path)
    else:
        yield {"field": path, "message": str(detail)}
