"""Bars as SVG: the content security policy allows no style attribute, so no width could be given in CSS."""

from __future__ import annotations

from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from nodes.web import figures, tones


def unknown(reason: str = "") -> SafeString:
    """The dash for what is not known, with the reason."""
    said = _("Unknown: %s") % reason if reason else _("Unknown")
    return format_html(
        '<span class="unknown" title="{}"><span aria-hidden="true">–</span>'
        '<span class="visually-hidden">{}</span></span>',
        said,
        said,
    )


def bar(used_percent: float | None, label: str = "", levels: bool = True, reason: str = "") -> SafeString:
    """A bar of use from 0 to 100 with its figure; from 80 % on amber, from 95 % on red where ``levels``."""
    used_percent = figures.known(used_percent)
    if used_percent is None:
        return format_html(
            '<span class="meter meter-unknown"><svg class="meter-track" aria-hidden="true"></svg>{}</span>',
            unknown(reason),
        )
    level = tones.use_level(used_percent) if levels else "plain"
    words = figures.percent_text(used_percent)
    return format_html(
        '<span class="meter meter-{}"><svg class="meter-track" viewBox="0 0 100 1" preserveAspectRatio="none"'
        ' role="img" aria-label="{}"><rect width="{}" height="1"></rect></svg>'
        '<span class="num meter-figure" aria-hidden="true">{}</span></span>',
        level,
        f"{label} {words}".strip(),
        f"{min(100.0, max(0.0, used_percent)):.2f}",
        words,
    )


def stack(label: str, *parts: Any) -> SafeString:
    """A bar in parts: pairs of a class suffix and a share from 0 to 100."""
    rects, x = [], 0.0
    for kind, share in zip(parts[::2], parts[1::2], strict=True):
        if share:
            rects.append(
                format_html(
                    '<rect class="part-{}" x="{}" width="{}" height="1"></rect>',
                    kind,
                    f"{x:.2f}",
                    f"{share:.2f}",
                )
            )
            x += share
    return format_html(
        '<svg class="meter-track meter-stack" viewBox="0 0 100 1" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>',
        label,
        mark_safe("".join(rects)),  # noqa: S308 - each part was escaped above
    )


def memory_bar(total: int, parts: list[tuple[str, str, int]]) -> SafeString:
    """The stacked bar of (kind, label, bytes) parts of a whole."""
    words = ", ".join(f"{label} {figures.bytes_text(size)}" for _kind, label, size in parts)
    pairs = [item for kind, _label, size in parts for item in (kind, 100.0 * size / total)]
    return stack(words, *pairs)


def status_bar(parts: list[tuple[str, str, str, int, float]]) -> SafeString:
    """The nodes by status as one bar: (value, label, tone, count, share) each."""
    words = ", ".join(f"{label} {count}" for _value, label, _tone, count, _share in parts)
    pairs = [item for _value, _label, tone, _count, share_ in parts for item in (tone, share_)]
    return stack(words, *pairs)


def steps_bar(steps: list[Any]) -> SafeString:
    """An operation's progress as a bar in parts, one a step; a running step fills by its own progress."""
    if not steps:
        return mark_safe("")
    # The gap is a share of the bar, which is stretched to its place: few steps would else lie far apart.
    width = 10 - min(1.0, 0.03 * len(steps))
    rects = []
    for position, step in enumerate(steps):
        filled = (step.progress if step.progress is not None else 0.5) if step.status == "running" else 1.0
        cls = tones.of_work(step.status).tone if step.status not in ("pending", "skipped") else "free"
        rects.append(
            format_html(
                '<rect class="part-free" x="{0}" width="{3}" height="1"></rect>'
                '<rect class="part-{1}" x="{0}" width="{2}" height="1"></rect>',
                f"{position * 10:.1f}",
                cls,
                f"{width * filled:.2f}",
                f"{width:.2f}",
            )
        )
    done = sum(step.status in ("succeeded", "skipped") for step in steps)
    return format_html(
        '<svg class="steps-bar" viewBox="0 0 {} 1" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>',
        f"{len(steps) * 10 - (10 - width):.2f}",
        _("%(done)d of %(all)d steps done") % {"done": done, "all": len(steps)},
        mark_safe("".join(rects)),  # noqa: S308 - each part was escaped above
    )
