"""What holds for several VMs of a plan is told once, with the VMs it concerns."""

from __future__ import annotations

from nodes.operations.plans import Action, Plan, Reason, VmDecision

LACKS = Reason("network_not_on_target", "No suitable target. kvm-2: has no bridge", "Set it up.")
LOCAL = Reason("local_disk", "Disk vda is on this host alone: /a.img.", "Stop the VM.")


def vm(name: str, *blockers: Reason, uuid: str = "", notes: tuple[str, ...] = ()) -> VmDecision:
    action = Action.BLOCKED if blockers else Action.LEAVE
    return VmDecision(uuid or f"u-{name}", name, "running", action, blockers=blockers, notes=notes)


def plan(*decisions: VmDecision) -> Plan:
    return Plan("disable-node", "kvm-1", "n", {}, decisions)


def test_each_reason_stands_once_with_all_its_vms_the_widest_first():
    data = plan(vm("a", LOCAL, LACKS), vm("b", LACKS), vm("c"), vm("d", LACKS, LACKS)).to_dict()
    assert [(row["code"], row["message"], row["remedy"], row["vms"]) for row in data["reasons"]] == [
        (LACKS.code, LACKS.message, LACKS.remedy, ("a", "b", "d")),
        (LOCAL.code, LOCAL.message, LOCAL.remedy, ("a",)),
    ]
    assert [row["vm_uuids"] for row in data["reasons"]] == [("u-a", "u-b", "u-d"), ("u-a",)]


def test_two_vms_of_one_name_are_two():
    (row,) = plan(vm("a", LACKS, uuid="1"), vm("a", LACKS, uuid="2")).to_dict()["reasons"]
    assert (row["vms"], row["vm_uuids"]) == (("a", "a"), ("1", "2"))


def test_notes_are_told_once_too_and_nothing_of_it_is_confirmed():
    noted = plan(vm("a", notes=("It is paused.",)), vm("b", notes=("It is paused.", "Its own.")))
    assert [(row["message"], row["vms"]) for row in noted.to_dict()["vm_notes"]] == [
        ("It is paused.", ("a", "b")),
        ("Its own.", ("b",)),
    ]
    assert noted.digest() == plan(vm("a"), vm("b")).digest()


def test_decisions_keep_their_own_reasons_and_a_stored_plan_reads_back():
    made = plan(vm("a", LACKS), vm("b", LACKS))
    assert Plan.from_dict(made.to_dict()) == made
    assert [row["blockers"][0]["code"] for row in made.to_dict()["decisions"]] == [LACKS.code] * 2
