"""What a browser calls itself, in words that its user knows."""

from __future__ import annotations

from django.utils.translation import gettext as _

# The first that is in the text counts: most call themselves by the names of others, too.
BROWSERS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
)
SYSTEMS = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
LONGEST = 80


def agent_name(text: str) -> str:
    """ "Firefox, Linux" from a User-Agent header (RFC 9110, section 10.1.5); the header's start where nothing
    in it is known."""
    browser = next((name for mark, name in BROWSERS if mark in text), "")
    system = next((name for mark, name in SYSTEMS if mark in text), "")
    if browser:
        return f"{browser}, {system}" if system else browser
    return text[:LONGEST] or _("unknown program")
