"""Plans: what is decided for each VM, by what was read. No host, no database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.errors import InvalidInput
from nodes.operations.deciding import decide
from nodes.operations.options import DELETE, DRAIN, REBOOT, RETURN, SHUTDOWN, complete
from nodes.operations.placing import need_of
from nodes.operations.planning import plan_changed, refuse_unknown_overrides
from nodes.operations.plans import Action, Plan, Reason, drift
from nodes.operations.world import PlannedVm, Target, World

GIB = 1 << 30
MIB = 1 << 20
DEVICE = Reason("device_passthrough", "It holds a device.")
CPU = Reason("cpu_incompatible", "lacks avx512f")
BUSY = Reason("migration_under_way", "A migration of it is under way.")


def vm(name: str, memory_gib: float | None = 1, **fields: Any) -> PlannedVm:
    memory = None if memory_gib is None else int(memory_gib * GIB)
    values: dict[str, Any] = {"state": "running", "active": True, "memory_bytes": memory, "vcpus": 1}
    return PlannedVm(uuid=f"uuid-{name}", name=name, **values | fields)


def off(name: str, **fields: Any) -> PlannedVm:
    return vm(name, state="shutoff", active=False, **fields)


def target(name: str, free_gib: float | None = 16, **fields: Any) -> Target:
    free = None if free_gib is None else int(free_gib * GIB)
    return Target(uuid=f"node-{name}", name=name, memory_free_bytes=free, **fields)


def world(*vms: PlannedVm, targets: tuple[Target, ...] = (), **fields: Any) -> World:
    return World(node_uuid="node-a", node_name="kvm-a", vms=vms, targets=targets, **fields)


def plan(seen: World, kind: str, **options: Any) -> Plan:
    prefer = options.pop("prefer", None)
    return decide(seen, kind, complete(kind, options), prefer=prefer)


def actions(made: Plan) -> dict[str, str]:
    return {row.vm_name: row.action.value for row in made.decisions}


def codes(made: Plan) -> dict[str, list[str]]:
    return {row.vm_name: [reason.code for reason in row.blockers] for row in made.decisions if row.blockers}


def where(made: Plan) -> dict[str, str]:
    return {row.vm_name: row.target for row in made.decisions if row.target}


# -- policies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [REBOOT, SHUTDOWN, DELETE])
def test_running_vms_are_in_the_way_unless_a_policy_says_what_happens_to_them(kind):
    made = plan(world(vm("web"), off("spare")), kind)
    assert made.is_blocked
    assert actions(made) == {"web": "blocked", "spare": "leave"}
    assert codes(made) == {"web": ["running_vm"]}
    assert [reason.code for reason in made.blockers] == ["node_has_running_vms"]


@pytest.mark.parametrize("kind", [REBOOT, SHUTDOWN, DELETE])
def test_a_node_without_running_vms_has_nothing_in_the_way(kind):
    made = plan(world(off("spare")), kind)
    assert not made.is_blocked
    assert actions(made) == {"spare": "leave"}


@pytest.mark.parametrize("kind", [REBOOT, SHUTDOWN, DRAIN])
def test_vms_are_stopped_where_that_is_asked_for(kind):
    made = plan(world(vm("web", held=(DEVICE,)), others=False), kind, vm_policy="stop")
    assert not made.is_blocked
    assert actions(made) == {"web": "stop"}


def test_stopped_vms_come_back_after_a_reboot_only_where_that_is_asked_for():
    seen = world(vm("web"), off("spare"))
    without = plan(seen, REBOOT, vm_policy="stop")
    with_return = plan(seen, REBOOT, vm_policy="stop", restart_vms=True)
    assert [row.restart for row in without.decisions] == [False, False]
    assert {row.vm_name: row.restart for row in with_return.decisions} == {"web": True, "spare": False}
    assert without.digest() != with_return.digest()


def test_a_vm_that_libvirt_would_start_again_is_told_where_it_may_not_be_forced_off():
    seen = world(vm("phoenix", starts_anew=True), vm("web"))
    asked = plan(seen, REBOOT, vm_policy="stop")
    assert [("on_poweroff" in " ".join(row.notes)) for row in asked.decisions] == [True, False]
    forced = plan(seen, REBOOT, vm_policy="stop", force_stop=True)
    assert [row.notes for row in forced.decisions] == [(), ()]


def test_a_transient_vm_that_stops_is_a_loss_that_is_named_and_cannot_come_back():
    made = plan(world(vm("ghost", persistent=False)), REBOOT, vm_policy="stop", restart_vms=True)
    assert len(made.losses) == 1 and "ghost" in made.losses[0]
    assert made.decisions[0].restart is False
    assert made.digest() != plan(world(vm("ghost")), REBOOT, vm_policy="stop").digest()


def test_a_transient_vm_that_moves_is_no_loss():
    made = plan(world(vm("ghost", persistent=False), targets=(target("b"),)), DRAIN)
    assert actions(made) == {"ghost": "migrate"} and made.losses == ()


def test_a_drain_migrates_unless_told_otherwise():
    made = plan(world(vm("web"), targets=(target("b"),)), DRAIN)
    assert (actions(made), where(made)) == ({"web": "migrate"}, {"web": "b"})
    assert made.decisions[0].estimate_s and made.estimate_s


# -- what holds a VM -------------------------------------------------------------------------------


def test_a_held_vm_is_blocked_with_its_reasons_and_does_not_hold_the_others():
    made = plan(world(vm("gpu", held=(DEVICE,)), vm("web"), targets=(target("b"),)), DRAIN)
    assert actions(made) == {"gpu": "blocked", "web": "migrate"}
    assert codes(made) == {"gpu": ["device_passthrough"]}
    assert made.is_blocked


@pytest.mark.parametrize("policy", ["migrate", "stop"])
def test_a_vm_with_a_migration_under_way_is_touched_in_no_way(policy):
    made = plan(world(vm("web", busy=(BUSY,)), targets=(target("b"),)), DRAIN, vm_policy=policy)
    assert codes(made) == {"web": ["migration_under_way"]}


def test_a_vm_that_is_shut_off_stays_and_nothing_is_asked_of_it():
    made = plan(world(off("spare", memory_bytes=None), others=True), DRAIN)
    assert actions(made) == {"spare": "leave"} and not made.is_blocked


def test_a_vm_of_unknown_size_is_sent_nowhere():
    made = plan(world(vm("web", None), targets=(target("b"),)), DRAIN)
    assert codes(made) == {"web": ["vm_state_unknown"]}


# -- single VMs ------------------------------------------------------------------------------------


def test_what_is_asked_for_one_vm_counts_for_more_than_the_policy():
    seen = world(vm("gpu", held=(DEVICE,)), vm("web"), vm("db"), targets=(target("b"),))
    made = plan(seen, DRAIN, vm_overrides={"gpu": "stop", "uuid-db": "leave"})
    assert actions(made) == {"gpu": "stop", "web": "migrate", "db": "leave"}
    assert not made.is_blocked


def test_the_uuid_of_a_vm_counts_for_more_than_a_name_that_another_one_has():
    seen = world(vm("web"), targets=(target("b"),))
    made = plan(seen, DRAIN, vm_overrides={"web": "leave", "uuid-web": "stop"})
    assert actions(made) == {"web": "stop"}


def test_one_vm_may_migrate_where_the_others_are_refused():
    seen = world(vm("web"), vm("db"), targets=(target("b"),))
    made = plan(seen, REBOOT, vm_overrides={"web": "migrate"})
    assert actions(made) == {"web": "migrate", "db": "blocked"}


def test_a_vm_that_is_off_cannot_be_told_to_migrate():
    made = plan(world(off("spare"), targets=(target("b"),)), DRAIN, vm_overrides={"spare": "migrate"})
    assert codes(made) == {"spare": ["override_not_possible"]}


@pytest.mark.parametrize(
    ("kind", "wishes", "field"),
    [
        (REBOOT, {"web": "leave"}, "vm_overrides.web"),
        (SHUTDOWN, {"web": "leave"}, "vm_overrides.web"),
        (DRAIN, {"wbe": "stop"}, "vm_overrides.wbe"),
    ],
)
def test_impossible_wishes_and_unknown_vms_are_named(kind, wishes, field):
    made = plan(world(vm("web"), targets=(target("b"),)), kind, vm_overrides=wishes)
    with pytest.raises(InvalidInput) as raised:
        refuse_unknown_overrides(made)
    assert raised.value.field == field


def test_a_policy_that_a_call_does_not_know_is_refused():
    with pytest.raises(InvalidInput):
        complete(DELETE, {"vm_policy": "stop"})


# -- targets ---------------------------------------------------------------------------------------


def test_vms_go_where_most_is_left_the_biggest_first():
    seen = world(vm("small", 1), vm("big", 6), vm("mid", 4), targets=(target("b", 8), target("c", 7)))
    assert where(plan(seen, DRAIN)) == {"big": "b", "mid": "c", "small": "c"}


def test_equal_vms_are_spread_over_equal_targets():
    seen = world(*(vm(f"vm-{n}", 0.0625) for n in range(4)), targets=(target("b"), target("c")))
    assert sorted(where(plan(seen, DRAIN)).values()) == ["b", "b", "c", "c"]


def test_a_target_is_filled_no_further_than_it_has_memory():
    seen = world(vm("one", 3), vm("two", 3), targets=(target("b", 4),))
    made = plan(seen, DRAIN)
    assert sorted(actions(made).values()) == ["blocked", "migrate"]
    assert list(codes(made).values()) == [["no_target"]]
    (blocked,) = made.of(Action.BLOCKED)
    assert "MiB" in blocked.blockers[0].message


def test_a_target_is_filled_no_further_than_it_has_processors():
    seen = world(vm("one", vcpus=3), vm("two", vcpus=3), targets=(target("b", vcpus_free=4),))
    assert sorted(actions(plan(seen, DRAIN)).values()) == ["blocked", "migrate"]


def test_huge_pages_that_one_vm_takes_are_not_there_for_the_next():
    needs = {"pages/2048": 300}
    rich = target("b", 1, supplies={"pages/2048": 512})
    vms = [vm(name, 4, huge_page_bytes=4 << 30, demands=needs) for name in ("one", "two")]
    made = plan(world(*vms, targets=(rich,)), DRAIN)
    assert sorted(actions(made).values()) == ["blocked", "migrate"]
    (blocked,) = made.of(Action.BLOCKED)
    assert "huge pages" in blocked.blockers[0].message
    # What is not told of a target sets no bound, and huge pages take none of its ordinary memory.
    assert set(actions(plan(world(*vms, targets=(target("b", 1),)), DRAIN)).values()) == {"migrate"}


def test_unknown_processors_set_no_bound_and_unknown_memory_rules_a_target_out():
    assert actions(plan(world(vm("a", vcpus=64), targets=(target("b"),)), DRAIN)) == {"a": "migrate"}
    assert codes(plan(world(vm("a"), targets=(target("b", None),)), DRAIN)) == {"a": ["no_target"]}


def test_a_processor_that_does_not_fit_anywhere_is_the_reason_that_is_given():
    unfit = {"uuid-web": (CPU,)}
    seen = world(vm("web"), targets=(target("b", unfit=unfit), target("c", unfit=unfit)))
    made = plan(seen, DRAIN)
    assert codes(made) == {"web": ["cpu_incompatible"]}
    assert "b: lacks avx512f" in made.decisions[0].blockers[0].message


def test_different_reasons_on_different_targets_are_all_told():
    seen = world(vm("web", 4), targets=(target("b", unfit={"uuid-web": (CPU,)}), target("c", 2)))
    made = plan(seen, DRAIN)
    assert codes(made) == {"web": ["no_target"]}
    message = made.decisions[0].blockers[0].message
    assert "avx512f" in message and "c: needs" in message


def test_a_vm_goes_where_its_processor_fits_however_much_is_free_elsewhere():
    seen = world(vm("web"), targets=(target("b", 64, unfit={"uuid-web": (CPU,)}), target("c", 4)))
    assert where(plan(seen, DRAIN)) == {"web": "c"}


def test_a_target_that_does_not_answer_takes_nothing():
    dead = target("b", None, obstacles=(Reason("host_unreachable", "It does not answer."),))
    assert where(plan(world(vm("web"), targets=(dead, target("c", 2))), DRAIN)) == {"web": "c"}
    assert codes(plan(world(vm("web"), targets=(dead,)), DRAIN)) == {"web": ["host_unreachable"]}


def test_no_other_node_and_none_that_one_may_use_are_told_apart():
    assert codes(plan(world(vm("web"), others=True), REBOOT, vm_policy="migrate")) == {
        "web": ["no_target_permission"]
    }
    assert codes(plan(world(vm("web"), others=False), REBOOT, vm_policy="migrate")) == {"web": ["no_target"]}


def test_the_last_node_is_not_drained_but_its_vms_may_be_stopped():
    last = world(vm("web"), others=False)
    assert [reason.code for reason in plan(last, DRAIN).blockers] == ["last_eligible_node"]
    assert [reason.code for reason in plan(world(others=False), DRAIN).blockers] == ["last_eligible_node"]
    assert not plan(last, DRAIN, vm_policy="stop").blockers


def test_a_storage_node_is_no_eligible_one_and_so_never_the_last():
    assert not plan(world(others=False, takes_vms=False), DRAIN).is_blocked
    stranded = plan(world(vm("web"), others=False, takes_vms=False), DRAIN)
    assert (stranded.blockers, codes(stranded)) == ((), {"web": ["no_target"]})


def test_a_reboot_of_the_only_node_is_no_drain():
    assert not plan(world(others=False), REBOOT, vm_policy="migrate").is_blocked


# -- targets that people choose --------------------------------------------------------------------


def to(name: str) -> dict[str, str]:
    return {"action": "migrate", "target": name}


def test_vms_go_to_the_chosen_targets_alone_however_much_is_free_elsewhere():
    seen = world(vm("web"), vm("db"), targets=(target("b", 64), target("c", 4), target("d", 2)))
    assert where(plan(seen, DRAIN, targets=["c", "node-d"])) == {"web": "c", "db": "c"}
    assert where(plan(seen, DRAIN, targets=["node-d"])) == {"db": "d"}
    full = plan(seen, DRAIN, targets=["d"])
    assert codes(full) == {"web": ["no_target"]}
    assert "b:" not in full.of(Action.BLOCKED)[0].blockers[0].message


def test_a_vms_own_target_counts_for_more_than_the_list_and_is_filled_first():
    seen = world(vm("web"), vm("big", 3), targets=(target("b", 4), target("c", 64)))
    made = plan(seen, DRAIN, targets=["b"], vm_overrides={"web": to("c")})
    assert where(made) == {"web": "c", "big": "b"}
    first = plan(seen, DRAIN, vm_overrides={"web": to("b")}, prefer={"uuid-big": "node-b"})
    assert where(first) == {"web": "b", "big": "c"}


def test_a_vms_own_target_that_cannot_take_it_blocks_it_with_the_reason():
    seen = world(vm("web", 4), targets=(target("b", 1), target("c", unfit={"uuid-web": (CPU,)}), target("d")))
    full = plan(seen, DRAIN, vm_overrides={"web": to("b")})
    assert codes(full) == {"web": ["no_target"]}
    assert "b: needs 4160 MiB" in full.decisions[0].blockers[0].message
    assert codes(plan(seen, DRAIN, vm_overrides={"web": to("c")})) == {"web": ["cpu_incompatible"]}
    assert codes(plan(seen, DRAIN, vm_overrides={"web": to("node-x")})) == {"web": ["unknown_node"]}


def test_a_target_that_nobody_asked_takes_nothing_and_is_shown():
    seen = world(
        vm("web", 4),
        targets=(target("b", 64, asked=False), target("c", 8)),
        targets_asked=1,
        targets_eligible=2,
    )
    made = plan(seen, DRAIN)
    assert where(made) == {"web": "c"}
    assert [(row.name, row.asked) for row in made.targets] == [("b", False), ("c", True)]
    assert "1 of 2 nodes that could take VMs were asked." in made.notes
    only = plan(world(vm("web"), targets=(target("b", 64, asked=False),)), DRAIN)
    assert "b: was not asked in time" in only.decisions[0].blockers[0].message


def test_one_reason_for_many_vms_is_told_once_of_a_target_with_the_vms_it_concerns():
    unfit = {f"uuid-vm-{n}": (CPU,) for n in range(5)} | {"uuid-odd": (DEVICE, CPU)}
    (shown,) = plan(world(vm("odd"), targets=(target("b", unfit=unfit),)), DRAIN).targets
    assert [(row.code, len(row.vm_uuids)) for row in shown.unfit] == [
        ("device_passthrough", 1),
        ("cpu_incompatible", 6),
    ]
    assert shown.why_not("uuid-vm-1") == ("lacks avx512f",)
    assert shown.why_not("uuid-other") == ()


def test_a_target_goes_with_a_migration_alone():
    made = plan(
        world(vm("web"), targets=(target("b"),)),
        DRAIN,
        vm_overrides={"web": {"action": "stop", "target": "b"}},
    )
    with pytest.raises(InvalidInput) as raised:
        refuse_unknown_overrides(made)
    assert raised.value.field == "vm_overrides.web.target"


# -- what cannot be seen ---------------------------------------------------------------------------

DOWN = Reason("libvirt_unavailable", "libvirt does not answer.")
GONE = Reason("host_unreachable", "The host does not answer.")


def unseen(**fields: Any) -> World:
    return world(off("web", notes=("Last seen: running.",)), **fields)


@pytest.mark.parametrize("kind", [REBOOT, SHUTDOWN])
def test_with_libvirt_down_a_power_action_is_blocked_until_that_is_accepted(kind):
    made = plan(unseen(libvirt_fault=DOWN), kind, vm_policy="stop")
    assert [reason.code for reason in made.blockers] == ["vm_state_unknown"]
    assert (actions(made), made.decisions[0].state, made.vms_known) == ({"web": "blocked"}, None, False)
    accepted = plan(unseen(libvirt_fault=DOWN), kind, accept_unknown_vms=True)
    assert not accepted.is_blocked
    assert actions(accepted) == {"web": "leave"} and accepted.losses
    assert made.digest() != accepted.digest()


def test_accepting_unknown_vms_says_nothing_where_they_are_known():
    assert plan(world(vm("web")), REBOOT, accept_unknown_vms=True).is_blocked


def test_consent_to_unknown_vms_does_not_hold_once_they_are_seen_again():
    blind = plan(unseen(libvirt_fault=DOWN), REBOOT, accept_unknown_vms=True)
    sighted = plan(world(off("web")), REBOOT, accept_unknown_vms=True)
    assert blind.digest() != sighted.digest()


@pytest.mark.parametrize("kind", [REBOOT, SHUTDOWN, DRAIN, RETURN, DELETE])
def test_a_host_that_is_not_reached_is_in_the_way_whatever_is_accepted(kind):
    made = decide(unseen(fault=GONE), kind, {"accept_unknown_vms": True})
    assert [reason.code for reason in made.blockers] == ["host_unreachable"]


def test_a_host_that_is_gone_is_deleted_by_force_and_the_loss_is_named():
    made = plan(unseen(fault=GONE), DELETE, force=True)
    assert not made.is_blocked
    assert any("web" in loss for loss in made.losses)


def test_force_changes_nothing_for_a_host_that_answers():
    made = plan(world(vm("web")), DELETE, force=True)
    assert [reason.code for reason in made.blockers] == ["node_has_running_vms"]


# -- coming back -----------------------------------------------------------------------------------


def test_a_vm_that_cannot_come_back_stays_where_it_is_and_blocks_nothing():
    away = {"source": "kvm-b", "source_uuid": "node-b"}
    seen = world(vm("gpu", held=(DEVICE,), **away), vm("web", **away), targets=(target("a"),))
    made = plan(seen, RETURN)
    assert not made.is_blocked
    assert actions(made) == {"gpu": "leave", "web": "migrate"}
    assert codes(made) == {"gpu": ["device_passthrough"]}
    assert {(row.source, row.source_uuid) for row in made.decisions} == {("kvm-b", "node-b")}


# -- the same plan again ---------------------------------------------------------------------------


def test_a_plan_survives_its_way_through_json():
    seen = world(vm("gpu", held=(DEVICE,)), vm("web"), targets=(target("b"),))
    made = plan(seen, DRAIN)
    again = Plan.from_dict(made.to_dict())
    assert again.digest() == made.digest() and again.to_dict() == made.to_dict()


def test_estimates_and_words_are_no_part_of_what_is_confirmed():
    made = plan(world(vm("web"), targets=(target("b"),)), DRAIN)
    other = replace(
        made,
        estimate_s=999.0,
        notes=("other",),
        decisions=tuple(replace(row, estimate_s=1.0, memory_bytes=7, notes=("x",)) for row in made.decisions),
    )
    assert other.digest() == made.digest()


def test_what_has_changed_is_named_in_words():
    before = plan(world(vm("web"), vm("old"), targets=(target("b"),)), DRAIN)
    after = plan(world(vm("web"), vm("new"), targets=(target("c"),)), DRAIN)
    assert set(drift(before, after).changed) == {
        "new: new",
        "old: gone",
        "web: migrate to b → migrate to c",
    }
    error = plan_changed(before, after)
    assert error.code == "plan_changed" and "old: gone" in error.message


def test_a_target_that_was_shown_is_kept_though_another_has_more_room_now():
    first = plan(world(vm("web"), targets=(target("b", 9), target("c", 8))), DRAIN)
    shown = {row.vm_uuid: row.target_uuid for row in first.decisions}
    later = world(vm("web"), targets=(target("b", 3), target("c", 30)))
    assert plan(later, DRAIN, prefer=shown).digest() == first.digest()
    assert plan(later, DRAIN).digest() != first.digest()


def test_a_target_that_was_shown_and_is_full_is_given_up():
    later = world(vm("web", 4), targets=(target("b", 1), target("c", 30)))
    assert where(plan(later, DRAIN, prefer={"uuid-web": "node-b"})) == {"web": "c"}


vms_of_any_size = st.lists(
    st.tuples(st.integers(1, 8192), st.integers(1, 16), st.booleans()), min_size=0, max_size=12
).map(
    lambda rows: tuple(
        vm(f"vm-{number}", mib / 1024, vcpus=vcpus, held=(DEVICE,) if held else ())
        for number, (mib, vcpus, held) in enumerate(rows)
    )
)
targets_of_any_size = st.lists(
    st.tuples(st.integers(0, 32768), st.none() | st.integers(0, 64), st.sets(st.integers(0, 11), max_size=4)),
    min_size=0,
    max_size=5,
).map(
    lambda rows: tuple(
        target(
            f"t-{number}", mib / 1024, vcpus_free=vcpus, unfit={f"uuid-vm-{n}": (CPU,) for n in sorted(unfit)}
        )
        for number, (mib, vcpus, unfit) in enumerate(rows)
    )
)


@settings(max_examples=300, deadline=None)
@given(vms=vms_of_any_size, targets=targets_of_any_size, data=st.data())
def test_whatever_the_world_no_target_is_overfilled_and_the_order_of_what_was_read_does_not_matter(
    vms, targets, data
):
    made = plan(world(*vms, targets=targets), DRAIN)
    by_uuid = {row.uuid: row for row in vms}
    assert len(made.decisions) == len(vms)
    for place in targets:
        taken = [by_uuid[row.vm_uuid] for row in made.decisions if row.target_uuid == place.uuid]
        assert sum(need_of(row) for row in taken) <= max(0, place.memory_free_bytes)
        assert place.vcpus_free is None or sum(row.vcpus for row in taken) <= place.vcpus_free
        assert not any(place.unfit.get(row.uuid) or row.held for row in taken)
    for row in made.decisions:
        assert (row.action == Action.MIGRATE) == bool(row.target_uuid)
        assert (row.action == Action.BLOCKED) == bool(row.blockers)
        assert all(reason.remedy or reason == DEVICE for reason in row.blockers)
    shuffled = world(*data.draw(st.permutations(vms)), targets=tuple(data.draw(st.permutations(targets))))
    assert plan(shuffled, DRAIN).digest() == made.digest()
    # Made again with what was shown, it is the same plan, though there is more room everywhere meanwhile.
    shown = {row.vm_uuid: row.target_uuid for row in made.of(Action.MIGRATE)}
    if not made.of(Action.BLOCKED):
        roomier = tuple(
            replace(row, memory_free_bytes=row.memory_free_bytes + data.draw(st.integers(0, GIB)))
            for row in targets
        )
        assert plan(world(*vms, targets=roomier), DRAIN, prefer=shown).digest() == made.digest()


# -- autostart -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "in_maintenance", "asked", "held"),
    [
        (REBOOT, False, None, False),
        (REBOOT, True, None, True),
        (SHUTDOWN, False, None, True),
        (SHUTDOWN, True, None, True),
        (REBOOT, False, True, True),
        (REBOOT, True, False, False),
        (SHUTDOWN, False, False, False),
    ],
)
def test_autostart_is_held_where_the_node_stays_in_maintenance_unless_asked_otherwise(
    kind, in_maintenance, asked, held
):
    seen = world(off("starts", autostart=True), off("rests"), in_maintenance=in_maintenance)
    options = {} if asked is None else {"hold_autostart": asked}
    rows = {row.vm_name: row for row in plan(seen, kind, **options).decisions}
    assert (rows["starts"].autostart, rows["starts"].hold_autostart) == (True, held)
    assert (rows["rests"].autostart, rows["rests"].hold_autostart, rows["rests"].notes) == (False, False, ())
    assert bool(rows["starts"].notes)


def test_the_mark_of_a_vm_that_moves_goes_along_and_is_not_held():
    seen = world(vm("moves", autostart=True), targets=(target("b"),), in_maintenance=True)
    (row,) = plan(seen, REBOOT, vm_policy="migrate").decisions
    assert (row.action, row.autostart, row.hold_autostart) == (Action.MIGRATE, True, False)


def test_whether_autostart_is_held_is_confirmed_where_the_host_goes_down_and_only_there():
    def digests(kind: str) -> set[str]:
        marks = (world(off("web", autostart=mark), in_maintenance=True) for mark in (True, False, None))
        return {plan(seen, kind).digest() for seen in marks}

    assert [len(digests(kind)) for kind in (REBOOT, SHUTDOWN, DRAIN, DELETE)] == [3, 3, 1, 1]
    drained = [plan(world(off("web", autostart=mark)), DRAIN) for mark in (True, False)]
    assert drift(*drained).changed == ()
    seen = world(off("web", autostart=True))
    kept, held = plan(seen, REBOOT), plan(seen, REBOOT, hold_autostart=True)
    assert drift(kept, held).changed == ("web: leave, autostart on → leave, autostart held",)


def test_a_mark_that_is_held_already_is_its_vms_own_and_stays_held():
    seen = world(off("web", autostart=False), held_autostart={"uuid-web": "web"}, in_maintenance=True)
    (row,) = plan(seen, REBOOT).decisions
    assert (row.autostart, row.hold_autostart) == (True, True)


def test_unknown_autostart_is_told_as_unknown():
    seen = world(off("web", autostart=None), in_maintenance=True)
    (row,) = plan(seen, REBOOT).decisions
    assert (row.autostart, row.hold_autostart) == (None, False)
    assert "could not be read" in row.notes[0]
    fault = Reason("libvirt_unavailable", "libvirt is down")
    blind = plan(world(vm("web", state=None), libvirt_fault=fault), REBOOT, accept_unknown_vms=True)
    assert any("Autostart can be neither read nor held" in note for note in blind.notes)
    assert blind.decisions[0].autostart is None


def test_what_is_held_on_a_host_that_is_gone_is_lost_with_its_node():
    fault = Reason("host_unreachable", "it is gone")
    gone = plan(world(fault=fault, held_autostart={"uuid-web": "web"}), DELETE, force=True)
    assert any("autostart of these VMs is held" in words and "web" in words for words in gone.losses)


@pytest.mark.parametrize(("starts", "told"), [(True, "is enabled"), (None, "could not be read"), (False, "")])
def test_what_else_starts_vms_at_boot_is_a_note_where_the_host_goes_down(starts, told):
    notes = [note for note in plan(world(starts_guests=starts), SHUTDOWN).notes if "libvirt-guests" in note]
    assert bool(notes) == bool(told) and told in " ".join(notes)
    assert not plan(world(starts_guests=starts), DRAIN).notes


@pytest.mark.parametrize("kind", [RETURN, DELETE])
def test_a_plan_that_ends_the_holding_says_that_the_marks_are_put_back(kind):
    seen = world(held_autostart={"uuid-web": "web", "uuid-db": "db"})
    assert "The autostart of 2 VMs, which is held, is put back." in plan(seen, kind).notes
    assert not any("autostart" in note for note in plan(seen, DRAIN).notes)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"disk_paths": {"/dev/mapper/a": "/dev/mapper/c"}}, "/dev/mapper/a as /dev/mapper/c"),
        ({"skip_storage_check": True}, "without libvirt's check of shared storage"),
        ({"encrypted": True, "verified_name": "other.example"}, "certificate of other.example"),
    ],
)
def test_what_a_vm_opens_and_whom_it_trusts_on_its_target_is_confirmed(fields, words):
    made = plan(world(vm("web"), targets=(target("b"),)), DRAIN)
    (row,) = made.decisions
    confirmed = replace(row, disk_paths={"/dev/mapper/a": "/dev/mapper/b"}, encrypted=True)
    before = replace(made, decisions=(confirmed,))
    after = replace(made, decisions=(replace(confirmed, **fields),))
    assert before.digest() != after.digest()
    assert before.digest() == Plan.from_dict(before.to_row()).digest()
    (told,) = drift(before, after).changed
    assert words in told.partition(" → ")[2] and words not in told.partition(" → ")[0]
