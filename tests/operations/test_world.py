"""The world of a plan, read off two light hosts and the database."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nodes import access
from nodes.engine import shared_storage
from nodes.errors import UnknownNode
from nodes.events import SYSTEM, Actor
from nodes.models import (
    Connection,
    Credential,
    Node,
    OperationStatus,
    Scheduling,
    SnapshotSection,
    StepStatus,
)
from nodes.operations.candidates import candidates, moved_away, promised
from nodes.operations.host_reading import Host
from nodes.operations.looking import host_state, look
from nodes.operations.placing import OVERHEAD_BYTES
from nodes.operations.plan.hosts_to_ask import host_of, hosts_of
from nodes.operations.planning import plan_for
from nodes.operations.plans import Action, Plan, VmDecision
from nodes.operations.scheduling import uncordon
from nodes.permissions import MAINTAIN, VIEW
from tests.factories import grant, make_node, make_operation, make_snapshot
from tests.light_nodes import ask
from tests.lighthosts import TinyVm
from tests.sshd import free_port

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1 << 20


def codes(plan: Plan) -> dict[str, list[str]]:
    return {vm.vm_name: [reason.code for reason in vm.blockers] for vm in plan.decisions if vm.blockers}


def moves(plan: Plan) -> dict[str, str]:
    return {vm.vm_name: vm.target for vm in plan.of(Action.MIGRATE)}


# -- live ------------------------------------------------------------------------------------------


def test_a_drain_is_planned_from_what_runs_now(pair, nodes, run_vm):
    run_vm("web")
    pair[0].define_vm(TinyVm("spare"))
    plan = plan_for("disable-node", None, nodes[0], {})
    assert not plan.is_blocked, plan
    assert moves(plan) == {"web": "light2"}
    assert [vm.vm_name for vm in plan.of(Action.LEAVE)] == ["spare"]
    assert plan.boot_id == pair[0].boot_id
    (web,) = plan.of(Action.MIGRATE)
    assert (web.memory_bytes, web.vcpus, web.state) == (32 * MIB, 1, "running")


def test_what_vms_are_tied_to_is_looked_up_on_the_target_just_now(pair, nodes, run_vm, tmp_path):
    """Both light hosts share this machine's ports: one that a VM has on the first is taken on the second."""
    port = free_port()
    run_vm("shown", devices=f"<graphics type='vnc' port='{port}' autoport='no' listen='127.0.0.1'/>")
    run_vm("moved", devices="<graphics type='vnc' autoport='yes' listen='127.0.0.1'/>")
    run_vm("pinned", cpu="<cputune><vcpupin vcpu='0' cpuset='0'/></cputune>")
    log = tmp_path / "shared.log"
    log.touch(mode=0o666)
    tmp_path.chmod(0o777)
    run_vm("logs", devices=f"<serial type='file'><source path='{log}'/></serial>")
    plan = plan_for("disable-node", None, nodes[0], {})
    assert codes(plan) == {"shown": ["port_taken_on_target"]}
    assert moves(plan) == {"moved": "light2", "pinned": "light2", "logs": "light2"}
    (shown,) = plan.of(Action.BLOCKED)
    assert str(port) in shown.blockers[0].message


class OwnQemu(TinyVm):
    """A VM of an emulator that its own host alone has."""

    PLACE = "/var/lib/libvirt/own-qemu"

    def xml(self) -> str:
        return TinyVm.xml(self).replace("/usr/bin/qemu-system-x86_64", self.PLACE)


def test_a_target_without_the_vms_emulator_does_not_take_it(pair, nodes, run_vm):
    run_vm("web")
    (pair[0].folder / "lib" / "own-qemu").symlink_to("/usr/bin/qemu-system-x86_64")
    pair[0].start_vm(OwnQemu("odd"))
    plan = plan_for("disable-node", None, nodes[0], {})
    assert codes(plan) == {"odd": ["hypervisor_differs"]}
    assert "QEMU" in next(vm for vm in plan.decisions if vm.blockers).blockers[0].remedy
    assert moves(plan) == {"web": "light2"}


