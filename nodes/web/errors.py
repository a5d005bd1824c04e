"""What a page answers when something is wrong: our own errors with their remedy, the rest with a reference.

The API has its own answers (nodes/api/exceptions.py); this is the one web handler. A request of htmx gets a
flash message instead of a page, so that what the user was looking at stays.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.database_faults import unavailable
from nodes.errors import NodeAdminError, ServerBusy
from nodes.sign_in_limits import retry_after_s

log = structlog.get_logger(__name__)

API_PREFIX = "/api/"


@dataclass(frozen=True, slots=True)
class Fault:
    """What the error page shows."""

    status: int
    title: str
    message: str
    remedy: str = ""
    code: str = ""
    reference: str = ""
    retry_after_s: int | None = None


class ErrorPageMiddleware:
    """Turns errors of page views into answers. Those of the API are DRF's to answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # The same URL gives a page to a browser and a part of it to htmx; caches must not mix them up.
        patch_vary_headers(response, ("HX-Request",))
        if not response.has_header("Cache-Control"):
            # Pages and answers are one user's, of one moment: no cache between may keep or reuse them.
            patch_cache_control(response, private=True, no_cache=True)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Called by Django for what a view raised; None leaves Http404 and its like to Django's handlers."""
        if request.path.startswith(API_PREFIX):
            return None
        if isinstance(exception, NodeAdminError):
            return answer(request, of_error(exception))
        if (busy := unavailable(exception)) is not None:
            log.warning("the database does not answer", path=request.path, detail=str(exception))
            return answer(request, of_error(busy))
        return None


def of_error(error: NodeAdminError) -> Fault:
    """An expected error as the page shows it."""
    wait_s = error.extra.get("retry_after_s")
    return Fault(
        error.http_status, str(error.title), error.message, error.remedy, error.code, retry_after_s=wait_s
    )


def answer(request: HttpRequest, fault: Fault) -> HttpResponse:
    """The error as a page, or as a flash message where htmx asked.

    Where the server itself cannot go on (5xx of ours), the page needs neither the request nor the database.
    """
    if _is_api(request):
        response: HttpResponse = _problem(fault)
    elif getattr(request, "htmx", False):
        response = _flash(request, fault)
    elif fault.status == ServerBusy.http_status:
        response = HttpResponse(render_to_string("errors/500.html", {"fault": fault}), status=fault.status)
    else:
        response = render(request, "errors/error.html", {"fault": fault}, status=fault.status)
    if fault.retry_after_s is not None:
        response["Retry-After"] = str(fault.retry_after_s)
    return response


def _flash(request: HttpRequest, fault: Fault) -> HttpResponse:
    of_ours = None if fault.status == ServerBusy.http_status else request
    response = HttpResponse(
        render_to_string("components/flash_fault.html", {"fault": fault}, of_ours), status=fault.status
    )
    response["HX-Retarget"] = "#flash"
    response["HX-Reswap"] = "beforeend"
    return response


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith(API_PREFIX)


def _problem(fault: Fault) -> JsonResponse:
    data = {"type": "about:blank", "title": fault.title, "status": fault.status, "detail": fault.message}
    data |= {"code": fault.code or "error", "errors": []}
    if fault.remedy:
        data["remedy"] = fault.remedy
    if fault.reference:
        data["reference"] = fault.reference
    return JsonResponse(data, status=fault.status, content_type="application/problem+json")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler400"""
    message = _("The server could not make sense of what was sent.")
    return answer(request, Fault(400, _("That request is not valid"), message, code="invalid_input"))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler403"""
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    message = _("Your account has no right to do this.")
    remedy = _("Ask an administrator to grant it.")
    return answer(request, Fault(403, _("Not allowed"), message, remedy, "permission_denied"))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler404"""
    message = _("There is nothing at this address, or you may not see it.")
    return answer(request, Fault(404, _("Not found"), message, code="not_found"))


def server_error(request: HttpRequest) -> HttpResponse:
    """handler500: a reference for the reader, the traceback with the same reference for the log."""
    busy = unavailable(sys.exc_info()[1])
    if busy is not None:  # in a middleware, which process_exception does not see
        log.warning("the database does not answer", path=request.path)
        return answer(request, of_error(busy))
    reference = secrets.token_hex(4)
    raised = sys.exc_info()  # Django calls this while it handles what the view raised
    log.error("unexpected_error", reference=reference, path=request.path, exc_info=raised)
    fault = Fault(
        500,
        _("Something went wrong"),
        _("nodeadmin met an error that it did not expect. Nothing was changed that is not shown."),
        _("Try again. If it stays, give this reference to whoever looks after the server; it is in the log."),
        "unexpected",
        reference,
    )
    if _is_api(request) or getattr(request, "htmx", False):
        return answer(request, fault)
    # Without the request: context processors may be what failed.
    return HttpResponse(render_to_string("errors/500.html", {"fault": fault}), status=500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The form was too old, or did not come from one of our pages."""
    request.form_has_expired = True  # type: ignore[attr-defined]  # nothing was denied: see nodes/audit
    message = _("This form was opened before you signed in, or cookies are switched off.")
    remedy = _("Go back, reload the page and send it again.")
    return answer(request, Fault(403, _("The form has expired"), message, remedy, "csrf_failed"))


def locked_out(
    request: HttpRequest, _response: HttpResponse | None = None, credentials: object = None
) -> HttpResponse:
    """Too many wrong passwords (nodes/sign_in_limits.py). Names that nobody has get the same answer."""
    wait_s = retry_after_s(request) or 1
    fault = Fault(
        429,
        _("Too many attempts"),
        _("There were too many wrong passwords for this name or from your address."),
        ngettext("Wait %d second, then try again.", "Wait %d seconds, then try again.", wait_s) % wait_s,
        "rate_limited",
        retry_after_s=wait_s,
    )
    response = render(request, "errors/error.html", {"fault": fault}, status=429)
    response["Retry-After"] = str(wait_s)
    return response
