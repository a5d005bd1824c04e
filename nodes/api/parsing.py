"""Request bodies: JSON, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import msgspec
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class BodyParser(JSONParser):
    """JSON by msgspec: no NaN, no lone surrogates, and an end to nesting before the stack has one.

    An empty body is an empty object: endpoints without options can be called without one.
    """

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        raw = stream.read()
        if not raw.strip():
            return {}
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ParseError(_("The body is not valid JSON: %s.") % error) from error
        except RecursionError as error:
            raise ParseError(_("The body is nested too deeply.")) from error
