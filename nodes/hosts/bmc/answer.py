"""One answer of a Redfish service: what it says, and whether it says "later"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from nodes.hosts.bmc_target import BmcAddress
from nodes.inventory.jsontext import read_json
from nodes.inventory.parsing.numbers import decimal

_LATER = frozenset({408, 425, 429})
"""Request Timeout, Too Early, Too Many Requests (RFC 9110, 8470, 6585); and all 5xx but those below."""
_NEVER = frozenset({501, 505, 510, 511})
"""Not Implemented, and what no repetition changes."""
_DOUBTFUL = frozenset({408, 500, 502, 504})
"""The request may have been carried out all the same; 503 and 429 refuse it before."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PATH = re.compile(r"/redfish/[\x21-\x7e]{1,500}")


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, header fields (names in lower case) and body."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Mapping[str, Any] | None:
        """The JSON object; None where the body is none."""
        try:
            found = read_json(self.raw.decode("utf-8-sig"))
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    @property
    def says_later(self) -> bool:
        """Whether the same request may succeed after a while."""
        if self.status in _LATER or (self.status >= 500 and self.status not in _NEVER):
            return True
        return self.status >= 400 and any(name == "SessionLimitExceeded" for name in self.message_ids())

    @property
    def may_have_been_carried_out(self) -> bool:
        return self.status in _DOUBTFUL

    @property
    def retry_after_s(self) -> float | None:
        """Seconds that the service asks to wait (RFC 9110, section 10.2.3); None where it names none."""
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return decimal(text[:9])
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())

    @property
    def etag(self) -> str | None:
        """Of the resource that was read (DSP0266, section 6.5), to be sent as ``If-Match``."""
        body = self.body or {}
        return self.headers.get("etag") or word(body.get("@odata.etag"))

    def message_ids(self) -> Iterator[str]:
        """The names of the messages of an error, without registry and version (DSP0266, section 9.5)."""
        for detail in self._details():
            name = word(detail.get("MessageId"))
            if name:
                yield name.rpartition(".")[2]

    @property
    def said(self) -> str:
        """The words of an error (DSP0266, section 8.6), "" where there are none."""
        for detail in self._details():
            text = word(detail.get("Message"))
            if text:
                return text
        error = (self.body or {}).get("error")
        return (word(error.get("message")) or "") if isinstance(error, Mapping) else ""

    def _details(self) -> Iterator[Mapping[str, Any]]:
        error = (self.body or {}).get("error")
        details = error.get("@Message.ExtendedInfo") if isinstance(error, Mapping) else None
        for detail in details if isinstance(details, list) else []:
            if isinstance(detail, Mapping):
                yield detail


def word(value: Any) -> str | None:
    """A short text of the BMC's, printable; None for anything else."""
    if not isinstance(value, str) or not value:
        return None
    return "".join(c if c.isprintable() else "?" for c in value)[:200]


def service_path(value: Any) -> str | None:
    """A path of the service's own: never another host's, whatever a BMC links to."""
    if not isinstance(value, str) or not _PATH.fullmatch(value) or "\\" in value:
        return None
    return value


def path_at(address: BmcAddress, path: str, location: str) -> str | None:
    """The path that a ``Location`` in the answer at ``path`` names, None where it leaves the service.

    Scheme, host and port have to be those of ``address``: who follows takes the credential along.
    """
    try:
        parts = urlsplit(urljoin(f"{address.url}{path}", location.strip()))
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        return None
    if parts.scheme != "https" or (host, port) != (address.host, address.port) or "@" in parts.netloc:
        return None
    return service_path(parts.path + (f"?{parts.query}" if parts.query else ""))


def path_of(path: str, location: str) -> str | None:
    """The path that a ``Location`` in the answer at ``path`` names, whichever host it names.

    For what is asked of the service itself: a BMC behind another address names the one that it knows.
    """
    try:
        return service_path(urlsplit(urljoin(path, location.strip())).path)
    except ValueError:
        return None
