"""What a plan is made of: the VMs, where they could go, and what stands in the way. Values only.

Read off hosts and database by ``world_reading``; decided upon by ``deciding``, which knows neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodes.operations.plan.encryption import Encryption
from nodes.operations.plan.power_blockers import PowerQuestion
from nodes.operations.plan.vm_shape import VmShape
from nodes.operations.plans import Reason

Reasons = tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class PlannedVm:
    """A VM on a host.

    ``active``: it has a process. ``busy`` are reasons to touch it in no way now (a job, a migration),
    ``held`` reasons why it cannot leave its host while it runs. ``memory_bytes`` is what it may take,
    ``vcpus`` what it has; None where unknown. ``persistent`` False: its definition ends with it.
    ``demands`` are what it takes of things that VMs on a host share, by their names (see plan/vm_needs.py);
    ``huge_page_bytes`` is the part of its memory that is no ordinary one.
    ``starts_anew``: libvirt starts it again whenever its guest shuts down; ``autostart``: with its host.
    ``skip_storage_check``: libvirt would refuse its migration, not knowing that its files are on shared
    storage.
    ``source`` and ``source_uuid`` name its node where that is not the node of the plan. ``shape`` is what
    it is made of; of an active one alone.
    """

    uuid: str
    name: str
    state: str | None
    active: bool
    persistent: bool | None = True
    starts_anew: bool = False
    autostart: bool | None = False
    memory_bytes: int | None = None
    vcpus: int | None = None
    huge_page_bytes: int = 0
    demands: Mapping[str, int] = field(default_factory=dict)
    busy: Reasons = ()
    held: Reasons = ()
    notes: tuple[str, ...] = ()
    skip_storage_check: bool = False
    source: str = ""
    source_uuid: str = ""
    shape: VmShape = field(default_factory=VmShape)


@dataclass(frozen=True, slots=True)
class Target:
    """A node that VMs could go to.

    ``memory_free_bytes`` and ``vcpus_free`` are what is left for them, promises to others taken off; None
    where unknown: of memory that rules the target out, of vCPUs it sets no bound. ``obstacles`` keep every
    VM from it, ``unfit`` the VM of that UUID; ``notes`` are what could not be told, by VM, and
    ``disk_paths`` where a VM's block devices are there under other paths. ``supplies`` are
    what it has of the VMs' demands; what is not named there is not known, and sets no bound. ``asked`` False:
    nobody has asked it, so nothing is placed on it, and its memory is that of its newest inventory.
    ``encryption`` is how they would be sent there.
    """

    uuid: str
    name: str
    memory_free_bytes: int | None
    vcpus_free: int | None = None
    obstacles: Reasons = ()
    unfit: Mapping[str, Reasons] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    disk_paths: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    supplies: Mapping[str, int] = field(default_factory=dict)
    encryption: Mapping[str, Encryption] = field(default_factory=dict)
    asked: bool = True


@dataclass(frozen=True, slots=True)
class World:
    """All that a plan is decided by.

    ``fault``: why the host cannot be reached; ``libvirt_fault``: why libvirt cannot, where the host can.
    With either, ``vms`` are those last known, with states unknown. ``others``: whether any other node that
    takes VMs is enabled and online, whoever may use it; ``targets`` are those that the user may use, and
    ``targets_asked`` of ``targets_eligible`` of them were asked. ``takes_vms``: whether VMs are placed on the
    node itself (it is no storage node).
    ``power`` is what the host says of a power command, where one is to be sent.
    ``held_autostart`` are the names, by UUID, of the VMs whose autostart nodeadmin holds. ``starts_guests``:
    another service of the host starts VMs at boot, None where that could not be read.
    """

    node_uuid: str
    node_name: str
    vms: tuple[PlannedVm, ...] = ()
    targets: tuple[Target, ...] = ()
    others: bool = True
    takes_vms: bool = True
    fault: Reason | None = None
    libvirt_fault: Reason | None = None
    boot_id: str | None = None
    power: PowerQuestion | None = None
    notes: tuple[str, ...] = ()
    in_maintenance: bool = False
    held_autostart: Mapping[str, str] = field(default_factory=dict)
    starts_guests: bool | None = False
    targets_asked: int = 0
    targets_eligible: int = 0

    @property
    def vms_known(self) -> bool:
        """Whether the VMs' states were read just now."""
        return self.fault is None and self.libvirt_fault is None
