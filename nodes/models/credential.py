"""How we authenticate to a node's host."""

from __future__ import annotations

import base64
import hashlib

from django.db import models
from django.utils.translation import gettext_lazy as _

from nodes.models.sealed import BoundSecretField, SealedField


class CredentialKind(models.TextChoices):
    SSH_KEY = "ssh_key", _("SSH key")
    PASSWORD = "password", _("Password")
    NODEADMIN_KEY = "nodeadmin_key", _("nodeadmin's own key")


class Credential(models.Model):
    """One a node; its secret is sealed and leaves only towards the host.

    ``secret`` holds ``{"private_key", "passphrase"}`` or ``{"password"}``, nothing for nodeadmin's own key.
    It opens for the node's address, user and host key alone, as they were when it was stored.
    ``sudo_secret`` holds ``{"sudo_password"}``, for a user whose sudo asks for one, bound in the same way.
    """

    node = models.OneToOneField(
        "nodes.Node", models.CASCADE, related_name="credential", verbose_name=_("node")
    )
    kind = models.CharField(_("kind"), max_length=16, choices=CredentialKind)
    secret = BoundSecretField(_("secret"), null=True, editable=False)
    sudo_secret = BoundSecretField(_("sudo password"), null=True, editable=False)
    own_key = models.ForeignKey(
        "nodes.OwnKeyPair",
        models.PROTECT,
        null=True,
        editable=False,
        related_name="credentials",
        verbose_name=_("own key pair"),
    )
    """Which of nodeadmin's key pairs the host is known to let in; None for other credentials."""
    old_line_left = models.BooleanField(default=False, editable=False)
    """The line of the key pair before is still in the host's authorized_keys."""
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("credential")
        verbose_name_plural = _("credentials")

    def __str__(self) -> str:
        return self.get_kind_display()


class KeyState(models.TextChoices):
    """``current`` is installed and offered from now on; ``retiring`` is what hosts had before, and is kept
    until none needs it any more."""

    CURRENT = "current", _("Current")
    RETIRING = "retiring", _("Retiring")


class OwnKeyPair(models.Model):
    """nodeadmin's own SSH key pair: its public half goes into hosts' authorized_keys.

    There is one, and while it is replaced two. Which of them a host lets in is on its Credential or JumpHost.
    """

    id = models.PositiveIntegerField(primary_key=True, editable=False)
    state = models.CharField(
        _("state"), max_length=8, choices=KeyState, default=KeyState.CURRENT, editable=False
    )
    public_key = models.TextField(_("public key"), editable=False)
    secret = SealedField(_("secret"), editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("nodeadmin's key pair")
        verbose_name_plural = _("nodeadmin's key pairs")
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["state"], name="one_own_key_a_state")]

    def __str__(self) -> str:
        return self.fingerprint

    @property
    def fingerprint(self) -> str:
        """As OpenSSH prints it: ``SHA256:`` and 43 characters."""
        digest = hashlib.sha256(base64.b64decode(self.public_key.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")
