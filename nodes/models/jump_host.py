"""A jump host: a machine through which the hosts of nodes are reached over SSH (OpenSSH's ProxyJump)."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from nodes.models.credential import CredentialKind, OwnKeyPair
from nodes.models.node import name_validator
from nodes.models.sealed import BoundSecretField

LONGEST_CHAIN = 3
"""Jump hosts in a row, the last one included."""


class JumpHost(models.Model):
    """One jump host, which was reached and logged in to before it was kept.

    ``jump_host`` is the one in front of it. ``secret`` is as a node's (see :class:`Credential`); ``own_key``
    the key pair of nodeadmin that it is known to let in, None for other credentials.
    """

    name = models.CharField(_("name"), max_length=63, unique=True, validators=[name_validator])
    host = models.CharField(_("host"), max_length=253)
    port = models.PositiveIntegerField(
        _("port"), default=22, validators=[MinValueValidator(1), MaxValueValidator(65535)]
    )
    user = models.CharField(_("user"), max_length=65, default="root")
    host_key = models.TextField(_("host key"), editable=False)
    host_key_fingerprint = models.CharField(_("host key's fingerprint"), max_length=64, editable=False)
    credential_kind = models.CharField(_("kind of credential"), max_length=16, choices=CredentialKind)
    secret = BoundSecretField(_("secret"), null=True, editable=False)
    own_key = models.ForeignKey(
        OwnKeyPair, models.PROTECT, null=True, related_name="jump_hosts", verbose_name=_("own key pair")
    )
    old_line_left = models.BooleanField(default=False, editable=False)
    jump_host = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="behind", verbose_name=_("jump host")
    )
    created_at = models.DateTimeField(_("added"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("jump host")
        verbose_name_plural = _("jump hosts")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def address(self) -> str:
        """User, host and port as people write them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" if self.port == 22 else f"{self.user}@{host}:{self.port}"

    @property
    def key(self) -> str:
        """What connections to it are called."""
        return f"jump:{self.pk}"

    def chain(self) -> list[JumpHost]:
        """It and those in front of it, itself first; cut where the chain is longer than allowed."""
        found: list[JumpHost] = [self]
        while found[-1].jump_host is not None and len(found) <= LONGEST_CHAIN:
            found.append(found[-1].jump_host)
        return found
