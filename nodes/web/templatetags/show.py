"""Tags that show one value. Built in: templates need not load them.

Each gives the figure with its exact value in a tooltip, and shows the unknown as unknown: a dash with the
reason for eyes and for screen readers, never a zero.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from nodes.inventory.parsing.visible import visible
from nodes.web import bars, figures, tones
from nodes.web.tones import Tone

register = template.Library()
for _bar in (bars.unknown, bars.bar, bars.stack, bars.memory_bar, bars.status_bar, bars.steps_bar):
    register.simple_tag(_bar)

SPRITE = "vendor/tabler/icons.svg"


@register.simple_tag
def icon(name: str, label: str = "", extra: str = "") -> SafeString:
    """An icon of the sprite; decorative unless it has a label."""
    href = f"{static(SPRITE)}#{name}"
    if label:
        return format_html(
            '<svg class="icon {}" role="img" aria-label="{}"><use href="{}"></use></svg>', extra, label, href
        )
    return format_html('<svg class="icon {}" aria-hidden="true"><use href="{}"></use></svg>', extra, href)


def _figure(text: str, title: str, reason: str) -> SafeString:
    if not text:
        return bars.unknown(reason)
    if not title or title == text:
        return format_html('<span class="num">{}</span>', text)
    return format_html('<span class="num" title="{}">{}</span>', title, text)


@register.simple_tag(name="bytes")
def show_bytes(value: float | None, reason: str = "") -> SafeString:
    value = figures.known(value)
    return _figure(figures.bytes_text(value), figures.exact_bytes(value), reason)


@register.simple_tag
def bytes_plain(value: float | None) -> str:
    """Bytes as bare text: for SVG, which takes no spans."""
    value = figures.known(value)
    return figures.bytes_text(value) or "–"


@register.simple_tag
def num(value: float | None, reason: str = "", unit: str = "") -> SafeString:
    value = figures.known(value)
    text = figures.number_text(value)
    return _figure(f"{text} {unit}".strip() if text else "", "", reason)


@register.simple_tag
def percent(value: float | None, reason: str = "") -> SafeString:
    value = figures.known(value)
    return _figure(figures.percent_text(value), f"{value:.2f} %" if value is not None else "", reason)


@register.simple_tag
def mhz(value: float | None, reason: str = "") -> SafeString:
    value = figures.known(value)
    return _figure(figures.mhz_text(value), f"{value:g} MHz" if value is not None else "", reason)


@register.simple_tag
def mbps(value: float | None, reason: str = "") -> SafeString:
    value = figures.known(value)
    return _figure(figures.mbps_text(value), f"{value:g} Mbit/s" if value is not None else "", reason)


@register.simple_tag
def duration(value: timedelta | float | None, reason: str = "") -> SafeString:
    value = figures.known(value)
    return _figure(figures.duration_text(value), figures.duration_text(value, 4), reason)


@register.simple_tag
def clock_skew(seconds: float | None, reason: str = "") -> SafeString:
    """By how much a host's clock differs from ours, in words; to the millisecond in the tooltip."""
    seconds = figures.known(seconds)
    if seconds is None:
        return bars.unknown(reason)
    way = _("%s ahead") if seconds > 0 else _("%s behind")
    return _figure(way % figures.duration_text(abs(seconds)), f"{seconds:.3f} s", reason)


@register.simple_tag
def ago(moment: datetime | str | None, reason: str = "") -> SafeString:
    """A relative time that the page keeps current, with the absolute one in its tooltip."""
    found = moment if isinstance(moment, datetime) else figures.parse_moment(moment)
    if found is None:
        return bars.unknown(reason)
    return format_html(
        '<time class="num" datetime="{}" title="{}" data-ago>{}</time>',
        found.isoformat(timespec="seconds"),
        figures.moment_text(found),
        figures.ago_text(found),
    )


