"""Figures in words."""

from datetime import timedelta

import pytest
from django.utils import timezone

from nodes.web import bars, figures
from nodes.web.templatetags import show


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ""),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (16 << 30, "16.0 GiB"),
        (3 << 40, "3.0 TiB"),
    ],
)
def test_bytes(value, words):
    assert figures.bytes_text(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(None, ""), (0.0, "0 %"), (0.2, "< 1 %"), (42.4, "42 %"), (100.0, "100 %")]
)
def test_percentages(value, words):
    assert figures.percent_text(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s ago"), (59, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"), (3 * 86400, "3 d ago")],
)
def test_ages(seconds, words):
    now = timezone.now()
    assert figures.ago_text(now - timedelta(seconds=seconds), now) == words


def test_a_time_to_come_and_one_long_past():
    now = timezone.now()
    assert figures.ago_text(now + timedelta(days=30), now) == "in 30 d"
    assert figures.ago_text(now - timedelta(days=400), now)[:2] == "20"


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (None, ""),
        (0.84, "0.8 s"),
        (75, "1 min 15 s"),
        (86400 * 45, "45 d"),
        (86400 + 3600 * 4 + 59, "1 d 4 h"),
    ],
)
def test_durations(span, words):
    assert figures.duration_text(span) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(1.5, "1.5 Mbit/s"), (480, "480 Mbit/s"), (2500, "2.5 Gbit/s"), (100000, "100 Gbit/s")],
)
def test_speeds(value, words):
    assert figures.mbps_text(value) == words


def test_the_unknown_is_a_dash_with_its_reason_for_eyes_and_ears():
    shown = show.show_bytes(None, "the disk sleeps")
    assert "–" in shown
    assert 'title="Unknown: the disk sleeps"' in shown
    assert '<span class="visually-hidden">Unknown: the disk sleeps</span>' in shown


def test_what_a_template_cannot_find_is_unknown_too():
    for tag in (show.num, show.show_bytes, show.percent, show.mhz, show.mbps, show.duration, bars.bar):
        assert "unknown" in tag("")


def test_a_zero_is_a_figure():
    assert "0" in show.num(0)
    assert "unknown" not in show.num(0)
    assert 'width="0.00"' in bars.bar(0.0)


def test_exact_values_stand_in_tooltips():
    assert 'title="16,384 bytes"' in show.show_bytes(16384).replace("\xa0", ",").replace("16 384", "16,384")


@pytest.mark.parametrize(
    ("used", "level"), [(10.0, "plain"), (80.0, "high"), (95.0, "full"), (140.0, "full")]
)
def test_a_bar_warns_by_its_fill_and_never_leaves_its_track(used, level):
    shown = bars.bar(used, "CPU")
    assert f"meter-{level}" in shown
    width = float(shown.partition('width="')[2].partition('"')[0])
    assert 0 <= width <= 100
    assert 'aria-label="CPU' in shown


def test_nothing_that_is_shown_can_break_out():
    evil = '"><script>alert(1)</script>'
    for shown in (
        show.mono(evil, copy=True),
        show.badge("good", evil, title=evil),
        bars.unknown(evil),
        show.text(evil),
    ):
        assert "<script>" not in shown
