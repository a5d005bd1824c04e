"""Tokens for programs: shown once, stored as a hash, with limits that never change."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import Permission
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from nodes.models.token_limits import TokenLimits, TokenScope
from nodes.models.user import User

PREFIX = "na_"
LAST_USED_STEP = timedelta(minutes=1)


def digest(token: str) -> str:
    """SHA-256 of the token. A token has 256 bits of its own, so a slow hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_inside(address: str | None, networks: Iterable[str]) -> bool:
    """Whether the address is in one of the networks (CIDR). An address that is unknown is in none."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in ipaddress.ip_network(network) for network in networks)


class ApiToken(models.Model):
    """A token of a user. What it may is decided when it is made: ``permissions`` (codenames), the nodes, and
    the networks it is taken from (none: any). Where a second factor is required, one that was made without
    does nothing that asks people for it. What its user loses it loses at the same moment."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens", verbose_name=_("user")
    )
    name = models.CharField(_("name"), max_length=80)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    read_only = models.BooleanField(_("reading only"), default=False)
    permissions = models.JSONField(_("permissions"), default=list)
    scope = models.CharField(_("for"), max_length=8, choices=TokenScope, default=TokenScope.ALL)
    selector = models.JSONField(_("labels"), default=dict)
    node_uuids = models.JSONField(_("nodes"), default=list)
    networks = models.JSONField(_("source networks"), default=list)
    with_factor = models.BooleanField(_("made with a second factor"), default=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"))
    last_used_at = models.DateTimeField(_("last used"), null=True)
    last_used_from = models.GenericIPAddressField(_("last used from"), null=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True)

    class Meta:
        verbose_name = _("token")
        verbose_name_plural = _("tokens")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def make(
        cls,
        user: models.Model,
        name: str,
        expires_at: datetime,
        *,
        read_only: bool,
        permissions: Iterable[str] | None = None,
        scope: str = TokenScope.ALL.value,
        selector: Mapping[str, str] | None = None,
        node_uuids: Iterable[str] = (),
        networks: Iterable[str] = (),
        with_factor: bool = False,
    ) -> tuple[ApiToken, str]:
        """A new token, and its text, which is nowhere else and cannot be had again. Without ``permissions``
        it has all that there are. Checks nothing: what people ask for comes through nodes/engine/tokens.py.
        """
        if permissions is None:
            known = Permission.objects.filter(
                content_type__app_label="nodes", content_type__model__in=("node", "declaredsharedstorage")
            )
            permissions = known.values_list("codename", flat=True)
        text = PREFIX + secrets.token_urlsafe(32)
        row = cls.objects.create(
            user=user,
            name=name,
            digest=digest(text),
            expires_at=expires_at,
            read_only=read_only,
            permissions=list(permissions),
            scope=scope,
            selector=dict(selector or {}),
            node_uuids=sorted(node_uuids),
            networks=list(networks),
            with_factor=with_factor,
        )
        return row, text

    @classmethod
    def find(cls, text: str, address: str | None = None) -> ApiToken | None:
        """The valid token of that text with its active user, who carries the token's limits, in one query;
        None for anything else, and for one that is not taken from ``address``."""
        found = cls.known(text)
        if found is None or (found.networks and not is_inside(address, found.networks)):
            return None
        return found

    @classmethod
    def known(cls, text: str) -> ApiToken | None:
        """As :meth:`find`, from wherever it comes: for who tells that apart, and lets nobody in by it."""
        if not text.startswith(PREFIX) or len(text) > 200:
            return None
        found = (
            cls.objects.select_related("user")
            .filter(digest=digest(text), revoked_at=None, expires_at__gt=timezone.now(), user__is_active=True)
            .first()
        )
        if found is not None and isinstance(found.user, User):
            found.user.limit_to(found.limits)
        return found

    @property
    def limits(self) -> TokenLimits:
        return TokenLimits.of(
            self.pk,
            self.permissions,
            read_only=self.read_only,
            scope=self.scope,
            selector=self.selector,
            nodes=self.node_uuids,
            with_factor=self.with_factor,
        )

    @property
    def is_valid(self) -> bool:
        return self.revoked_at is None and self.expires_at > timezone.now()

    def touch(self, address: str | None = None) -> None:
        """Note its use, at most once a minute: a token used a thousand times a second is one write."""
        now = timezone.now()
        if self.last_used_at is None or now - self.last_used_at > LAST_USED_STEP:
            type(self).objects.filter(pk=self.pk).update(last_used_at=now, last_used_from=address or None)
