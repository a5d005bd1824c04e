"""Fields that several forms share."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from nodes.models.labels import check_labels
from nodes.models.node import NO_SUCH_TYPE, NodeType


def control(widget: type[forms.Widget] = forms.TextInput, **attrs: Any) -> forms.Widget:
    """A widget in our dress."""
    return widget(attrs={"class": "form-control", **attrs})


class TypeField(forms.ChoiceField):
    """A type of node; another one is refused with the list."""

    default_error_messages = {"invalid_choice": NO_SUCH_TYPE}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("label", _("Type"))
        kwargs.setdefault("widget", control(forms.Select, **{"class": "form-select"}))
        super().__init__(choices=NodeType.choices, **kwargs)


class LabelsField(forms.CharField):
    """Labels as ``key=value``, separated by commas or lines; gives a dict. A key alone has an empty value."""

    default_error_messages = {
        "key": _("A label is a key and a value, such as rack=a1. “%(text)s” has no key."),
    }

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("required", False)
        kwargs.setdefault("label", _("Labels"))
        kwargs.setdefault("widget", control(placeholder="rack=a1, zone=north", autocomplete="off"))
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return ", ".join(f"{key}={text}" if text else key for key, text in value.items())
        return value

    def to_python(self, value: Any) -> Any:
        labels: dict[str, str] = {}
        for part in (value or "").replace("\n", ",").split(","):
            text = part.strip()
            if not text:
                continue
            key, _equals, word = text.partition("=")
            key, word = key.strip(), word.strip()
            if not key:
                raise ValidationError(self.error_messages["key"], "key", {"text": text})
            labels[key] = word
        check_labels(labels)
        return labels
