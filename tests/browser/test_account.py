"""Accounts in a real browser: passkeys of Chromium's virtual authenticator, and an identity provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import PHONE, Visit
from tests.browser.serving import PASSWORD, USER, Server
from tests.identity_provider.running import CLIENT, SECRET, IdentityProvider, packages

AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


class Localhost(Server):
    """Under the one name without TLS for which browsers offer passkeys."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.url = f"http://localhost:{self.port}"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, IdentityProvider]]:
    """A server that asks for second factors, with an identity provider."""
    if packages() is None:
        pytest.skip("script/test installs the identity provider's packages")
    folder = tmp_path_factory.mktemp("strict")
    server = Localhost(folder / "server")
    with IdentityProvider(folder / "provider", f"{server.url}/login/oidc/callback/") as provider:
        server.environment |= {
            "NODEADMIN_REQUIRE_SECOND_FACTOR": "power",
            "NODEADMIN_OIDC_ISSUER": provider.issuer,
            "NODEADMIN_OIDC_CLIENT_ID": CLIENT,
            "NODEADMIN_OIDC_CLIENT_SECRET": SECRET,
            "NODEADMIN_OIDC_NAME": "Provider",
            "NODEADMIN_OIDC_GROUP_ROLES": "kvm-admins=administrators",
        }
        with server:
            yield server, provider


@pytest.fixture
def window(browser: Any, strict: tuple[Server, IdentityProvider]) -> Iterator[Visit]:
    visit = Visit(browser, strict[0])
    yield visit
    visit.context.close()


def sign_out(page: Any) -> None:
    page.click(".user-button")
    page.click("#user-menu button:has-text('Sign out')")
    page.wait_for_url("**/login/")


def test_a_passkey_is_set_up_signs_in_and_is_asked_for_where_it_counts(window: Visit, strict: Any) -> None:
    page = window.page
    devtools = window.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    device = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    window.sign_in()
    page.goto("/settings/tokens/")
    assert "no second factor" in page.text_content(".factor")
    page.click(".factor a")
    page.click("a:has-text('Add')")
    page.fill("[name=password]", PASSWORD)
    page.click("button:has-text('Continue')")
    page.fill("[name=name]", "Laptop")
    page.click("#passkey-add")
    page.wait_for_url("**/recovery-codes/")
    assert page.locator(".recovery-codes li").count() == 10
    page.goto("/account/second-factor/")
    assert "Laptop" in page.text_content("main")

    sign_out(page)
    page.fill("[name=username]", USER)
    page.fill("[name=password]", PASSWORD)
    page.click("button:has-text('Sign in')")
    page.wait_for_url("**/authenticate/")
    page.click("#passkey-authenticate")
    page.wait_for_url(f"{strict[0].url}/")
    sign_out(page)
    page.click("#passkey-login")
    page.wait_for_url(f"{strict[0].url}/")

    page.goto("/settings/tokens/")
    page.fill("[name=name]", "backup")
    page.click("[data-factor-passkey]")
    page.get_by_text("Passkey given").wait_for()
    page.click("button:has-text('Make token')")
    page.wait_for_selector("#new-token")
    devtools.send("WebAuthn.removeVirtualAuthenticator", device)
    assert window.faults == []

    with page.expect_response("**/search/**"):
        page.focus("#search")
    page.wait_for_timeout(100)  # of an answer without a hit nothing is ever shown
    assert page.locator("#search-results").bounding_box()["height"] == 0

    page.set_viewport_size(PHONE)
    for address in ("second-factor", "password", "sessions"):
        page.goto(f"/account/{address}/")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        window.keep(f"account-{address}")


def test_the_identity_provider_is_reached_under_our_security_policy(window: Visit, strict: Any) -> None:
    server, provider = strict
    provider.account("grace", groups=["kvm-admins"])
    page = window.page
    page.goto("/login/?next=/events/")
    page.click("button:has-text('Sign in with Provider')")
    page.wait_for_url(f"{provider.issuer}/interaction/**")
    page.fill("[name=login]", "grace")
    page.click("button:has-text('Sign in')")
    page.wait_for_url(f"{server.url}/events/")
    assert page.text_content(".user-name") == "grace"
    assert window.faults == []
