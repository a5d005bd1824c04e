"""The identity provider: PKCE, state and nonce at each sign-in, and an ID token that is verified whole.

allauth's provider knows no nonce, trusts a token that came from the token endpoint without its signature, and
takes the user from the userinfo answer. Here the ID token says who it is (OpenID Connect Core 1.0, sections
3.1.3.7 and 5.3.2), and userinfo adds to it only where its ``sub`` is the same.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import jwt
from allauth.socialaccount.internal import jwtkit
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from allauth.utils import build_absolute_uri
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Signatures by a key that the provider publishes; one by the client's secret is not among them."""
PROVIDER_ID = "oidc"


class OidcAdapter(OpenIDConnectOAuth2Adapter):
    """The exchange of the code, and what comes of it. ``nonce`` is that of the sign-in that was begun."""

    nonce = ""

    @property
    def openid_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().openid_config
        issuer = settings.NODEADMIN_OIDC_ISSUER
        if config.get("issuer") != issuer:
            raise OAuth2Error(f"the provider calls itself {config.get('issuer')!r}, not {issuer!r}")
        return config

    def get_callback_url(self, request: HttpRequest, app: Any) -> str:
        return str(build_absolute_uri(request, reverse("oidc-callback")))

    def complete_login(self, request: HttpRequest, app: Any, token: Any, **kwargs: Any) -> Any:
        text = kwargs["response"].get("id_token")
        if not isinstance(text, str):
            raise OAuth2Error("the provider sent no ID token")
        claims = self._decode_id_token(app, text)
        data: dict[str, Any] = {"id_token": claims}
        if self.openid_config.get("userinfo_endpoint"):
            more = self._fetch_user_info(token.token)
            if more.get("sub") != claims["sub"]:
                raise OAuth2Error("the provider's userinfo is about somebody else")
            data["userinfo"] = more
        return self.get_provider().sociallogin_from_response(request, data)

    def _decode_id_token(self, app: Any, id_token: str) -> dict[str, Any]:
        """Raises OAuth2Error for a token that is not the provider's, not for us, or of another sign-in."""
        try:
            if jwt.get_unverified_header(id_token).get("alg") not in ALGORITHMS:
                raise OAuth2Error("the ID token's signature is of no accepted kind")
        except jwt.PyJWTError as error:
            raise OAuth2Error("the ID token cannot be read") from error
        claims: dict[str, Any] = jwtkit.verify_and_decode(
            credential=id_token,
            keys_url=self.openid_config["jwks_uri"],
            issuer=settings.NODEADMIN_OIDC_ISSUER,
            audience=app.client_id,
            lookup_kid=jwtkit.lookup_kid_jwk,
            verify_signature=True,
        )
        if not isinstance(claims.get("sub"), str) or not claims["sub"] or "exp" not in claims:
            raise OAuth2Error("the ID token names nobody, or has no end")
        if claims.get("azp", app.client_id) != app.client_id:
            raise OAuth2Error("the ID token was made for another client")
        if not self.nonce or not secrets.compare_digest(str(claims.get("nonce", "")), self.nonce):
            raise OAuth2Error("the ID token belongs to another sign-in (nonce)")
        return claims


class Callback(OAuth2CallbackView):
    """Where the provider sends the browser back to."""

    adapter: OidcAdapter

    def _get_state(self, request: HttpRequest, provider: Any) -> Any:
        state, refused = super()._get_state(request, provider)
        self.adapter.nonce = str(state.get("nonce", "")) if state else ""
        return state, refused


class OidcProvider(OpenIDConnectProvider):
    """Replaces allauth's of the same id."""

    id = "openid_connect"
    name = "OpenID Connect"
    oauth2_adapter_class = OidcAdapter
    supports_token_authentication = False

    def redirect(
        self, request: HttpRequest, process: str, next_url: Any = None, data: Any = None, **kwargs: Any
    ) -> Any:
        nonce = secrets.token_urlsafe(24)
        kwargs["auth_params"] = {**self.get_auth_params(), "nonce": nonce}
        return super().redirect(request, AuthProcess.LOGIN, next_url, data, nonce=nonce, **kwargs)

    def get_scope_from_request(self, request: HttpRequest) -> list[str]:
        """What is asked for is the server's to say, not the page's."""
        return list(settings.NODEADMIN_OIDC_SCOPES)

    def extract_uid(self, data: dict[str, Any]) -> str:
        """Issuer and subject: the same subject at another issuer is somebody else."""
        issuer = hashlib.sha256(settings.NODEADMIN_OIDC_ISSUER.encode()).hexdigest()[:24]
        subject = str(data["id_token"]["sub"])
        if len(subject) > 150:
            subject = hashlib.sha256(subject.encode()).hexdigest()
        return f"{issuer}:{subject}"

    def extract_common_fields(self, data: dict[str, Any]) -> dict[str, Any]:
        """A name to be shown; no address of mail, by which nobody is ever matched."""
        found = {**data["id_token"], **data.get("userinfo", {})}
        names = {"first_name": "given_name", "last_name": "family_name"}
        fields = {ours: found[theirs] for ours, theirs in names.items() if isinstance(found.get(theirs), str)}
        return fields | {"username": str(found.get("preferred_username") or found["sub"])}

    def extract_email_addresses(self, data: dict[str, Any]) -> list[Any]:
        return []


provider_classes = [OidcProvider]
