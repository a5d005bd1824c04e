"""Figures in words: bytes, times, shares. One place, so that every page writes them alike.

Every function takes None for what is unknown and gives "" for it; showing the unknown is the template's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _

BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
MINUTE, HOUR, DAY = 60, 3600, 86_400


def known(value: Any) -> Any:
    """None for "", which is what a template hands on for a member of something that is None itself."""
    return None if value == "" else value


def bytes_text(value: float | None) -> str:
    """Bytes in the largest binary unit that leaves at least 1, one decimal: 17179869184 is "16.0 GiB"."""
    if value is None:
        return ""
    size = float(value)
    for unit in BINARY:
        if abs(size) < 1024 or unit == BINARY[-1]:
            break
        size /= 1024
    return f"{number_format(size, 0 if unit == 'B' else 1)} {unit}"


def exact_bytes(value: float | None) -> str:
    """The same to the byte, for a tooltip."""
    return "" if value is None else _("%s bytes") % number_format(int(value), 0, force_grouping=True)


def percent_text(value: float | None) -> str:
    """A share from 0 to 100; what is there but under one percent does not read as nothing."""
    if value is None:
        return ""
    if 0 < value < 1:
        return _("< 1 %")
    return f"{number_format(value, 0)} %"


def number_text(value: float | None, decimals: int | None = None) -> str:
    """A number with grouped thousands; whole ones without decimals."""
    if value is None:
        return ""
    if decimals is None:
        decimals = 0 if float(value).is_integer() else 2
    return number_format(value, decimals, force_grouping=abs(value) >= 10_000)


def mhz_text(value: float | None) -> str:
    """MHz, from 1000 on as GHz."""
    if value is None:
        return ""
    return f"{number_format(value / 1000, 2)} GHz" if value >= 1000 else f"{number_format(value, 0)} MHz"


def mbps_text(value: float | None) -> str:
    """Mbit/s, from 1000 on as Gbit/s."""
    if value is None:
        return ""
    if value >= 1000:
        gigabits = value / 1000
        return f"{number_format(gigabits, 0 if gigabits.is_integer() else 1)} Gbit/s"
    return f"{number_format(value, 0 if float(value).is_integer() else 1)} Mbit/s"


def ago_text(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago, coarse: "12 s ago", "5 min ago", "3 h ago", "2 d ago"; the date beyond 60 days."""
    if moment is None:
        return ""
    seconds = int(((now or timezone.now()) - moment).total_seconds())
    if seconds < 0:
        return _("in %s") % duration_text(timedelta(seconds=-seconds), 1)
    if seconds < MINUTE:
        return _("%d s ago") % seconds
    if seconds < HOUR:
        return _("%d min ago") % (seconds // MINUTE)
    if seconds < 2 * DAY:
        return _("%d h ago") % (seconds // HOUR)
    if seconds < 60 * DAY:
        return _("%d d ago") % (seconds // DAY)
    return date_format(timezone.localtime(moment), "Y-m-d")


def ago_patterns() -> str:
    """The forms of :func:`ago_text` for the script that keeps ages current, separated by bars."""
    return "|".join((_("%d s ago"), _("%d min ago"), _("%d h ago"), _("%d d ago")))


def moment_text(moment: datetime | None) -> str:
    """The absolute time to the second, with its zone."""
    return "" if moment is None else date_format(timezone.localtime(moment), "Y-m-d H:i:s e")


def duration_text(span: timedelta | float | None, parts: int = 2) -> str:
    """A duration in its ``parts`` largest units: "12 d 4 h", "3 min 5 s", "0.8 s"."""
    if span is None:
        return ""
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    if seconds < 10:
        return _("%s s") % number_format(max(0.0, seconds), 1)
    left, words = int(seconds), []
    for size, form in ((DAY, _("%d d")), (HOUR, _("%d h")), (MINUTE, _("%d min")), (1, _("%d s"))):
        count, left = divmod(left, size)
        if count:
            words.append(form % count)
        elif words:
            break
    return " ".join(words[:parts])


def parse_moment(text: object) -> datetime | None:
    """A time as snapshots' facts carry it (RFC 3339); None where it is none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
