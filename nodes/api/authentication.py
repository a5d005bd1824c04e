"""``Authorization: Bearer TOKEN`` (RFC 6750)."""

from __future__ import annotations

from django.db import DatabaseError
from django.utils.translation import gettext as _
from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    get_authorization_header,
)
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from nodes import second_factor
from nodes.database_faults import unavailable
from nodes.errors import SecondFactorRequired
from nodes.models import ApiToken, User


class BearerTokenAuthentication(BaseAuthentication):
    """One query a request; CSRF does not matter, because no browser sends the header by itself. The user
    carries the token's limits, which nodes/permissions.py keeps."""

    keyword = b"bearer"

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != self.keyword:
            return None
        if len(parts) != 2:
            raise AuthenticationFailed(_("The Authorization header takes “Bearer” and one token."))
        address = request.META.get("REMOTE_ADDR") or None
        token = ApiToken.find(parts[1].decode("latin-1"), address)
        if token is None:
            # One answer for all: who has found a token is not told that it would count elsewhere.
            raise AuthenticationFailed(
                _("The token is unknown, expired or revoked, or is not accepted from this address.")
            )
        try:
            token.touch(address)
        except DatabaseError as error:
            # Reading goes on while somebody else writes; when the token was last used is told a minute later.
            if unavailable(error) is None:
                raise
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="nodeadmin"'


class LoginAuthentication(SessionAuthentication):
    """The login of a browser, as pages have it; CSRF is checked. Where a second factor is required at each
    sign-in, a login without it is none."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        found: tuple[User, None] | None = super().authenticate(request)
        if found is not None and not second_factor.may_use(request._request.session):
            raise SecondFactorRequired(
                _("This server requires a second factor, and this login was made without one."),
                remedy=_("Set one up under Account › Second factor, or sign in again with it."),
                extra={"enrol": not second_factor.has_factor(found[0])},
            )
        return found