def test_a_target_that_has_another_vm_of_the_name_does_not_take_it(pair, nodes, run_vm):
    run_vm("web")
    run_vm("free")
    pair[1].define_vm(TinyVm("web"))
    plan = plan_for("disable-node", None, nodes[0], {})
    assert codes(plan) == {"web": ["name_taken_on_target"]}
    assert moves(plan) == {"free": "light2"}


def test_a_local_disk_and_a_disk_file_of_the_same_name_elsewhere_are_no_shared_storage(
    pair, nodes, run_vm, tmp_path
):
    image = tmp_path / "disk.img"
    image.write_bytes(b"\0" * MIB)
    image.chmod(0o666)
    tmp_path.chmod(0o755)
    disk = f"<disk type='file' device='disk'><source file='{image}'/><target dev='vda' bus='virtio'/></disk>"
    run_vm("db", devices=disk)
    plan = plan_for("disable-node", None, nodes[0], {})
    assert codes(plan) == {"db": ["local_disk"]}
    assert str(image) in plan.decisions[0].blockers[0].message


def test_vms_move_only_to_nodes_that_the_user_may_maintain(pair, nodes, run_vm, operator):
    run_vm("web")
    grant(operator, nodes[0], VIEW, MAINTAIN)
    grant(operator, nodes[1], VIEW)
    assert codes(plan_for("disable-node", operator, nodes[0], {})) == {"web": ["no_target_permission"]}
    grant(operator, nodes[1], MAINTAIN)
    assert moves(plan_for("disable-node", operator, nodes[0], {})) == {"web": "light2"}


def test_a_target_whose_migration_address_leads_nowhere_takes_nothing(pair, nodes, run_vm):
    run_vm("web")
    Node.objects.filter(pk=nodes[1].pk).update(migration_address="no-such-host.invalid")
    plan = plan_for("disable-node", None, nodes[0], {})
    assert codes(plan) == {"web": ["migration_network"]}
    assert "no-such-host.invalid" in plan.decisions[0].blockers[0].message


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1"])
def test_a_target_whose_migrations_would_come_back_to_the_source_takes_nothing(pair, nodes, run_vm, address):
    run_vm("web")
    target = Node.objects.filter(pk=nodes[1].pk)
    target.update(migration_address=address, migration_address_forced=False)
    plan = plan_for("disable-node", None, nodes[0], {})
    assert codes(plan) == {"web": ["migration_network"]}
    target.update(migration_address_forced=True)
    assert moves(plan_for("disable-node", None, nodes[0], {})) == {"web": "light2"}


def test_a_target_of_too_few_processors_takes_nothing(pair, nodes, run_vm, settings):
    run_vm("web")
    settings.NODEADMIN_VCPU_OVERCOMMIT = 0.1
    assert codes(plan_for("disable-node", None, nodes[0], {})) == {"web": ["no_target"]}


def test_with_libvirt_hanging_the_plan_comes_in_time_and_lists_the_vms_last_known(
    pair, nodes, run_vm, settings
):
    settings.NODEADMIN_HOST_TIMEOUT_S = 4.0
    run_vm("web")
    snapshot = make_snapshot(nodes[0])
    row = {"uuid": "u-1", "name": "web", "state": "running", "active": True, "vcpus_current": 1}
    SnapshotSection.objects.update_or_create(
        snapshot=snapshot, slug="vms", defaults={"facts": {"vms": [row]}}
    )
    known = plan_for("reboot-node", None, nodes[0], {"vm_policy": "stop"})
    assert known.vms_known and not known.is_blocked
    pair[0].freeze_libvirtd()
    try:
        started = time.monotonic()
        blind = plan_for("reboot-node", None, nodes[0], {"vm_policy": "stop"})
        took = time.monotonic() - started
        accepted = plan_for("reboot-node", None, nodes[0], {"vm_policy": "stop", "accept_unknown_vms": True})
    finally:
        pair[0].thaw_libvirtd()
        access.close_pool()
    assert took < 6
    assert [reason.code for reason in blind.blockers] == ["vm_state_unknown"]
    assert [(vm.vm_name, vm.state, vm.action) for vm in blind.decisions] == [("web", None, Action.BLOCKED)]
    assert blind.boot_id == pair[0].boot_id
    assert not accepted.is_blocked and accepted.losses


