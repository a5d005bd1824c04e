"""The journal in the browser: live, searched, opened, quick at ten thousand lines, and downloaded."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journals import AVAILABLE, JournalHost, entry, export

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs systemd-journal-remote")
LINES = 12_000
FRAME_MS = 100
MAKE_NODE = """
from nodes import access
from nodes.models import Credential, Node
from nodes.models.sealed import SecretFor
node = Node.objects.create(name="logged", uri={uri!r}, host_key={key!r}, host_key_fingerprint={fingerprint!r})
Credential.objects.create(node=node, kind="ssh_key",
    secret=SecretFor(access.binding_of_node(node), {{"private_key": {private!r}}}))
"""


@pytest.fixture(scope="module")
def journal(server, tmp_path_factory) -> Iterator[JournalHost]:
    """A node called ``logged``, with a journal of two boots that ends just now."""
    made = JournalHost(tmp_path_factory.mktemp("journal"))
    begin_us = int(time.time() * 1e6) - LINES * 1000
    made.write(
        entry(
            number,
            "process exited while connecting to monitor" if number % 100 == 7 else f"line {number}",
            "libvirtd.service" if number % 100 == 7 else "cron.service",
            at_us=begin_us + number * 1000,
            boot=("ab" if number < LINES - 10 else "cd") * 16,
            PRIORITY="3" if number % 100 == 7 else "6",
        )
        for number in range(LINES)
    )
    with made:
        key = made.sshd.host_key()
        code = MAKE_NODE.format(
            uri=f"qemu+ssh://root@127.0.0.1:{made.sshd.port}/system",
            key=key.to_text(),
            fingerprint=key.fingerprint,
            private=made.sshd.user_key.read_text(),
        )
        server.manage("shell", "-c", code)
        yield made


@pytest.fixture
def window(visit, journal):
    opened = visit()
    opened.sign_in()
    return opened


def count(page) -> int:
    return int(re.sub(r"\D", "", page.inner_text("[data-count]")))


def test_live_lines_follow_and_those_that_come_while_one_reads_are_counted(window, journal):
    page = window.page
    page.goto("/nodes/logged/logs/")
    page.wait_for_selector(".log-row:has-text('line 11999')")
    page.wait_for_selector(".log-mark:has-text('Boot cdcd')", state="attached")
    page.evaluate("document.querySelector('[data-scroll]').scrollTop = 800")
    writer = journal.writer()
    assert writer.stdin is not None
    try:
        for number in range(3):
            at_us = int(time.time() * 1e6)
            writer.stdin.write(export(entry(20_000 + number, f"fresh {number}", at_us=at_us, boot="cd" * 16)))
        writer.stdin.flush()
        page.wait_for_selector("[data-new]:has-text('3 new')")
        page.click("[data-new]")
        page.wait_for_selector(".log-row:has-text('fresh 2')")
    finally:
        writer.stdin.close()
        writer.wait(10)
    page.click("[data-pause]")
    page.wait_for_selector("[data-state]:has-text('Paused')")
    window.keep("logs")
    assert window.faults == []


def test_a_search_is_marked_opened_and_has_an_address_and_a_command(window):
    page = window.page
    page.goto("/nodes/logged/logs/")
    page.click("[data-mode=span]")
    page.fill("[data-keyword]", "CONNECTING to")
    page.keyboard.press("Enter")
    page.fill("[data-service]", "libvirtd")
    page.keyboard.press("Enter")
    page.wait_for_selector("mark:has-text('connecting to')")
    assert "keyword=CONNECTING+to" in page.url
    assert "service=libvirtd" in page.url
    command = page.inner_text("[data-command]")
    assert command.startswith("journalctl --since=-3600s '--grep=CONNECTING to' --case-sensitive=no")
    page.locator(".log-row:has(mark)").last.click()
    page.wait_for_selector("[data-detail-fields] dd:has-text('/usr/sbin/libvirtd --daemon')")
    found = count(page)
    page.reload()
    page.wait_for_selector("mark")
    assert count(page) == found == LINES // 100
    assert window.faults == []


def test_an_address_that_counts_boots_shows_which_one(window):
    page = window.page
    page.goto("/nodes/logged/logs/?mode=span&last=1d&boot=0&keyword=line+1199")
    page.wait_for_selector(".log-row")
    page.wait_for_selector("[data-boot] option[data-index='0']", state="attached")
    chosen = page.evaluate("document.querySelector('[data-boot]').selectedOptions[0].text")
    assert re.fullmatch(r"0 · \d{4}-\d\d-\d\d \d\d:\d\d", chosen)
    assert count(page) == 10
    assert page.inner_text("[data-count]") == "10 lines"
    page.fill("[data-keyword]", "line 11998")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-count]:text-is('1 line')")
    assert "boot=0" in page.url
    assert window.faults == []


def test_ten_thousand_lines_stay_quick_and_can_be_taken_along(window):
    page = window.page
    page.goto("/nodes/logged/logs/?mode=span&last=1d")
    page.wait_for_selector(".log-row")
    deadline = time.monotonic() + 60
    while count(page) < 10_000 and time.monotonic() < deadline:
        page.evaluate("document.querySelector('[data-scroll]').scrollTop = 0")
        page.wait_for_timeout(100)
    assert count(page) >= 10_000
    assert page.locator(".log-row").count() < 150
    frames = page.evaluate(
        """async () => {
            const scroll = document.querySelector("[data-scroll]"), took = [];
            for (let i = 0; i < 60; i += 1) {
                const begun = performance.now();
                scroll.scrollTop += 3000;
                await new Promise(requestAnimationFrame);
                took.push(performance.now() - begun);
            }
            return took.sort((a, b) => a - b);
        }"""
    )
    assert frames[30] < FRAME_MS, frames
    assert window.faults == []


def test_a_download_is_the_whole_query_and_not_what_is_loaded(window):
    page = window.page
    page.goto("/nodes/logged/logs/?last=1d&service=cron&keyword=line")
    page.wait_for_selector(".log-row")
    loaded = count(page)
    with page.expect_download() as taken:
        page.click("[data-download=json]")
    *rows, end = map(json.loads, Path(taken.value.path()).read_text().splitlines())
    assert len(rows) == LINES - LINES // 100 > loaded
    assert end["complete"] is True
    assert {row["unit"] for row in rows} == {"cron.service"}
    with page.expect_download() as taken:
        page.click("[data-download=text]")
    assert taken.value.suggested_filename.endswith(".log")
    text = Path(taken.value.path()).read_text().splitlines()
    assert text[-1] == f"-- End: {len(rows)} entries --"
    page.wait_for_selector(".log-row")
    assert window.faults == []


def test_a_host_that_is_away_when_the_tab_is_opened_is_tried_again_until_it_is_back(window, journal):
    page = window.page
    journal.sshd.stop()
    try:
        page.goto("/nodes/logged/logs/")
        page.wait_for_selector("[data-state]:has-text('trying again')")
    finally:
        journal.sshd.start()
    page.wait_for_selector("[data-state]:text-is('Live')")
    page.wait_for_selector(".log-row:has-text('line 1199')")
