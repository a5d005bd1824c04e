"""How we authenticate to a node's host."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from nodes.models.sealed import SealedField


class CredentialKind(models.TextChoices):
    SSH_KEY = "ssh_key", _("SSH key")
    PASSWORD = "password", _("Password")
    NODEADMIN_KEY = "nodeadmin_key", _("nodeadmin's own key")


class Credential(models.Model):
    """One a node; its secret is sealed and leaves only towards the host.

    ``secret`` holds ``{"private_key", "passphrase"}`` or ``{"password"}``, nothing for nodeadmin's own key.
    """

    node = models.OneToOneField(
        "nodes.Node", models.CASCADE, related_name="credential", verbose_name=_("node")
    )
    kind = models.CharField(_("kind"), max_length=16, choices=CredentialKind)
    secret = SealedField(_("secret"), null=True, editable=False)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("credential")
        verbose_name_plural = _("credentials")

    def __str__(self) -> str:
        return self.get_kind_display()


class OwnKeyPair(models.Model):
    """nodeadmin's own SSH key pair: its public half goes into hosts' authorized_keys."""

    SINGLE = 1
    id = models.PositiveSmallIntegerField(primary_key=True, default=SINGLE, editable=False)
    public_key = models.TextField(_("public key"), editable=False)
    secret = SealedField(_("secret"), editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("nodeadmin's key pair")
        verbose_name_plural = _("nodeadmin's key pair")

    def __str__(self) -> str:
        return self.public_key