def test_a_host_without_power_is_told_from_one_without_libvirt(pair, nodes, settings):
    settings.NODEADMIN_HOST_TIMEOUT_S = 3.0
    pair[0].power_off()
    try:
        plan = plan_for("reboot-node", None, nodes[0], {"accept_unknown_vms": True})
        forced = plan_for("delete-node", None, nodes[0], {"force": True})
    finally:
        access.close_pool()
        pair[0].power_on()
    assert plan.is_blocked and not plan.vms_known
    assert plan.blockers[0].code in ("host_unreachable", "timeout")
    assert not forced.is_blocked and forced.losses


def test_a_target_that_does_not_answer_costs_its_own_place_alone(pair, nodes, run_vm, settings):
    settings.NODEADMIN_HOST_TIMEOUT_S = 4.0
    run_vm("web")
    make_node("kvm-dead", uri="qemu+ssh://root@127.0.0.1:9/system", memory_total_bytes=1 << 45)
    assert moves(plan_for("disable-node", None, nodes[0], {})) == {"web": "light2"}


# -- promises --------------------------------------------------------------------------------------


def test_what_others_will_bring_is_taken_off_a_targets_room(pair, nodes, run_vm):
    run_vm("web")
    first = plan_for("disable-node", None, nodes[0], {})
    huge = VmDecision("u-1", "huge", "running", Action.MIGRATE, "light2", str(nodes[1].uuid))
    elsewhere = make_node(connection=Connection.OFFLINE)
    row = {**first.to_dict(), "decisions": []}
    plan = Plan.from_dict(row)
    other = make_operation(
        elsewhere,
        "disable-node",
        OperationStatus.RUNNING,
        plan=Plan(plan.kind, elsewhere.name, str(elsewhere.uuid), {}, (huge_of(huge, 1 << 45),)).to_dict(),
    )
    assert codes(plan_for("disable-node", None, nodes[0], {})) == {"web": ["no_target"]}
    other.steps.create(position=0, code="vm:u-1", title="Move", status=StepStatus.SUCCEEDED)
    assert moves(plan_for("disable-node", None, nodes[0], {})) == {"web": "light2"}


def huge_of(vm: VmDecision, memory_bytes: int) -> VmDecision:
    return VmDecision(
        vm.vm_uuid, vm.vm_name, vm.state, vm.action, vm.target, vm.target_uuid, memory_bytes=memory_bytes
    )


def drain_of(node: Node, to: Node, *, memory_bytes: int = 0, status: str = OperationStatus.QUEUED):
    vm = VmDecision("u-1", "web", "running", Action.MIGRATE, to.name, str(to.uuid), memory_bytes=memory_bytes)
    plan = Plan("disable-node", node.name, str(node.uuid), {}, (vm,))
    return make_operation(node, "disable-node", status, plan=plan.to_dict())


def test_of_two_operations_that_collide_the_later_one_yields():
    a, b, c = make_node(), make_node(), make_node()
    first, second = drain_of(a, c, memory_bytes=MIB), drain_of(b, c, memory_bytes=2 * MIB)
    assert promised(first) == {}
    assert promised(second)[str(c.uuid)].memory_bytes == MIB + OVERHEAD_BYTES
    assert promised(None)[str(c.uuid)].memory_bytes == 3 * MIB + 2 * OVERHEAD_BYTES


def test_ended_operations_promise_nothing():
    drain_of(make_node(), make_node(), memory_bytes=MIB, status=OperationStatus.FAILED)
    assert promised(None) == {}


# -- candidates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaving", ["compute", "hybrid", "storage"])
def test_vms_go_to_compute_and_hybrid_nodes_whatever_the_type_of_the_one_they_leave(leaving):
    node = make_node("kvm-a", node_type=leaving)
    for name in ("compute", "hybrid", "storage"):
        make_node(f"kvm-{name}", node_type=name)
    found = candidates(None, node, {}, None)
    assert sorted(row.name for row in found.nodes) == ["kvm-compute", "kvm-hybrid"]


