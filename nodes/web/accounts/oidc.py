"""Who the identity provider's users are here: created where a mapped group says so, and in the groups that
the provider names, no more and no less."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from requests import Session

from nodes import access
from nodes.engine.identity import create_user, synchronise_groups
from nodes.events import Actor
from nodes.hosts.checked_requests import CheckedSession
from nodes.models.event import Via

DEADLINE_S = 10.0
"""Of one request to the provider, its answer included."""
MOST_BYTES = 1 << 20
"""Of one answer; those that are any are some thousand bytes long."""
MOST_GROUPS = 2000
PROOFS = frozenset({"mfa"})
"""What in ``amr`` says that there were several factors (RFC 8176, section 2)."""
STRONG = frozenset({"phr", "phrh"})
"""What in ``acr`` says so (OpenID Connect Extended Authentication Profile, ACR values)."""
NAME = re.compile(r"[^\w.@+-]+")


@dataclass(frozen=True, slots=True)
class SignInButton:
    name: str
    url: str


def sign_in_button(request: HttpRequest) -> SignInButton | None:
    """The button on the login page; None where no provider is set."""
    if not settings.NODEADMIN_OIDC_ISSUER:
        return None
    return SignInButton(settings.NODEADMIN_OIDC_NAME, reverse("oidc-login"))


def claims_of(login: Any) -> dict[str, Any]:
    """What the provider says of a user: the ID token, and what userinfo adds to it."""
    data = login.account.extra_data
    return {**data.get("userinfo", {}), **data.get("id_token", {})}


def groups_of(claims: dict[str, Any]) -> frozenset[str]:
    """Our groups for the provider's, by ``NODEADMIN_OIDC_GROUP_ROLES``; unknown ones count for nothing."""
    found = claims.get(settings.NODEADMIN_OIDC_GROUPS_CLAIM)
    names = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    mapped = (
        settings.NODEADMIN_OIDC_GROUP_ROLES.get(name) for name in names[:MOST_GROUPS] if isinstance(name, str)
    )
    return frozenset(group for group in mapped if group)


def proved_factor(claims: dict[str, Any]) -> bool:
    """Whether the provider vouches for a second factor, and is believed."""
    if not settings.NODEADMIN_OIDC_TRUSTS_SECOND_FACTOR:
        return False
    methods = claims.get("amr")
    several = isinstance(methods, list) and bool(PROOFS & {str(one) for one in methods})
    return several or claims.get("acr") in STRONG


class SocialAdapter(DefaultSocialAccountAdapter):
    """allauth's hooks (its documentation, Third-Party Accounts, Adapter)."""

    def get_requests_session(self) -> Session:
        """To addresses alone that the network rules allow, within a time and a size, and without following
        the provider to another address."""
        rules = access.network_rules()
        session = CheckedSession(rules, "provider", timeout_s=DEADLINE_S, most_bytes=MOST_BYTES)
        # As requests has it by itself, which here asks the environment nothing else.
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        return session

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        return bool(groups_of(claims_of(sociallogin)))

    def can_authenticate_by_email(self, login: Any, email: str) -> bool:
        """Never: who can set an address of mail at the provider would take somebody's account over."""
        return False

    def is_auto_signup_allowed(self, request: HttpRequest, sociallogin: Any) -> bool:
        return True

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        """Groups first: who has lost them all has lost what they were here, and does not come in."""
        wanted = groups_of(claims_of(sociallogin))
        if sociallogin.is_existing:
            user = sociallogin.user
            synchronise_groups(self._actor(request, user), user, wanted, self._managed())
        if not wanted:
            context = {"provider": settings.NODEADMIN_OIDC_NAME}
            raise ImmediateHttpResponse(render(request, "socialaccount/no_group.html", context, status=403))

    def save_user(self, request: HttpRequest, sociallogin: Any, form: Any = None) -> Any:
        user = sociallogin.user
        with transaction.atomic():
            # allauth has emptied a name that somebody has already.
            claims = claims_of(sociallogin)
            name = self._name(str(claims.get("preferred_username") or claims["sub"]))
            create_user(self._actor(request, None), user, name)
            sociallogin.save(request)
            synchronise_groups(self._actor(request, user), user, groups_of(claims), self._managed())
        return user

    def _name(self, wanted: str) -> str:
        return NAME.sub("-", wanted).strip("-")[:140] or _("user")

    def _managed(self) -> frozenset[str]:
        return frozenset(settings.NODEADMIN_OIDC_GROUP_ROLES.values())

    def _actor(self, request: HttpRequest, user: Any) -> Actor:
        return Actor(user, request.META.get("REMOTE_ADDR") or None, Via.PAGE)
