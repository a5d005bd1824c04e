"""Text of a host on a page: what drives or turns the text around it is written out, in every template.

Templates escape markup. They let through what cannot be seen: controls, and the marks and overrides of
direction, by which a device or a VM can show another name than it has (Unicode Technical Report 36). Here all
text between the tags is looked at once more, and in the tags what a person reads or copies of them: a
tooltip, a label, what a button puts into the clipboard and so into a terminal. What else stands in a tag (an
address, the value of a field) and in a text area goes back to the server and stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from nodes.errors import shown

_UNSEEN = r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
_ANY = re.compile(_UNSEEN)
_KEPT_OR_UNSEEN = re.compile(
    rf"<textarea\b.*?</textarea>|<script\b.*?</script>|<[^>]*>|({_UNSEEN})", re.DOTALL
)
_READ = re.compile(
    r'(?<=\s)(?:title|aria-label|aria-description|alt|placeholder|data-copy)="[^"]*"', re.IGNORECASE
)
"""Attributes whose value is for people; templates put all of them into double quotes."""


def visible_page(html: str) -> str:
    if _ANY.search(html) is None:
        return html
    return _KEPT_OR_UNSEEN.sub(lambda found: shown(found[0]) if found[1] else _visible_tag(found[0]), html)


def _visible_tag(tag: str) -> str:
    if tag.startswith(("<textarea", "<script")) or _ANY.search(tag) is None:
        return tag
    return _READ.sub(lambda found: shown(found[0]), tag)


class VisibleTextMiddleware:
    """For whole pages and parts of them; downloads have types of their own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if not response.streaming and response.get("Content-Type", "").startswith("text/html"):
            page = response.content.decode(response.charset, "surrogateescape")  # type: ignore[attr-defined]
            seen = visible_page(page)
            if seen is not page:
                response.content = seen.encode(response.charset, "surrogateescape")  # type: ignore[attr-defined]
        return response