def test_only_enabled_online_nodes_that_take_vms_and_stay_are_candidates():
    node = make_node("kvm-a")
    good = make_node("kvm-b")
    make_node("kvm-c", node_type="storage")
    make_node("kvm-d", scheduling=Scheduling.MAINTENANCE)
    make_node("kvm-e", connection=Connection.OFFLINE)
    leaving = make_node("kvm-f")
    make_operation(leaving, "reboot-node", OperationStatus.QUEUED)
    found = candidates(None, node, {}, None)
    assert [row.name for row in found.nodes] == [good.name]
    assert found.others


def test_others_count_though_the_user_may_not_use_them(operator):
    node = make_node("kvm-a")
    make_node("kvm-b")
    found = candidates(operator, node, {}, None)
    assert (found.nodes, found.others) == ((), True)
    Node.objects.exclude(pk=node.pk).update(node_type="storage")
    assert candidates(operator, node, {}, None).others is False


def test_those_that_were_shown_are_asked_before_all_others_and_then_the_emptiest():
    node = make_node("kvm-a")
    rows = [
        make_node(f"kvm-{number}", memory_total_bytes=100 * MIB, memory_used_bytes=number * MIB)
        for number in range(1, 6)
    ]
    shown = {"u-1": str(rows[4].uuid)}
    found = candidates(None, node, shown, None)
    assert [row.name for row in found.nodes] == ["kvm-5", "kvm-1", "kvm-2", "kvm-3", "kvm-4"]
    assert found.first == 1


def test_candidates_and_promises_cost_the_same_queries_however_many_there_are(
    administrator, django_assert_num_queries
):
    node = make_node("kvm-a")
    nodes_for_ada = [make_node() for _ in range(6)]
    for row in nodes_for_ada[:3]:
        drain_of(row, node, memory_bytes=MIB)
    candidates(administrator, node, {}, None)
    with django_assert_num_queries(2):
        candidates(administrator, node, {}, None)
    with django_assert_num_queries(2):
        promised(None)


def test_what_the_database_tells_of_candidates_costs_the_same_queries_however_many_there_are(
    administrator, django_assert_num_queries
):
    node, one, two = make_node("kvm-a"), make_node("kvm-b"), make_node("kvm-c")
    for row in (one, two):
        make_snapshot(row)
        Credential.objects.create(node=row, kind="nodeadmin_key")
    shared_storage.declare(Actor(administrator), kind="path", name="/srv/images", nodes=[one, two])
    access.own_key_pair()
    rows = candidates(administrator, node, {}, None).nodes
    assert len(rows) == 2
    with django_assert_num_queries(3):
        hosts_of(rows[:1])
    with django_assert_num_queries(3):
        found = hosts_of(rows)
    for row in rows:
        alone = host_of(Node.objects.get(pk=row.pk))
        assert isinstance(alone, Host) and alone == found[row.pk]
        assert alone.inventory and [share.name for share in alone.declared] == ["/srv/images"]


def test_a_candidate_that_is_removed_meanwhile_is_told_as_such(administrator):
    node, gone = make_node(), make_node()
    Node.objects.filter(pk=gone.pk).delete()
    found = hosts_of([node, gone])
    assert isinstance(found[node.pk], Host)
    assert isinstance(found[gone.pk], UnknownNode)


# -- what may come back ----------------------------------------------------------------------------


def test_what_the_newest_operation_that_moved_any_moved_may_come_back():
    node, away = make_node(), make_node()
    older = drain_of(node, away, status=OperationStatus.SUCCEEDED)
    older.steps.create(position=0, code="vm:u-1", title="Move", status=StepStatus.SUCCEEDED)
    assert {uuid: row.to for uuid, row in moved_away(node).items()} == {"u-1": str(away.uuid)}
    # One that moved nothing does not make it forgotten, nor does a failure unmake what was moved.
    drain_of(node, away, status=OperationStatus.FAILED)
    assert set(moved_away(node)) == {"u-1"}
    assert moved_away(away) == {}


