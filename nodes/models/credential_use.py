"""How often nodeadmin itself has opened a node's secrets: one row a node, kind of secret and day."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class SecretKind(models.TextChoices):
    """What was opened: the kinds of a credential, and what else is stored for a node."""

    SSH_KEY = "ssh_key", _("SSH key")
    PASSWORD = "password", _("Password")
    NODEADMIN_KEY = "nodeadmin_key", _("nodeadmin's own key")
    SUDO_PASSWORD = "sudo_password", _("sudo password")
    BMC_PASSWORD = "bmc_password", _("BMC password")
    JUMP_HOST = "jump_host", _("Login of a jump host")


class CredentialUse(models.Model):
    """Openings that no person asked for (heartbeats, inventories by themselves) on one day (UTC). Those of a
    person are events, ``credential_opened``."""

    node = models.ForeignKey(
        "nodes.Node", models.CASCADE, related_name="credential_uses", verbose_name=_("node")
    )
    kind = models.CharField(_("kind"), max_length=16, choices=SecretKind)
    day = models.DateField(_("day"))
    count = models.PositiveIntegerField(_("times"), default=0)

    class Meta:
        verbose_name = _("use of a credential")
        verbose_name_plural = _("uses of credentials")
        ordering = ["-day", "kind"]
        constraints = [
            models.UniqueConstraint(fields=["node", "day", "kind"], name="one_count_a_node_day_and_kind")
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.kind}: {self.count}"
