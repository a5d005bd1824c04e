"""Drains that send VMs encrypted, give up those that do not converge, and move none that has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from nodes import access
from nodes.engine.submit import submit
from nodes.errors import PlanChanged
from nodes.events import SYSTEM
from nodes.models import Node, OperationStatus, SnapshotSection
from nodes.operations.plan.migration_address import shown_addresses
from nodes.operations.plan_run import PlanRun
from nodes.operations.planning import plan_changed
from nodes.operations.plans import Plan
from tests.engine.running import run_queued
from tests.light_nodes import ask, clear, plan_of
from tests.lighthosts import AVAILABLE, LightHost, assert_exactly_once, light_pair
from tests.qemu_certificates import Authority

pytestmark = pytest.mark.django_db(transaction=True)

Pair = tuple[LightHost, ...]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if not AVAILABLE:
        pytest.skip("needs root and libvirtd")
    with light_pair(tmp_path_factory.mktemp("pair"), migration_tls=True) as hosts:
        for host in hosts:
            equip(host, Authority("unused"))
        yield hosts


def equip(host: LightHost, authority: Authority) -> None:
    authority.equip(host.tls_folder, host.name, names=[f"{host.name}.example"])


@pytest.fixture
def certified(pair: Pair, nodes: tuple[Node, ...]) -> Callable[[], None]:
    """Gives both hosts certificates of one authority, and takes their inventories."""
    authority = Authority()

    def refresh() -> None:
        for host in pair:
            equip(host, authority)
        inventories(nodes)

    return refresh


def inventories(nodes: tuple[Node, ...]) -> None:
    for node in nodes:
        submit("refresh-node", actor=SYSTEM, node=node)
    assert {operation.status for operation in run_queued()} == {OperationStatus.SUCCEEDED}
    for node in nodes:
        node.refresh_from_db()


def decisions(plan: Plan) -> list[tuple[str, bool | None]]:
    return [(vm.vm_name, vm.encrypted) for vm in plan.decisions]


def test_a_drain_sends_its_vms_encrypted_where_the_inventories_show_certificates(
    pair, nodes, run_vm, certified
):
    certified()
    vm = run_vm("web")
    plan = plan_of("disable-node", nodes[0])
    assert decisions(plan) == [("web", True)]
    assert plan.decisions[0].verified_name == "light2.example"
    ask("disable-node", nodes[0], plan=plan)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert ended.steps.get(vm_uuid=vm.uuid).data["encrypted"] is True
    assert_exactly_once(pair, vm, on=pair[1])


def test_a_handshake_that_fails_fails_the_step_and_the_vm_is_not_sent_plain(pair, nodes, run_vm, certified):
    certified()
    vm = run_vm("web")
    operation = ask("disable-node", nodes[0])
    assert operation.plan["decisions"][0]["encrypted"] is True
    equip(pair[1], Authority("of others"))
    (ended,) = run_queued()
    assert [row["code"] for row in ended.error["vms"]] == ["migration_tls_failed"]
    assert "nothing was sent without encryption" in ended.error["vms"][0]["message"]
    assert "It runs on light1 as before." in ended.error["vms"][0]["message"]
    assert_exactly_once(pair, vm, on=pair[0])


def test_certificates_that_go_between_plan_and_start_ask_for_a_new_consent(pair, nodes, run_vm, certified):
    certified()
    vm = run_vm("web")
    operation = ask("disable-node", nodes[0])
    (pair[1].tls_folder / "server-cert.pem").unlink()
    inventories_before_the_drain(nodes, operation)
    operation.refresh_from_db()
    assert (operation.status, operation.error["code"]) == (OperationStatus.FAILED, "plan_changed")
    assert any("encrypted → migrate to light2, not encrypted" in text for text in operation.error["changes"])
    assert_exactly_once(pair, vm, on=pair[0])


def inventories_before_the_drain(nodes: tuple[Node, ...], operation) -> None:
    """The drain waits in the queue while both nodes are refreshed."""
    type(operation).objects.filter(pk=operation.pk).update(status=OperationStatus.RUNNING)
    for node in nodes:
        submit("refresh-node", actor=SYSTEM, node=node)
    run_queued()
    type(operation).objects.filter(pk=operation.pk).update(status=OperationStatus.QUEUED)
    run_queued()


def test_where_encryption_is_required_its_lack_blocks_and_says_what_helps(
    pair, nodes, run_vm, certified, settings
):
    settings.NODEADMIN_MIGRATION_TLS = "require"
    certified()
    run_vm("web")
    assert decisions(plan_of("disable-node", nodes[0])) == [("web", True)]
    for name in ("server-cert.pem", "server-key.pem"):
        (pair[1].tls_folder / name).unlink()
    inventories(nodes)
    plan = plan_of("disable-node", nodes[0])
    (reason,) = plan.decisions[0].blockers
    assert (plan.is_blocked, reason.code) == (True, "migration_not_encrypted")
    assert "server-cert.pem, server-key.pem" in reason.message
    assert reason.remedy
    settings.NODEADMIN_MIGRATION_TLS = "prefer"
    (vm,) = plan_of("disable-node", nodes[0]).decisions
    assert (vm.encrypted, vm.blockers) == (False, ())
    assert any(note.startswith("Not encrypted: light2 lacks") for note in vm.notes)


def test_what_was_confirmed_as_plain_is_not_sent_once_encryption_is_required(
    pair, nodes, run_vm, monkeypatch, settings
):
    vm = run_vm("web")
    settings.NODEADMIN_MIGRATION_TLS = "off"
    ask("disable-node", nodes[0])
    checked = PlanRun.check

    def then_required(work: PlanRun) -> None:
        checked(work)
        settings.NODEADMIN_MIGRATION_TLS = "require"

    monkeypatch.setattr(PlanRun, "check", then_required)
    (ended,) = run_queued()
    (row,) = ended.error["vms"]
    assert row["code"] == "plan_changed"
    assert "It runs on light1 as before." in row["message"]
    assert_exactly_once(pair, vm, on=pair[0])


def test_an_address_that_both_inventories_show_leads_back_to_the_source(pair, nodes, run_vm, certified):
    """Light hosts share this machine's addresses."""
    certified()
    run_vm("web")
    net = SnapshotSection.objects.get(snapshot=nodes[1].snapshot, slug="net").facts
    own = shown_addresses(net)
    if not own:
        pytest.skip("this machine has no address but loopback")
    nodes[1].migration_address, nodes[1].migration_address_forced = str(own[0]), False
    nodes[1].save()
    (vm,) = plan_of("disable-node", nodes[0]).decisions
    assert [reason.code for reason in vm.blockers] == ["migration_network"]
    assert "which light1 has as well" in vm.blockers[0].message
    assert str(own[0]) in vm.blockers[0].remedy