def test_what_was_moved_in_the_same_maintenance_comes_back_and_what_was_before_does_not():
    node, away, elsewhere = make_node(), make_node(), make_node()

    def moved(uuid: str, to: Node, status: str) -> None:
        row = VmDecision(uuid, uuid, "running", Action.MIGRATE, to.name, str(to.uuid))
        plan = Plan("disable-node", node.name, str(node.uuid), {}, (row,))
        operation = make_operation(node, "disable-node", status, plan=plan.to_dict())
        operation.steps.create(position=0, code=f"vm:{uuid}", title="Move", status=StepStatus.SUCCEEDED)

    moved("u-of-last-year", away, OperationStatus.SUCCEEDED)
    node.scheduling = Scheduling.MAINTENANCE
    node.save()
    uncordon(node, actor=SYSTEM)
    moved("u-1", away, OperationStatus.FAILED)
    moved("u-2", away, OperationStatus.CANCELLED)
    moved("u-1", elsewhere, OperationStatus.SUCCEEDED)
    found = {uuid: row.to for uuid, row in moved_away(node).items()}
    assert found == {"u-1": str(elsewhere.uuid), "u-2": str(away.uuid)}


def test_vms_come_back_from_where_they_are(pair, nodes, run_vm):
    vm = run_vm("web", on=pair[1])
    gone = VmDecision("u-9", "gone", "running", Action.MIGRATE, "light2", str(nodes[1].uuid))
    there = VmDecision(vm.uuid, "web", "running", Action.MIGRATE, "light2", str(nodes[1].uuid))
    plan = Plan("disable-node", "light1", str(nodes[0].uuid), {}, (there, gone))
    drained = make_operation(nodes[0], "disable-node", OperationStatus.FAILED, plan=plan.to_dict())
    for number, row in enumerate(plan.decisions):
        drained.steps.create(
            position=number, code=f"vm:{row.vm_uuid}", title="Move", status=StepStatus.SUCCEEDED
        )
    back = plan_for("enable-node", None, nodes[0], {})
    assert [(row.vm_name, row.source, row.target) for row in back.decisions] == [("web", "light2", "light1")]
    assert any("gone" in note for note in back.notes)


def test_a_plan_made_again_for_its_operation_is_the_same(pair, nodes, run_vm):
    run_vm("web")
    operation = ask("disable-node", nodes[0])
    again = plan_for("disable-node", None, nodes[0], {}, before=operation)
    assert again.digest() == Plan.from_dict(operation.plan).digest()


# -- shared storage --------------------------------------------------------------------------------


def test_storage_that_an_administrator_declared_shared_takes_its_vms_along(
    pair, nodes, run_vm, tmp_path, administrator
):
    image = tmp_path / "disk.img"
    image.write_bytes(b"\0" * MIB)
    image.chmod(0o666)
    tmp_path.chmod(0o755)
    disk = f"<disk type='file' device='disk'><source file='{image}'/><target dev='vda' bus='virtio'/></disk>"
    run_vm("db", devices=disk)
    assert codes(plan_for("disable-node", None, nodes[0], {})) == {"db": ["local_disk"]}
    actor = Actor(administrator)
    with_others = [nodes[0], make_node(connection=Connection.OFFLINE)]
    row = shared_storage.declare(actor, kind="path", name=str(tmp_path), nodes=with_others)
    assert codes(plan_for("disable-node", None, nodes[0], {})) == {"db": ["storage_not_on_target"]}
    shared_storage.change(actor, row, nodes)
    plan = plan_for("disable-node", None, nodes[0], {})
    assert moves(plan) == {"db": "light2"}
    assert any(f"declared shared by {administrator.username}" in note for note in plan.decisions[0].notes)


def test_what_constraints_know_of_a_host_is_read_of_it(pair, nodes):
    host = host_of(nodes[1])
    seen = look([], [host], timeout_s=15.0)
    state = host_state(seen.hosts[host.uuid], seen)
    assert state.capabilities is not None and state.capabilities.cells
    assert state.blocks is not None and state.blocks.has(f"/dev/{Path(block_device()).name}")
    assert state.room is not None and state.storage.mounts


def block_device() -> str:
    """Some block device of this machine, which a light host shares."""
    return next(entry.path for entry in os.scandir("/sys/class/block"))
