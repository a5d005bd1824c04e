"""How a node's baseboard management controller (BMC) is reached: what powers a host on that is off."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from nodes.models.sealed import BoundSecretField


class Bmc(models.Model):
    """One a node, spoken to in Redfish (DMTF DSP0266) over HTTPS.

    ``url`` is the service's root without a path (``https://10.0.0.7``), ``system_path`` the resource of the
    node's ComputerSystem. ``certificate_fingerprint`` (SHA-256 of the DER form, 64 hexadecimal digits) pins
    the certificate; without one it is verified against the machine's certificate authorities. ``secret``
    holds ``{"password"}``.
    """

    node = models.OneToOneField("nodes.Node", models.CASCADE, related_name="bmc", verbose_name=_("node"))
    url = models.CharField(_("address"), max_length=512)
    system_path = models.CharField(_("system"), max_length=512)
    user = models.CharField(_("user"), max_length=255, blank=True)
    secret = BoundSecretField(_("password"), null=True, editable=False)
    certificate_fingerprint = models.CharField(_("certificate's fingerprint"), max_length=64, blank=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("BMC")
        verbose_name_plural = _("BMCs")

    def __str__(self) -> str:
        return self.url
