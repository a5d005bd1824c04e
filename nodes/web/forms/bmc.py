"""How a node's BMC is reached."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _


class BmcForm(forms.Form):
    """The fields of the API's ``bmc``. No widget renders the password: it is not shown again."""

    url = forms.CharField(max_length=400)
    user = forms.CharField(required=False, max_length=255)
    password = forms.CharField(required=False, max_length=1024, strip=False)
    system = forms.CharField(required=False, max_length=500)
    certificate_fingerprint = forms.CharField(required=False, max_length=128)

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if data.get("user") and not data.get("password"):
            self.add_error("password", _("Type the password; the stored one is not used for a trial."))
        if data.get("password") and not data.get("user"):
            self.add_error("user", _("Name the user of this password."))
        return data
