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
        help_text=_("Where other nodes send VMs to, when it is not the node's own address."),
        widget=control(autocomplete="off"),
    )
    notes = forms.CharField(
        label=_("Notes"), max_length=20_000, required=False, widget=control(forms.Textarea, rows=4)
    )

    @classmethod
    def of(cls, node: Node, data: Any = None) -> NodeForm:
        """The form with the node's values."""
        values = {"name": node.name, "type": node.node_type, "labels": node.labels, "notes": node.notes}
        return cls(data, initial=values | {"migration_address": node.migration_address})
