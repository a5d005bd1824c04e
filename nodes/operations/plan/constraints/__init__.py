"""Constraints: what a VM needs of the host that it is to be migrated to. One file a constraint.

A constraint is a pure function::

    def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:

It is called once for each active VM and each host that the VM could go to, and gives

- a :class:`~nodes.operations.plans.Reason` for each thing that keeps the VM from that host: the VM is never
  placed there. ``code`` is ``snake_case`` and stable; two plans with the same codes ask for the same consent.
  ``message`` is a predicate of which the target is the subject, since it is shown as "<target>: <message>"
  ("has no active libvirt network “lan”"); ``remedy`` is an imperative sentence;
- a :class:`~nodes.operations.plans.Note` for what could not be verified or is worth knowing, as a sentence
  about the VM. It is shown with the VM where that target is chosen;
- nothing, where the target has all that the VM needs.

It asks no host, no database and no clock: what it judges stands in its arguments, see
:class:`~nodes.operations.plan.vm_state.VmState` and :class:`~nodes.operations.plan.host_state.HostState`.
``vm.xml`` and ``vm.element`` are there (a VM whose description could not be read is asked about nothing:
it stays where it is). What is None in a host's state could not be read: a constraint then gives a Note, or a
Reason where a wrong guess would harm the VM, and never takes it for "not there".

Further facts about hosts: a field of ``HostState`` and a reader in
:mod:`nodes.operations.plan.host_readers`. A new constraint: a file here, and one line in ``CONSTRAINTS``;
the order is that in which reasons are shown.

What keeps a VM on its host whichever the target is (a device passed through, a snapshot) is told by
:mod:`nodes.operations.vm_facts`, so that it is told also where there is no target at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nodes.operations.plan.constraints import (
    cpu_model,
    cpu_passthrough,
    cpu_pinning,
    display,
    earlier_refusal,
    firmware,
    huge_pages,
    machine_type,
    migration_address,
    named_files,
    network_names,
    not_verified,
    numa_binding,
    secrets,
    security_model,
    storage_check,
    storage_source,
    tpm,
    vm_name,
)
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason

Constraint = Callable[[VmState, HostState, HostState], Iterable[Reason | Note]]

CONSTRAINTS: tuple[Constraint, ...] = (
    machine_type.check,
    cpu_model.check,
    cpu_passthrough.check,
    vm_name.check,
    storage_source.check,
    storage_check.check,
    network_names.check,
    huge_pages.check,
    cpu_pinning.check,
    numa_binding.check,
    firmware.check,
    tpm.check,
    secrets.check,
    named_files.check,
    display.check,
    security_model.check,
    migration_address.check,
    not_verified.check,
    earlier_refusal.check,
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What the constraints say of a VM and a target. It fits where there are no ``reasons``."""

    reasons: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()


def judge(
    vm: VmState, source: HostState, target: HostState, constraints: Sequence[Constraint] = CONSTRAINTS
) -> Findings:
    """All that the ``constraints`` find, in their order; the same words once."""
    found = [finding for check in constraints for finding in check(vm, source, target)]
    reasons = dict.fromkeys(finding for finding in found if isinstance(finding, Reason))
    notes = dict.fromkeys(finding.message for finding in found if isinstance(finding, Note))
    return Findings(tuple(reasons), tuple(notes))
