"""A declaration of shared storage."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from nodes.models.shared_storage import LONGEST_NAME, StorageKind, checked_storage_name
from nodes.web.forms.fields import control


class SharedStorageForm(forms.Form):
    """The fields of declare-shared-storage; nodes are names with commas or blanks between them."""

    kind = forms.ChoiceField(
        label=_("Kind"), choices=StorageKind.choices, widget=control(forms.Select, **{"class": "form-select"})
    )
    name = forms.CharField(
        label=_("Name"),
        max_length=LONGEST_NAME,
        help_text=_("The pool's name, an absolute path, or the volume group's name."),
        widget=control(autocomplete="off", spellcheck="false", placeholder="/srv/images"),
    )
    nodes = forms.CharField(
        label=_("Nodes"),
        max_length=200_000,
        help_text=_("All nodes that have it, two at least, separated by commas."),
        widget=control(autocomplete="off", spellcheck="false", placeholder="kvm-01, kvm-02"),
    )
    comment = forms.CharField(
        label=_("Comment"), max_length=500, required=False, widget=control(autocomplete="off")
    )

    def clean_nodes(self) -> list[str]:
        return list(dict.fromkeys(self.cleaned_data["nodes"].replace(",", " ").split()))

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if data.get("kind") and data.get("name"):
            try:
                data["name"] = checked_storage_name(data["kind"], data["name"])
            except ValidationError as error:
                self.add_error("name", error)
        return data
