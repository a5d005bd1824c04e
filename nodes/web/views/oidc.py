"""Signing in at the identity provider: there, and back."""

from __future__ import annotations

from typing import Any

import structlog
from allauth.account.utils import get_next_redirect_url
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST
from requests import RequestException

from nodes.web.accounts.provider import PROVIDER_ID, Callback, OidcAdapter

log = structlog.get_logger(__name__)


@require_POST
def login(request: HttpRequest) -> HttpResponseBase:
    """On to the provider, by a page that goes there: a form of ours that was redirected to another host would
    be stopped by our own security policy (form-action)."""
    try:
        provider = get_adapter(request).get_provider(request, PROVIDER_ID)
        answer = provider.redirect(request, AuthProcess.LOGIN, get_next_redirect_url(request))
    except SocialApp.DoesNotExist:
        raise Http404 from None
    except (RequestException, OAuth2Error, ValueError, KeyError, TypeError) as error:
        return unreachable(request, error)
    if answer.status_code != 302:
        return answer
    context = {"address": answer["Location"], "provider": settings.NODEADMIN_OIDC_NAME}
    return render(request, "socialaccount/leaving.html", context)


@require_GET
def callback(request: HttpRequest) -> HttpResponseBase:
    """Back from the provider, with a code or with what it refused."""
    if not settings.NODEADMIN_OIDC_ISSUER:
        raise Http404
    try:
        return Callback.adapter_view(OidcAdapter(request, PROVIDER_ID))(request)
    except (RequestException, OAuth2Error, ValueError, KeyError, TypeError) as error:
        return unreachable(request, error)


def unreachable(request: HttpRequest, error: Exception) -> HttpResponse:
    """The provider does not answer, or not as the standard has it. Passwords go on working."""
    log.warning("the identity provider cannot be used", error=str(error)[:500], kind=type(error).__name__)
    context: dict[str, Any] = {"provider": settings.NODEADMIN_OIDC_NAME}
    return render(request, "socialaccount/unreachable.html", context, status=503)