def test_one_that_does_not_converge_ends_as_that_and_the_vm_runs_on(pair, nodes, run_vm, restless, settings):
    settings.NODEADMIN_MIGRATION_STALL_S = 2.0
    settings.NODEADMIN_MIGRATION_STALL_PASSES = 2
    settings.NODEADMIN_MIGRATION_BANDWIDTH_MIB_S = 24
    busy = run_vm("busy", kernel=restless)
    ask("disable-node", nodes[0])
    (ended,) = run_queued()
    (row,) = ended.error["vms"]
    assert row["code"] == "migration_not_converging"
    assert "The VM changes " in row["message"]
    assert "It runs on light1 as before." in row["message"]
    data = ended.steps.get(vm_uuid=busy.uuid).data
    assert data["auto_converge"] is False
    assert data["throttle_percent"] is None
    assert_exactly_once(pair, busy, on=pair[0])


def test_auto_converge_stands_in_the_plan_and_in_what_is_confirmed(pair, nodes, run_vm):
    run_vm("web")
    plain, slowed = (plan_of("disable-node", nodes[0], auto_converge=on) for on in (False, True))
    assert [vm.auto_converge for vm in (*plain.decisions, *slowed.decisions)] == [False, True]
    assert plain.digest() != slowed.digest()


def test_a_vm_that_was_given_a_device_since_the_plan_was_checked_is_not_moved(
    pair, nodes, run_vm, monkeypatch, tmp_path
):
    one, _two = pair
    changed, same = run_vm("changed"), run_vm("same")
    ask("disable-node", nodes[0])
    device = tmp_path / "device.xml"
    device.write_text("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>")
    checked = PlanRun.check

    def then_attached(work: PlanRun) -> None:
        checked(work)
        shared = one.folder / "etc" / device.name
        shared.write_text(device.read_text())
        one.virsh("-q", "attach-device", changed.uuid, f"/etc/libvirt/{device.name}", "--live")

    monkeypatch.setattr(PlanRun, "check", then_attached)
    (ended,) = run_queued()
    (row,) = ended.error["vms"]
    assert (row["vm"], row["code"]) == ("changed", "plan_changed")
    assert "rng virtio: new" in row["message"]
    assert "It runs on light1 as before." in row["message"]
    assert_exactly_once(pair, changed, on=one)
    assert_exactly_once(pair, same, on=pair[1])


def test_a_vm_that_is_another_when_the_drain_starts_asks_for_a_new_consent(pair, nodes, run_vm):
    one, _two = pair
    vm = run_vm("web")
    ask("disable-node", nodes[0])
    one.remove_vms(vm)
    one.start_vm(replace(vm, memory_mib=48))
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed")
    assert any("memory unit=KiB 32768 → memory unit=KiB 49152" in text for text in ended.error["changes"])
    assert ended.error["plan"]["decisions"]
    assert ended.error["plan"]["targets"] == [], "for who asks for a plan alone"


def test_plans_of_answers_lack_the_parts_and_mean_the_same(pair, nodes, run_vm):
    run_vm("web")
    plan = plan_of("disable-node", nodes[0])
    told = Plan.from_dict(plan.to_dict())
    assert plan.decisions[0].parts
    assert told.decisions[0].parts == ()
    assert told.digest() == plan.digest() == Plan.from_dict(plan.to_row()).digest()
    other = replace(plan, decisions=(replace(plan.decisions[0], shape="other", parts=()),))
    error = plan_changed(told, other)
    assert isinstance(error, PlanChanged)
    assert error.extra["changes"] == ["web: its description has changed"]


@pytest.fixture(autouse=True)
def emptied(pair: Pair) -> Iterator[None]:
    yield
    access.close_pool()
    for host in pair:
        clear(host)
