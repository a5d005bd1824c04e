"""What of a node is only ours to know."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from nodes.models import Node
from nodes.web.forms.fields import LabelsField, TypeField, control


class NodeForm(forms.Form):
    """The fields that requests.update_node takes, under the API's names."""

    name = forms.CharField(label=_("Name"), max_length=63, widget=control(autocomplete="off"))
    type = TypeField()
    labels = LabelsField()
    migration_address = forms.CharField(
        label=_("Migration address"),
        max_length=255,
        required=False,
        help_text=_("Where other nodes send VMs to: an address of the host itself. Empty: that of its URI."),
        widget=control(autocomplete="off"),
    )
    migration_address_forced = forms.BooleanField(
        label=_("Take it although the inventory does not show it"),
        help_text=_("VMs with all of their memory are sent there. It is recorded as an event."),
        required=False,
        widget=forms.CheckboxInput(attrs={"class": "form-check-input"}),
    )
    notes = forms.CharField(
        label=_("Notes"), max_length=20_000, required=False, widget=control(forms.Textarea, rows=4)
    )

    @classmethod
    def of(cls, node: Node, data: Any = None, *, may_force: bool = False) -> NodeForm:
        """The form with the node's values; ``may_force``: the user may set any migration address."""
        values: dict[str, Any] = {
            "name": node.name,
            "type": node.node_type,
            "labels": node.labels,
            "notes": node.notes,
            "migration_address": node.migration_address,
            "migration_address_forced": node.migration_address_forced,
        }
        form = cls(data, initial=values)
        if not may_force:
            del form.fields["migration_address_forced"]
        return form
