"""Where VMs may go: which candidates are asked, what people choose, and what a target has refused before."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from nodes import access
from nodes.engine.purge import purge
from nodes.errors import InvalidInput, PermissionDenied
from nodes.models import (
    Connection,
    InventoryChange,
    Node,
    OperationStatus,
    Scheduling,
    UnfitTarget,
)
from nodes.models.unfit_target import LASTS
from nodes.operations.candidates import candidates
from nodes.operations.plan.named_targets import with_targets_as_uuids
from nodes.operations.plan_run import PlanRun
from nodes.operations.planning import plan_for
from nodes.operations.plans import Action, Plan
from nodes.permissions import MAINTAIN, VIEW
from tests.engine.running import run_queued
from tests.factories import grant, make_credential, make_node, make_snapshot, secret_of
from tests.light_nodes import ask, light_node
from tests.lighthosts import TinyVm, assert_exactly_once

pytestmark = pytest.mark.django_db(transaction=True)

MIB, GIB = 1 << 20, 1 << 30


def codes(plan: Plan) -> dict[str, list[str]]:
    return {vm.vm_name: [reason.code for reason in vm.blockers] for vm in plan.decisions if vm.blockers}


def moves(plan: Plan) -> dict[str, str]:
    return {vm.vm_name: vm.target for vm in plan.of(Action.MIGRATE)}


def drain(node: Node, **options: object) -> Plan:
    return plan_for("disable-node", None, node, options)


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts every connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def mute(name: str, port: int, like: Node) -> Node:
    """A node behind the silent port, in the best state by all that the database knows."""
    node = make_node(
        name,
        uri=f"qemu+ssh://root@127.0.0.1:{port}/system",
        migration_address="127.0.0.1",
        node_type=like.node_type,
        memory_total_bytes=1 << 45,
        memory_used_bytes=0,
    )
    access.pin(node, access.pinned_host_key(like))
    node.save()
    make_credential(node, "ssh_key", **secret_of(like))
    return node


# -- which are asked -------------------------------------------------------------------------------


def test_those_with_room_come_first_then_those_heard_of_last_then_the_emptiest():
    node, now = make_node("kvm-a"), timezone.now()

    def candidate(name: str, free_mib: int | None, silent_s: float) -> None:
        used = None if free_mib is None else 100 * MIB - free_mib * MIB
        seen = now - timedelta(seconds=silent_s)
        make_node(name, memory_total_bytes=100 * MIB, memory_used_bytes=used, last_seen_at=seen)

    candidate("small", 10, 0)
    candidate("roomy", 60, 0)
    candidate("roomier-but-silent", 90, 60)
    candidate("no-figures", None, 2)
    candidate("just-enough", 50, 2)
    found = candidates(None, node, {}, None, need_bytes=40 * MIB)
    names = [row.name for row in found.nodes]
    assert names == ["roomy", "just-enough", "no-figures", "roomier-but-silent", "small"]


def test_where_the_first_batch_takes_not_all_vms_the_next_is_asked_and_the_plan_tells_how_many_were(
    pair, nodes, run_vm, settings
):
    settings.NODEADMIN_PLAN_TARGETS = 1
    run_vm("web")
    pair[1].define_vm(TinyVm("web"))  # its name is taken there
    light_node(pair[0], name="light0", memory_total_bytes=2 * GIB, memory_used_bytes=0)
    far = {"memory_total_bytes": 1 * GIB, "memory_used_bytes": 0}
    others = [make_node(f"kvm-{number}", uri="qemu+ssh://root@127.0.0.1:9/system", **far) for number in "ab"]
    Node.objects.filter(pk=nodes[1].pk).update(memory_total_bytes=4 * GIB, memory_used_bytes=0)
    Node.objects.update(last_seen_at=timezone.now())
    plan = drain(nodes[0])
    assert moves(plan) == {"web": "light0"}
    assert (plan.targets_asked, plan.targets_eligible) == (2, 4)
    assert "2 of 4 nodes that could take VMs were asked." in plan.notes
    shown = {target.name: target for target in plan.targets}
    assert [shown[row.name].asked for row in others] == [False, False]
    assert shown["kvm-a"].memory_free_bytes == GIB
    assert "has another VM of the name" in shown["light2"].unfit[0].message
    assert Plan.from_dict(plan.to_row()) == plan


def test_a_silent_candidate_delays_nobody_and_is_told(pair, nodes, run_vm, settings, silent):
    settings.NODEADMIN_HOST_TIMEOUT_S = 15.0
    run_vm("web")
    for number in range(3):
        light_node(pair[1], name=f"again-{number}")
    drain(nodes[0])  # the connections stand
    started = time.monotonic()
    drain(nodes[0])
    without_s = time.monotonic() - started
    mute("kvm-silent", silent, nodes[1])
    started = time.monotonic()
    plan = drain(nodes[0])
    assert "web" in moves(plan)
    assert time.monotonic() - started < 3 * without_s + 1.0
    (quiet,) = [target for target in plan.targets if target.name == "kvm-silent"]
    assert [reason.code for reason in quiet.obstacles] == ["timeout"]


def test_where_no_candidate_of_the_first_batch_answers_the_next_is_asked_within_the_deadline(
    pair, nodes, run_vm, settings, silent
):
    settings.NODEADMIN_HOST_TIMEOUT_S = 6.0
    settings.NODEADMIN_PLAN_TARGETS = 2
    run_vm("web")
    for number in range(2):
        mute(f"kvm-silent-{number}", silent, nodes[1])
    started = time.monotonic()
    plan = drain(nodes[0])
    assert moves(plan) == {"web": "light2"}
    assert time.monotonic() - started < 6.5
    assert (plan.targets_asked, plan.targets_eligible) == (3, 3)


def test_a_target_that_was_confirmed_is_waited_for_though_others_have_answered(
    pair, nodes, run_vm, settings, silent
):
    settings.NODEADMIN_HOST_TIMEOUT_S = 3.0
    vm = run_vm("web")
    quiet = mute("kvm-silent", silent, nodes[1])
    started = time.monotonic()
    plan = plan_for("disable-node", None, nodes[0], {}, prefer={vm.uuid: str(quiet.uuid)})
    assert moves(plan) == {"web": "light2"}
    assert time.monotonic() - started > 1.9  # it had its own time, to the end


# -- what people choose ----------------------------------------------------------------------------


def test_vms_go_only_to_the_targets_that_were_chosen_and_one_vm_to_its_own(pair, nodes, run_vm):
    run_vm("web")
    run_vm("db")
    third = light_node(pair[1], name="light3", memory_total_bytes=1 << 45, memory_used_bytes=0)
    light_node(pair[1], name="light4", memory_total_bytes=1 << 45, memory_used_bytes=0)
    plan = drain(nodes[0], targets=["light3"])
    assert moves(plan) == {"web": "light3", "db": "light3"}
    assert {target.name: target.asked for target in plan.targets} == {
        "light2": False,
        "light3": True,
        "light4": False,
    }
    named = {"web": {"action": "migrate", "target": "light4"}}
    assert moves(drain(nodes[0], targets=[str(third.uuid)], vm_overrides=named)) == {
        "web": "light4",
        "db": "light3",
    }
    for kind in ("reboot-node", "shutdown-node", "delete-node"):
        options = {"vm_policy": "migrate", "targets": ["light4"]}
        assert set(moves(plan_for(kind, None, nodes[0], options)).values()) == {"light4"}, kind


def test_a_chosen_target_that_takes_no_vms_is_told_with_the_reason(nodes, run_vm):
    run_vm("web")
    Node.objects.filter(pk=nodes[1].pk).update(scheduling=Scheduling.MAINTENANCE)
    off = make_node("kvm-off", node_type=nodes[0].node_type, connection=Connection.OFFLINE)
    make_node("kvm-on", uri="qemu+ssh://root@127.0.0.1:9/system", node_type=nodes[0].node_type)
    both = drain(nodes[0], targets=["light2", str(off.uuid)])
    assert codes(both) == {"web": ["no_target"]}
    message = both.decisions[0].blockers[0].message
    assert "light2: is in maintenance" in message and "kvm-off: is not online" in message
    one = drain(nodes[0], vm_overrides={"web": {"action": "migrate", "target": "light2"}})
    assert codes(one) == {"web": ["target_in_maintenance"]}
    assert one.decisions[0].blockers[0].remedy
    gone = drain(nodes[0], vm_overrides={"web": {"action": "migrate", "target": "no-such-node"}})
    assert codes(gone) == {"web": ["unknown_node"]}


def test_targets_are_refused_by_name_where_they_cannot_be_meant(operator):
    node, mine, seen, hidden = (make_node(name) for name in ("kvm-a", "kvm-b", "kvm-c", "kvm-d"))
    grant(operator, node, VIEW, MAINTAIN)
    grant(operator, mine, VIEW, MAINTAIN)
    grant(operator, seen, VIEW)
    found = with_targets_as_uuids(operator, node, {"targets": ["kvm-b", str(mine.uuid)]}, strict=True)
    assert found["targets"] == [str(mine.uuid)]

    def refused(error: type[Exception], **options: object) -> tuple[str, str]:
        with pytest.raises(error) as raised:
            with_targets_as_uuids(operator, node, options, strict=True)
        return raised.value.field, raised.value.message

    unknown = refused(InvalidInput, targets=["kvm-b", "no-such-node"])
    assert unknown[0] == "targets.1"
    for name in ("kvm-d", str(hidden.uuid)):  # not to be told from one that does not exist
        assert refused(InvalidInput, targets=["kvm-b", name])[1] == unknown[1].replace("no-such-node", name)
    assert refused(InvalidInput, targets=["kvm-a"])[0] == "targets.0"
    wish = {"web": {"action": "migrate", "target": "kvm-c"}}
    field, message = refused(PermissionDenied, vm_overrides=wish)
    assert (field, "maintain_node" in message) == ("vm_overrides.web.target", True)


def test_a_plan_lists_no_node_that_the_user_may_not_use(operator):
    node, mine, seen, hidden = (make_node(name) for name in ("kvm-a", "kvm-b", "kvm-c", "kvm-d"))
    make_node("kvm-e", scheduling=Scheduling.MAINTENANCE)
    grant(operator, node, VIEW, MAINTAIN)
    grant(operator, mine, VIEW, MAINTAIN)
    grant(operator, seen, VIEW)
    asked_for = {str(row.uuid) for row in (seen, hidden)}
    for only in (set(), asked_for):
        found = candidates(operator, node, {}, None, only=only)
        told = [row.name for row in (*found.nodes, *found.unchosen, *(row for row, _why in found.excluded))]
        assert told == ["kvm-b"]


# -- what was refused ------------------------------------------------------------------------------


class OwnKernel(TinyVm):
    """A VM whose kernel each host has for itself."""

    PLACE = "/var/lib/libvirt/own-kernel"

    def xml(self) -> str:
        return TinyVm.xml(self).replace("</type>", f"</type><kernel>{self.PLACE}</kernel>")


@pytest.fixture
def refused(pair, nodes, run_vm, obedient, monkeypatch):
    """A VM that a drain could not move: its kernel was away from the target for a moment after the plan had
    been checked, so that QEMU refused it there."""
    places = [host.folder / "lib" / "own-kernel" for host in pair]
    for place in places:
        place.write_bytes(obedient.read_bytes())
        place.chmod(0o644)
    vm = OwnKernel("odd")
    pair[0].start_vm(vm)
    checked = PlanRun.check

    def then_away(work: PlanRun) -> None:
        checked(work)
        places[1].rename(places[1].with_suffix(".away"))

    with monkeypatch.context() as patched:
        patched.setattr(PlanRun, "check", then_away)
        ask("disable-node", nodes[0])
        (ended,) = run_queued()
    places[1].with_suffix(".away").rename(places[1])
    assert ended.status == OperationStatus.FAILED
    assert_exactly_once(pair, vm, on=pair[0])
    Node.objects.filter(pk=nodes[0].pk).update(scheduling=Scheduling.ENABLED)
    return vm


def test_a_target_that_refused_a_vm_is_not_offered_to_it_again_until_something_changes(
    pair, nodes, refused, run_vm
):
    (row,) = UnfitTarget.objects.all()
    assert (str(row.vm_uuid), row.node, row.code) == (refused.uuid, nodes[1], "storage_not_on_target")
    run_vm("web")
    plan = drain(nodes[0])
    assert codes(plan) == {"odd": ["target_refused"]}
    assert "own-kernel" in next(vm for vm in plan.decisions if vm.blockers).blockers[0].message
    assert moves(plan) == {"web": "light2"}
    third = light_node(pair[1], name="light3", memory_total_bytes=0, memory_used_bytes=0)
    assert moves(drain(nodes[0]))["odd"] == "light3"  # another node has refused nothing
    third.delete()
    # Named by a person, it is tried again, and the refusal is told.
    named = drain(nodes[0], vm_overrides={"odd": {"action": "migrate", "target": "light2"}})
    (odd,) = [vm for vm in named.decisions if vm.vm_name == "odd"]
    assert (odd.target, any("refused it at" in note for note in odd.notes)) == ("light2", True)
    change = {"section": "summary", "kind": "changed", "path": "system.kernel.release"}
    later = timezone.now() + timedelta(seconds=1)
    InventoryChange.objects.create(node=nodes[1], observed_at=later, **change | {"section": "vms"})
    assert codes(drain(nodes[0])) == {"odd": ["target_refused"]}
    InventoryChange.objects.create(node=nodes[1], observed_at=later, **change)
    assert "odd" in moves(drain(nodes[0]))


def test_a_refusal_ends_with_another_boot_another_vm_its_time_and_a_success(pair, nodes, refused):
    def offered() -> bool:
        return "odd" in moves(drain(nodes[0]))

    assert not offered()
    Node.objects.filter(pk=nodes[1].pk).update(boot_id="another")
    assert offered()
    Node.objects.filter(pk=nodes[1].pk).update(boot_id="")
    UnfitTarget.objects.update(noted_at=timezone.now() - LASTS)
    assert offered()
    assert purge()["unfit_targets"] == 1
    assert offered()
    UnfitTarget.objects.create(
        vm_uuid=refused.uuid, vm_name="odd", node=nodes[1], code="hypervisor_differs", message="It was so.",
        vm_digest="0" * 64, noted_at=timezone.now(),
    )  # fmt: skip
    assert offered()  # the VM is another now
    ask("disable-node", nodes[0])
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert not UnfitTarget.objects.exists()


def test_room_is_judged_by_the_smallest_vm_of_the_newest_inventory(nodes, run_vm):
    run_vm("web")
    make_snapshot(nodes[0])
    full = make_node(
        "kvm-full", node_type=nodes[0].node_type, memory_total_bytes=GIB, memory_used_bytes=GIB,
        uri="qemu+ssh://root@127.0.0.1:9/system",
    )  # fmt: skip
    plan = drain(nodes[0])
    assert moves(plan) == {"web": "light2"}
    assert str(full.uuid) in {target.uuid for target in plan.targets}
