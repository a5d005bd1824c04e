"""A browser that looks at the real server; every page is also watched for what it should not do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.serving import PASSWORD, ROOT, USER, Server
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.patience import slowness

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
]
ARTIFACTS = ROOT / "artifacts"
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.fspath).parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibvirtHost]:
    """A host behind SSH with a libvirtd of its own."""
    if not AVAILABLE:
        pytest.skip("a host made of this machine needs root, libvirtd and unshare")
    host = LibvirtHost(tmp_path_factory.mktemp("host")).start()
    host.virsh("version")
    try:
        yield host
    finally:
        host.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    if not CHROMIUM:
        pytest.fail("no Chromium: install the package chromium, or name one in CHROMIUM")
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """One browser window. ``faults`` are messages of the console (the security policy's among them)."""

    def __init__(
        self, browser: Any, server: Server, *, theme: str = "light", size: dict[str, int] = DESKTOP
    ) -> None:
        self.context = browser.new_context(viewport=size, color_scheme=theme, base_url=server.url)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000 * slowness())
        self.faults: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _console(self, message: Any) -> None:
        # What a newer search, or leaving the page, ends while it is under way, htmx reports as two errors.
        if message.text.startswith("htmx:sendAbort") and self.faults[-1:] == [
            message.text.replace("sendAbort", "afterRequest", 1)
        ]:
            self.faults.pop()
            return
        # A refused form is answered with 422, which Chromium reports as a failed load.
        if message.type in ("error", "warning") and "422" not in message.text:
            self.faults.append(message.text)

    def sign_in(self, user: str = USER, password: str = PASSWORD) -> None:
        self.page.goto("/login/")
        self.page.fill("[name=username]", user)
        self.page.fill("[name=password]", password)
        self.page.click("button:has-text('Sign in')")
        self.page.wait_for_url("**/")

    def keep(self, name: str, *, whole: bool = True) -> None:
        """Leave a screenshot in artifacts/."""
        self.page.evaluate("scrollTo(0, 0)")
        # The caret stays: to hide it, playwright leaves style attributes, which the policy forbids to copy.
        self.page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=whole, caret="initial")


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Any]:
    opened: list[Visit] = []

    def open_window(**options: Any) -> Visit:
        opened.append(Visit(browser, server, **options))
        return opened[-1]

    yield open_window
    for window in opened:
        window.context.close()
