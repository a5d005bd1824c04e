"""What an operation would do to a node's VMs, as it is shown, confirmed and kept.

A plan has *decisions* (each VM's UUID, action, target and blockers, and what stands in the way of the node as
a whole), which are what a person confirms, and beside them estimates, which may change without asking again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from nodes.hosts.power_preflight import Inhibitor
from nodes.operations.plan.told_once import common_notes, common_reasons
from nodes.operations.plan.vm_shape import VmShape

GOES_DOWN = ("reboot-node", "shutdown-node")
"""Kinds after which the host boots: what libvirt starts then is part of what is confirmed."""


class Action(StrEnum):
    """What happens to one VM. ``blocked`` is the lack of a decision: ``blockers`` say why."""

    MIGRATE = "migrate"
    STOP = "stop"
    LEAVE = "leave"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something stands in the way: a stable code, what it means here, and what helps."""

    code: str
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What a person should know before confirming, and what stops nothing: "Not verified: …"."""

    message: str


@dataclass(frozen=True, slots=True)
class VmDecision:
    """One VM. ``target`` and ``target_uuid`` name the node it moves to; ``restart``: it is started again.

    ``source`` and ``source_uuid`` name the node it is on where that is not the plan's own: a VM that returns.

    ``memory_bytes`` and ``vcpus`` are what it takes from its target, None where unknown; ``estimate_s`` is a
    guess at how long it takes, None where there is no ground for one. Neither is part of what is confirmed.
    ``disk_paths`` are the paths of its block devices on the target, by those that they have now, where the
    target calls the same devices otherwise. ``skip_storage_check``: its files are on storage that libvirt
    does not know to be shared, as the plan does.

    ``autostart``: whether libvirt starts it with its host, None where unknown, and true as well where
    nodeadmin holds that back already; ``hold_autostart``: it is held back while the node is in maintenance.
    Of a VM that migrates: ``encrypted`` says whether by TLS, and ``verified_name`` which name the target's
    certificate must have then ("": that of its migration address); ``auto_converge``: it may be slowed down.
    ``shape`` is the digest of what it is made of, and ``parts`` the same in words, for the comparison right
    before it moves (see :class:`~nodes.operations.plan.vm_shape.VmShape`). All None or empty of the others.
    """

    vm_uuid: str
    vm_name: str
    state: str | None
    action: Action
    target: str = ""
    target_uuid: str = ""
    source: str = ""
    source_uuid: str = ""
    restart: bool = False
    blockers: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    memory_bytes: int | None = None
    vcpus: int | None = None
    estimate_s: float | None = None
    disk_paths: Mapping[str, str] = field(default_factory=dict)
    autostart: bool | None = None
    hold_autostart: bool = False
    skip_storage_check: bool = False
    encrypted: bool | None = None
    verified_name: str = ""
    auto_converge: bool = False
    shape: str = ""
    parts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Unfit:
    """One reason for which a target does not take the VMs ``vm_uuids``."""

    code: str
    message: str
    remedy: str
    vm_uuids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """A node that VMs could go to, for people to choose from.

    ``memory_free_bytes`` and ``vcpus_free`` are its room before anything of this plan, what is promised to
    other operations taken off; None where unknown. ``asked`` False: it was not asked, and its memory is that
    of its newest inventory. ``obstacles`` keep every VM from it, ``unfit`` single ones.
    """

    uuid: str
    name: str
    memory_free_bytes: int | None = None
    vcpus_free: int | None = None
    asked: bool = True
    obstacles: tuple[Reason, ...] = ()
    unfit: tuple[Unfit, ...] = ()

    def why_not(self, vm_uuid: str) -> tuple[str, ...]:
        """Why it does not take this VM, in words; empty where nothing is known against it."""
        found = [reason.message for reason in self.obstacles]
        return (*found, *(row.message for row in self.unfit if vm_uuid in row.vm_uuids))


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole plan of one operation of kind ``kind`` on one node.

    ``blockers`` concern the node itself (the last eligible one, VM states unknown, libvirt down …); their
    codes are the API's error codes where one exists. ``losses`` are sentences about what is lost for good.
    ``ignored_inhibitors`` would block it, and are overridden by an option: who confirms it confirms them.
    ``options`` are the call's checked options. ``boot_id`` is the host's at the time, None where unknown.
    ``targets`` are the nodes that VMs could go to, ``targets_eligible`` how many may take VMs of those that
    the user may use, and ``targets_asked`` how many of these were asked; no part of what is confirmed.
    """

    kind: str
    node: str
    node_uuid: str
    options: Mapping[str, Any]
    decisions: tuple[VmDecision, ...] = ()
    blockers: tuple[Reason, ...] = ()
    losses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ignored_inhibitors: tuple[Inhibitor, ...] = ()
    boot_id: str | None = None
    made_at: str = ""
    estimate_s: float | None = None
    vms_known: bool = True
    targets: tuple[PlanTarget, ...] = ()
    targets_asked: int = 0
    targets_eligible: int = 0

    @property
    def is_blocked(self) -> bool:
        """Whether it cannot be carried out as it is."""
        return bool(self.blockers) or any(vm.action == Action.BLOCKED for vm in self.decisions)

    def of(self, action: Action) -> tuple[VmDecision, ...]:
        """The VMs to which ``action`` happens."""
        return tuple(vm for vm in self.decisions if vm.action == action)

    @property
    def counts(self) -> dict[str, int]:
        """How many VMs move, stop, stay and stand in the way, by action."""
        return {action.value: len(self.of(action)) for action in Action}

    def digest(self) -> str:
        """SHA-256 over the decisions: two plans with the same digest ask for the same consent."""
        decided = {
            "kind": self.kind,
            "node": self.node_uuid,
            "vms_known": self.vms_known,
            "blockers": sorted(reason.code for reason in self.blockers),
            "losses": len(self.losses) > 0,
            "ignored_inhibitors": sorted(_named(row) for row in self.ignored_inhibitors),
            "vms": sorted(
                (
                    vm.vm_uuid,
                    vm.action.value,
                    vm.target_uuid,
                    vm.source_uuid,
                    vm.restart,
                    vm.encrypted,
                    vm.verified_name,
                    vm.auto_converge,
                    vm.shape,
                    # What the target would open is as much of a decision as the target.
                    sorted(vm.disk_paths.items()),
                    vm.skip_storage_check,
                    sorted(reason.code for reason in vm.blockers),
                    *_at_boot(vm, self.kind),
                )
                for vm in self.decisions
            ),
        }
        text = json.dumps(decided, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for answers: without the ``parts`` of the VMs."""
        told = self.to_row()
        for vm in told["decisions"]:
            del vm["parts"]
        return told

    def to_row(self) -> dict[str, Any]:
        """As JSON, for the operation's row: all of it."""
        told_once = {
            "reasons": [asdict(row) for row in common_reasons(self.decisions)],
            "vm_notes": [asdict(row) for row in common_notes(self.decisions)],
        }
        counted = {"counts": self.counts, "blocked": self.is_blocked, "digest": self.digest()}
        return {**asdict(self), **told_once, **counted}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The plan that :meth:`to_dict` or :meth:`to_row` wrote; members of another version are ignored."""
        known = {name: data[name] for name in cls.__slots__ if name in data}
        known["decisions"] = tuple(_decision(row) for row in data.get("decisions", ()))
        known["blockers"] = _reasons(data.get("blockers", ()))
        known["ignored_inhibitors"] = tuple(Inhibitor(**row) for row in data.get("ignored_inhibitors", ()))
        for name in ("losses", "notes"):
            known[name] = tuple(data.get(name, ()))
        known["targets"] = tuple(_target(row) for row in data.get("targets", ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class PlanDrift:
    """How a plan differs from the one that was confirmed: VMs by name, each with the words for it."""

    changed: tuple[str, ...] = field(default_factory=tuple)


def drift(confirmed: Plan, found: Plan) -> PlanDrift:
    """What differs in the decisions of two plans, in words; empty where nothing does."""
    before = {vm.vm_uuid: vm for vm in confirmed.decisions}
    after = {vm.vm_uuid: vm for vm in found.decisions}
    words = [f"{after[uuid].vm_name}: new" for uuid in after if uuid not in before]
    words += [f"{before[uuid].vm_name}: gone" for uuid in before if uuid not in after]
    for uuid, old in before.items():
        new = after.get(uuid)
        if new is not None and _decided(old, found.kind) != _decided(new, found.kind):
            words.append(f"{new.vm_name}: {_in_words(old)} → {_in_words(new)}")
        elif new is not None and old.shape != new.shape:
            found_parts = VmShape(old.parts).differences(VmShape(new.parts)) if old.parts else ()
            words.append(f"{new.vm_name}: {'; '.join(found_parts) or 'its description has changed'}")
    if {reason.code for reason in confirmed.blockers} != {reason.code for reason in found.blockers}:
        words += [reason.message for reason in found.blockers]
    words += [f"{row.who} ({row.why}): new" for row in new_inhibitors(confirmed, found.ignored_inhibitors)]
    words += [f"{row.who} ({row.why}): gone" for row in new_inhibitors(found, confirmed.ignored_inhibitors)]
    return PlanDrift(tuple(words))


def new_inhibitors(confirmed: Plan, found: Sequence[Inhibitor]) -> list[Inhibitor]:
    """Those of ``found`` that nobody has agreed to ignore."""
    agreed = {_named(row) for row in confirmed.ignored_inhibitors}
    return [row for row in found if _named(row) not in agreed]


def _named(row: Inhibitor) -> tuple[str, str, int]:
    """What makes it the same one: a process that was started anew for the same purpose is none more."""
    return row.who, row.why, row.uid


def _at_boot(vm: VmDecision, kind: str) -> tuple[bool | None, ...]:
    """What is confirmed of the VM's start with its host, where the host goes down."""
    goes_down = kind in GOES_DOWN and vm.action != Action.MIGRATE
    return (vm.autostart, vm.hold_autostart) if goes_down else ()


def _decided(vm: VmDecision, kind: str) -> tuple[Any, ...]:
    return (
        vm.action,
        vm.target_uuid,
        vm.source_uuid,
        vm.restart,
        vm.encrypted,
        vm.verified_name,
        dict(vm.disk_paths),
        vm.skip_storage_check,
        sorted(reason.code for reason in vm.blockers),
        *_at_boot(vm, kind),
    )


def _in_words(vm: VmDecision) -> str:
    blocked = f" ({', '.join(reason.code for reason in vm.blockers)})" if vm.blockers else ""
    autostart = f", autostart {'held' if vm.hold_autostart else 'on'}" if vm.autostart else ""
    target = f" to {vm.target}" if vm.target else ""
    return f"{vm.action.value}{target}{_manner_in_words(vm)}{autostart}{blocked}"


def _manner_in_words(vm: VmDecision) -> str:
    sent = {None: "", True: ", encrypted", False: ", not encrypted"}[vm.encrypted]
    name = f", certificate of {vm.verified_name}" if vm.verified_name else ""
    disks = "".join(f", {path} as {there}" for path, there in sorted(vm.disk_paths.items()))
    unchecked = ", without libvirt's check of shared storage" if vm.skip_storage_check else ""
    return f"{disks}{unchecked}{name}{sent}"


def _decision(row: Mapping[str, Any]) -> VmDecision:
    known = {name: row[name] for name in VmDecision.__slots__ if name in row}
    known["action"] = Action(row["action"])
    known["blockers"] = _reasons(row.get("blockers", ()))
    known["notes"] = tuple(row.get("notes", ()))
    known["parts"] = tuple((name, text) for name, text in row.get("parts", ()))
    return VmDecision(**known)


def _target(row: Mapping[str, Any]) -> PlanTarget:
    known = {name: row[name] for name in PlanTarget.__slots__ if name in row}
    known["obstacles"] = _reasons(row.get("obstacles", ()))
    known["unfit"] = tuple(
        Unfit(found["code"], found["message"], found.get("remedy", ""), tuple(found["vm_uuids"]))
        for found in row.get("unfit", ())
    )
    return PlanTarget(**known)


def _reasons(rows: Sequence[Mapping[str, Any]]) -> tuple[Reason, ...]:
    return tuple(Reason(row["code"], row["message"], row.get("remedy", "")) for row in rows)
