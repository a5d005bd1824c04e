"""A jump host: its address and how it is entered."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from nodes.web.forms.login import LoginForm


class JumpHostForm(LoginForm):
    """The fields of add-jump-host; of update-jump-host what is left empty stays as it is."""

    uri = None  # type: ignore[assignment]
    name = forms.CharField(required=False, max_length=63)
    host = forms.CharField(required=False, max_length=255)
    port = forms.IntegerField(required=False, min_value=1, max_value=65535)
    through = forms.CharField(required=False, max_length=63)
    install_key = None  # type: ignore[assignment]

    def credential(self) -> dict[str, Any] | None:
        self.cleaned_data["install_key"] = False
        return super().credential()

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        for name in ("name", "host"):
            if self.data.get("new") and not data.get(name):
                self.add_error(name, _("This field is required."))
        return data
