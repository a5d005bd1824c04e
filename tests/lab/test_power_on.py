"""A host that was really shut down comes back through its BMC: off and on as a machine is, with no walk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes.hosts.host_key_scan import scan_host_keys
from nodes.models import ConnectionReason, Event, Node, Operation, OperationStatus
from nodes.operations.bmc import power_state
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.factories import make_credential, make_node
from tests.lab import bmc
from tests.lab.host import LabHost
from tests.network import ANYWHERE
from tests.patience import slowness
from tests.software_bmc import PASSWORD, USER, SoftwareBmc

pytestmark = [pytest.mark.django_db, pytest.mark.lab]


@pytest.fixture
def software_bmc(lab_plain: LabHost, tmp_path: Path) -> Iterator[SoftwareBmc]:
    with SoftwareBmc(tmp_path / "bmc", command=bmc.command(lab_plain)) as running:
        yield running


@pytest.fixture
def api(administrator: Any, settings: Any) -> Api:
    slow = slowness()
    settings.NODEADMIN_HOST_TIMEOUT_S *= slow
    settings.NODEADMIN_PROBE_TIMEOUT_S *= slow
    return Api(administrator)


@pytest.fixture
def node(lab_plain: LabHost, software_bmc: SoftwareBmc, api: Api) -> Node:
    """The lab host as a node, inventoried, with its BMC confirmed by the fingerprint that it shows."""
    keys = scan_host_keys("127.0.0.1", lab_plain.ssh_port, timeout_s=30 * slowness(), rules=ANYWHERE)
    key = next(key for key in keys if "25519" in key.type)
    made = make_node(
        "lab-plain", uri=lab_plain.uri(), host_key=key.to_text(), host_key_fingerprint=key.fingerprint
    )
    make_credential(made, "ssh_key", private_key=lab_plain.private_key.read_text())
    assert api("refresh-node", {"node": "lab-plain"})[0] == 202
    (refreshed,) = run_queued()
    assert refreshed.status == OperationStatus.SUCCEEDED, refreshed.error
    given = {"url": software_bmc.address.url, "user": USER, "password": PASSWORD}
    status, refused = api("update-node", {"node": "lab-plain", "bmc": given})
    assert (status, refused["reason"]) == (502, "certificate_unknown")
    given["certificate_fingerprint"] = refused["shown"]
    status, body = api("update-node", {"node": "lab-plain", "bmc": given})
    assert status == 200, body
    # Found by the firmware's UUID, which the inventory read on the host itself.
    assert body["bmc"]["system"].endswith(str(lab_plain.identity))
    made.refresh_from_db()
    return made


def power_on(api: Api) -> Operation:
    status, body = api("power-on-node", {"node": "lab-plain"})
    assert status == 202, body
    (ended,) = run_queued()
    return ended


def test_a_shutdown_is_proved_by_the_bmc_and_power_on_undoes_it(api, lab_plain, node, software_bmc):
    before = lab_plain.boot_id()
    assert power_state(node) == "On"
    asked = {"node": "lab-plain", "vm_policy": "stop"}
    status, plan = api("shutdown-node", asked)
    assert (status, plan["code"]) == (428, "confirmation_required"), plan
    status, body = api("shutdown-node", asked | {"confirm_token": plan["confirm_token"]})
    assert status == 202, body
    (down,) = run_queued()
    assert down.status == OperationStatus.SUCCEEDED, down.error
    assert not lab_plain.is_running()
    # The forwarder of its port refuses in its place when it is off, so the proof is the BMC's word.
    assert down.steps.get(code="off").data["bmc"] == power_state(node) == "Off"
    node.refresh_from_db()
    assert node.connection_reason == ConnectionReason.POWERED_OFF
    assert node.status == "maintenance"
    ended = power_on(api)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert lab_plain.is_running()
    now = lab_plain.boot_id()
    assert ended.result["boot_id"] == now != before
    assert ended.steps.get(code="back").data["boot_id_before"] == before
    assert software_bmc.commands == 1
    node.refresh_from_db()
    assert (node.connection, node.connection_reason, node.status) == ("online", "", "maintenance")
    assert node.boot_id == now
    assert Event.objects.filter(kind="power_on_node_succeeded", node=node).count() == 1
