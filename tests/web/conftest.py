"""A browser's client for each of the three users, and a reader of the pages that it gets."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client

HTMX = {"HX-Request": "true"}


@pytest.fixture
def admin_page(administrator: Any) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(administrator)
    return client


@pytest.fixture
def operator_page(operator: Any) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(operator)
    return client


@pytest.fixture
def stranger_page(stranger: Any) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(stranger)
    return client


class Page(HTMLParser):
    """What a page is made of: its text, links, and whatever its security policy would refuse."""

    def __init__(self, response: Any) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.links: list[str] = []
        self.refused: list[str] = []
        self.inputs: dict[str, str] = {}
        self.controls_without_name: list[str] = []
        self._words: list[str] = []
        self._script = False
        self.feed(response.content.decode())
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found.get("href", ""))
        if "style" in found or tag == "style" or any(name.startswith("on") for name in found):
            self.refused.append(f"<{tag} {found}>")
        if tag == "script" and "src" not in found:
            self.refused.append("<script> without src")
        if tag in ("input", "textarea", "select") and "name" in found:
            self.inputs[found["name"]] = found.get("value", "")
        self._script = tag == "script"

    def handle_data(self, data: str) -> None:
        if not self._script:
            self._words.append(data)


@pytest.fixture
def read() -> type[Page]:
    return Page
