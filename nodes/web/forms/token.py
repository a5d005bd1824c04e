"""An API token that is to be made."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from nodes.models import User
from nodes.permissions import (
    ADD,
    ALL_PERMISSIONS,
    AUDIT,
    CHANGE,
    DELETE,
    GRANT,
    MAINTAIN,
    MANAGE_SSH,
    POWER,
    SCAN,
    VIEW,
    VIEW_LOGS,
    held_anywhere,
)
from nodes.web.forms.fields import LabelsField, control

DAYS: tuple[tuple[int, object], ...] = (
    (7, _("7 days")),
    (30, _("30 days")),
    (90, _("90 days")),
    (365, _("1 year")),
)

PERMISSION_WORDS = {
    VIEW: _("See nodes, and take a new inventory"),
    VIEW_LOGS: _("Read the logs of hosts"),
    CHANGE: _("Change nodes, their addresses and credentials"),
    MAINTAIN: _("Enter and leave maintenance, drain"),
    POWER: _("Reboot, shut down and power on"),
    DELETE: _("Remove nodes"),
    ADD: _("Add nodes"),
    SCAN: _("Scan hosts for their host keys"),
    GRANT: _("Grant roles, revoke tokens"),
    AUDIT: _("Read the audit log"),
    MANAGE_SSH: _("Manage jump hosts and nodeadmin's key pair"),
    "add_declaredsharedstorage": _("Declare shared storage"),
    "change_declaredsharedstorage": _("Change declarations of shared storage"),
    "delete_declaredsharedstorage": _("Withdraw declarations of shared storage"),
    "view_declaredsharedstorage": _("See declarations of shared storage"),
}
"""Each permission in a few words, for people."""


class TokenForm(forms.Form):
    """The fields of engine.tokens.make_token; nodes and networks are names with commas or blanks between."""

    name = forms.CharField(
        label=_("Name"),
        max_length=80,
        widget=control(placeholder=_("What it is for"), autocomplete="off"),
    )
    days = forms.TypedChoiceField(
        label=_("Valid for"), coerce=int, choices=DAYS, initial=90,
        widget=forms.Select(attrs={"class": "form-select"}),
    )  # fmt: skip
    read_only = forms.BooleanField(
        label=_("Reading only"),
        required=False,
        initial=True,
        help_text=_("Starts nothing, and connects to no host but for its logs."),
        widget=forms.CheckboxInput(attrs={"class": "form-check-input"}),
    )
    permissions = forms.MultipleChoiceField(
        label=_("Permissions"),
        initial=[VIEW],
        error_messages={"required": _("Choose one permission at least.")},
    )
    labels = LabelsField(
        label=_("Only nodes with labels"), help_text=_("Empty: all nodes that you have."), widget=control(
            placeholder="rack=a1", autocomplete="off"
        )
    )  # fmt: skip
    nodes = forms.CharField(
        label=_("Only these nodes"),
        required=False,
        max_length=40_000,
        widget=control(placeholder="kvm-01, kvm-02", autocomplete="off", spellcheck="false"),
    )
    networks = forms.CharField(
        label=_("Only from these networks"),
        required=False,
        max_length=2_000,
        help_text=_("Empty: from any address."),
        widget=control(placeholder="192.0.2.0/24", autocomplete="off", spellcheck="false"),
    )

    def __init__(self, user: User, data: Any = None) -> None:
        super().__init__(data)
        held = held_anywhere(user)
        choices = [(one, PERMISSION_WORDS[one]) for one in ALL_PERMISSIONS if one in held]
        self.fields["permissions"].choices = choices  # type: ignore[attr-defined]

    def clean_nodes(self) -> list[str]:
        return _words(self.cleaned_data["nodes"])

    def clean_networks(self) -> list[str]:
        return _words(self.cleaned_data["networks"])


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(text.replace(",", " ").split()))
