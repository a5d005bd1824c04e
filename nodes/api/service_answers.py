"""What the calls answer that are confirmed: the plan, the token that agrees to it, and a node's export."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from nodes.api.answers import Json, NodeDetail, ProblemAnswer


@dataclass(frozen=True, slots=True)
class ReasonAnswer:
    """Why something stands in the way: a stable code, what it means here, and what helps."""

    code: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class VmDecisionAnswer:
    """What happens to one VM. ``blockers`` say why it is ``blocked``.

    ``source`` names the node it is on where that is another than the plan's (a VM that returns), else "".
    ``estimate_s`` is a guess and no part of what is confirmed. ``disk_paths`` are the paths by which the
    target opens the VM's block devices, by their present ones, where it calls the same devices otherwise.
    ``autostart``: whether libvirt starts it with its host, null where unknown; ``hold_autostart``: that is
    held back until the node leaves maintenance.
    ``skip_storage_check``: libvirt does not know that its files are on shared storage, and is told not to
    refuse for that.
    ``encrypted`` says whether a VM that migrates
    is sent by TLS, null of the others; ``verified_name`` the name that the target's certificate must have
    then, "" for its migration address. ``shape`` stands for the VM's devices, disks, host paths, memory and
    processor, which are compared right before it moves.
    """

    vm_uuid: UUID
    vm_name: str
    state: str | None
    action: Literal["migrate", "stop", "leave", "blocked"]
    target: str
    target_uuid: str
    source: str
    source_uuid: str
    restart: bool
    blockers: list[ReasonAnswer]
    notes: list[str]
    memory_bytes: int | None
    vcpus: int | None
    estimate_s: float | None
    disk_paths: dict[str, str]
    autostart: bool | None
    hold_autostart: bool
    skip_storage_check: bool
    encrypted: bool | None
    verified_name: str
    auto_converge: bool
    shape: str


@dataclass(frozen=True, slots=True)
class CommonReasonAnswer:
    """One blocker of VMs, with all VMs that it blocks: ``vms`` by name and ``vm_uuids`` in the same order."""

    code: str
    message: str
    remedy: str
    vms: list[str]
    vm_uuids: list[UUID]


@dataclass(frozen=True, slots=True)
class CommonNoteAnswer:
    """One note about VMs, with all VMs that it is about."""

    message: str
    vms: list[str]
    vm_uuids: list[UUID]


@dataclass(frozen=True, slots=True)
class InhibitorAnswer:
    """Who asks that the host does not go down, and why, in their own words (systemd-inhibit(1)).

    ``user`` is "" where only the ``uid`` is known.
    """

    who: str
    why: str
    mode: str
    uid: int
    pid: int
    user: str


@dataclass(frozen=True, slots=True)
class UnfitAnswer:
    """One reason for which a target does not take the VMs ``vm_uuids``."""

    code: str
    message: str
    remedy: str
    vm_uuids: list[UUID]


@dataclass(frozen=True, slots=True)
class PlanTargetAnswer:
    """A node that VMs could go to, or that takes none now (``obstacles``), or not all (``unfit``).

    ``memory_free_bytes`` and ``vcpus_free`` are its room before this plan; null where unknown. Where it was
    not ``asked``, its memory is that of its newest inventory.
    """

    uuid: UUID
    name: str
    memory_free_bytes: int | None
    vcpus_free: int | None
    asked: bool
    obstacles: list[ReasonAnswer]
    unfit: list[UnfitAnswer]


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """What a call would do. ``counts`` is the number of VMs by action, ``losses`` what is lost for good.

    ``reasons`` and ``vm_notes`` tell what stands in ``decisions`` once, with the VMs that it concerns.
    ``ignored_inhibitors`` would block a power command, and are overridden by ``ignore_inhibitors``: part of
    what is confirmed.

    ``targets`` are the nodes that VMs could go to, 256 at most. ``targets_asked`` of the
    ``targets_eligible`` ones were asked whether they take VMs.
    """

    kind: str
    node: str
    node_uuid: UUID
    options: Json
    decisions: list[VmDecisionAnswer]
    blockers: list[ReasonAnswer]
    losses: list[str]
    notes: list[str]
    ignored_inhibitors: list[InhibitorAnswer]
    boot_id: str | None
    made_at: datetime
    estimate_s: float | None
    vms_known: bool
    targets: list[PlanTargetAnswer]
    targets_asked: int
    targets_eligible: int
    reasons: list[CommonReasonAnswer]
    vm_notes: list[CommonNoteAnswer]
    counts: dict[str, int]
    blocked: bool
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationAnswer(ProblemAnswer):
    """428: nothing was changed. The same call with ``confirm_token`` does what ``plan`` says."""

    plan: PlanAnswer
    confirm_token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProblemAnswer(ProblemAnswer):
    """409: where it is about a plan, ``plan`` is the one made just now.

    With ``plan_changed`` come the ``changes`` in words and, where the new plan is possible, a new token.
    """

    plan: PlanAnswer | None = None
    changes: list[str] | None = None
    confirm_token: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExportedSection:
    """One section of the inventory. ``facts`` is null where it could not be built."""

    facts: Json | None
    problems: list[Json]


@dataclass(frozen=True, slots=True)
class ExportAnswer:
    """A node's configuration, without secrets, and its newest inventory, by section."""

    format: str
    exported_at: datetime
    node: NodeDetail
    host_key: str | None
    inventory: dict[str, ExportedSection] = field(default_factory=dict)


SHAPES: tuple[type[Any], ...] = (ConfirmationAnswer, PlanProblemAnswer, ExportAnswer)