@register.simple_tag
def text(value: Any, reason: str = "") -> SafeString:
    """A plain value: words as they are, True and False as Yes and No, numbers grouped, None as unknown."""
    if value is None or value == "":
        return bars.unknown(reason)
    if isinstance(value, bool):
        return format_html("{}", _("Yes") if value else _("No"))
    if isinstance(value, int | float):
        return num(value)
    return format_html("<bdi>{}</bdi>", visible(value, keep_tabs=True))


@register.simple_tag
def mono(value: str | None, copy: bool = False, reason: str = "") -> SafeString:
    """An address, serial or fingerprint, with a button that copies it where asked for: as it is shown, for it
    may go to a terminal, where a line break is a command."""
    if not value:
        return bars.unknown(reason)
    shown = visible(value)
    if not copy:
        return format_html('<code class="mono">{}</code>', shown)
    return format_html(
        '<span class="copyable"><code class="mono">{}</code>{}</span>', shown, copy_button(shown)
    )


@register.simple_tag(name="copy")
def copy_button(value: str, label: str = "") -> SafeString:
    """A button that copies ``value``."""
    said = label or _("Copy")
    return format_html(
        '<button type="button" class="btn-quiet copy" data-copy="{}" data-done="{}" title="{}"'
        ' aria-label="{}">{}{}</button>',
        value,
        _("Copied"),
        said,
        said,
        icon("copy"),
        icon("check", extra="done"),
    )


def _badge_icon(name: str) -> SafeString:
    return icon(name, extra="spin" if name == "loader-2" else "")


@register.simple_tag
def badge(tone: str, words: Any, symbol: str = "", title: str = "") -> SafeString:
    """A badge; the icon keeps its meaning for who does not see the colour."""
    return format_html(
        '<span class="tag tag-{}"{}>{}{}</span>',
        tone,
        format_html(' title="{}"', title) if title else "",
        _badge_icon(symbol or tones.ICONS[Tone(tone)]),
        words,
    )


@register.simple_tag
def status(node: Any) -> SafeString:
    """A node's status with its reason."""
    shown = tones.of_node(node)
    return format_html(
        "{}{}",
        badge(shown.tone, shown.words, shown.icon, node.connection_detail),
        format_html(' <span class="status-reason" title="{0}">{0}</span>', shown.reason)
        if shown.reason
        else "",
    )


@register.simple_tag
def operation_status(value: str) -> SafeString:
    """The status of an operation or of one of its steps."""
    shown = tones.of_work(value)
    return badge(shown.tone, shown.words, shown.icon)


@register.simple_tag
def severity(value: str) -> SafeString:
    """The severity of an event."""
    shown = tones.of_severity(value)
    return badge(shown.tone, shown.words, shown.icon)


@register.simple_tag
def share(part: float | None, whole: float | None) -> float | None:
    """``part`` of ``whole`` in percent; None where either is unknown or there is no whole."""
    part = figures.known(part)
    if part is None or not whole:
        return None
    return 100.0 * part / whole


@register.filter
def get(mapping: Any, key: str) -> Any:
    """A mapping's value by a key that is no valid template name; None where there is none."""
    return mapping.get(key) if hasattr(mapping, "get") else None


@register.filter
def fault(operation: Any) -> str:
    """Why an operation did not succeed, in words."""
    error = operation.error or {}
    return operation.message or str(error.get("detail") or error.get("title") or "")


@register.simple_tag
def step_time(step: Any) -> SafeString:
    """How long a step took, or has been running."""
    end = step.finished_at or timezone.now()
    return duration(max(timedelta(), end - step.started_at))


@register.simple_tag
def own_key_command(public_key: str) -> str:
    """What lets nodeadmin's own key in, run on the host as the user that it logs in with."""
    keys = "~/.ssh/authorized_keys"
    return f"mkdir -pm 700 ~/.ssh && echo '{public_key}' >> {keys} && chmod 600 {keys}"
