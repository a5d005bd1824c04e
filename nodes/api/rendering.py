"""Answers as JSON, straight from dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from django.utils.functional import Promise
from rest_framework.renderers import JSONRenderer

from nodes.inventory.parsing.visible import visible_answer


def encode_unknown(value: Any) -> Any:
    """What msgspec does not know: Django's lazy texts, and DRF's str and dict subclasses."""
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"{type(value).__name__} cannot be answered as JSON")


class AnswerRenderer(JSONRenderer):
    """JSON by msgspec: dataclasses, dates and UUIDs need no copy into dicts first. What hosts wrote into it
    and cannot be seen is written as ``\\uNNNN``, which to a program is the same."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if data is None:
            return b""
        return visible_answer(msgspec.json.encode(data, enc_hook=encode_unknown))
