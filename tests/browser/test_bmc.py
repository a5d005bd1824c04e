"""A node's BMC in Chromium: its certificate looked at and pinned; what is typed survives news of the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.software_bmc import PASSWORD, USER, SoftwareBmc, define_machine

MACHINE = "11111111-2222-4333-8444-555555555555"
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
MAKE = f"""
from nodes.models import Node
Node.objects.update_or_create(name="bmc-01", defaults=dict(
    uri="qemu+ssh://root@127.0.0.1:1/system", firmware_uuid="{MACHINE}", scheduling="maintenance",
    connection="offline", connection_reason="powered_off"))
"""
NEWS = "document.body.dispatchEvent(new CustomEvent('node-changed'))"


@pytest.fixture(scope="module")
def bmc(host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareBmc]:
    define_machine(host, "machine", MACHINE)
    with SoftwareBmc(tmp_path_factory.mktemp("bmc"), prefix=host.inside) as running:
        yield running
    host.virsh("undefine", "machine")


@pytest.fixture(params=["light", "dark"])
def window(request: Any, visit: Any, server: Any) -> Any:
    server.manage("shell", "-c", MAKE)
    opened = visit(theme=request.param)
    opened.sign_in()
    return opened


def test_a_bmc_is_set_up_with_its_certificate_compared_and_removed(window, bmc):
    page = window.page
    page.goto("/nodes/bmc-01/settings/")
    page.click("section[aria-labelledby=n-bmc] >> text=Set up")
    page.fill("#id_url", bmc.address.url)
    page.click("text=Look at the certificate")
    page.wait_for_selector("#certificate .fingerprint")
    shown = page.inner_text("#certificate .fingerprint").replace(":", "").lower()
    assert shown == bmc.fingerprint
    page.fill("#id_user", USER)
    page.fill("#id_password", "wrong-password")
    page.evaluate(NEWS)
    page.wait_for_timeout(500)
    assert page.input_value("#id_url") == bmc.address.url
    assert page.is_checked("#certificate input")
    page.click("text=Try and keep")
    page.wait_for_selector("#error-password .field-error")
    assert page.evaluate(CONTRAST) == []
    page.fill("#id_password", PASSWORD)
    page.click("text=Try and keep")
    page.wait_for_url("**/settings/")
    assert bmc.address.url in page.inner_text("section[aria-labelledby=n-bmc]")
    assert page.is_visible("#node-actions >> text=Power on")
    page.click("section[aria-labelledby=n-bmc] >> text=Remove")
    page.click("#bmc-remove >> text=Remove >> nth=-1")
    page.wait_for_selector("section[aria-labelledby=n-bmc] >> text=Set up")
    assert window.faults == []


def test_a_host_key_is_scanned_where_the_connection_is_changed(window, host):
    page = window.page
    page.goto("/nodes/bmc-01/settings/connection/")
    page.fill("#id_uri", f"qemu+ssh://root@127.0.0.1:{host.sshd.port}/system")
    page.click("text=Scan the host key")
    page.wait_for_selector("#host-keys .fingerprint")
    assert host.sshd.host_key().fingerprint in page.inner_text("#host-keys")
