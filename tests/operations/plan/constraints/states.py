"""VMs and hosts as constraints see them, made by hand."""

from __future__ import annotations

from typing import Any

from nodes.hosts.domains import DomainFacts
from nodes.operations.plan.constraints import Constraint, Findings, judge
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState

UUID = "5f3c9a52-6f0e-4b5e-9d53-0c6b1f6b8a11"


def vm(devices: str = "", *, more: str = "", os: str = "", name: str = "web") -> VmState:
    """A running VM with these ``devices``; ``more`` stands beside ``<devices>``, ``os`` inside ``<os>``."""
    xml = f"""<domain type='kvm' id='1'><name>{name}</name><uuid>{UUID}</uuid>
      <memory unit='MiB'>512</memory><vcpu>2</vcpu>
      <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>{os}</os>{more}
      <devices>{devices}</devices></domain>"""
    facts = DomainFacts(
        uuid=UUID,
        name=name,
        state="running",
        reason="booted",
        active=True,
        persistent=True,
        managed_save=False,
        memory_max_bytes=512 << 20,
        vcpus=2,
        xml=xml,
        job=None,
        block_jobs=(),
        snapshots=0,
    )
    return VmState.of(facts)


def disk(
    source: str, kind: str = "file", *, device: str = "disk", more: str = "", target: str = "vda"
) -> str:
    return f"<disk type='{kind}' device='{device}'><source {source}/><target dev='{target}'/>{more}</disk>"


def source(**fields: Any) -> HostState:
    return HostState("u-source", "kvm-1", **fields)


def target(**fields: Any) -> HostState:
    return HostState("u-target", "kvm-2", **{"address": "192.0.2.2", **fields})


def found(check: Constraint, vm: VmState, here: HostState, there: HostState) -> Findings:
    """What the constraint ``check`` alone finds."""
    return judge(vm, here, there, (check,))


def codes(findings: Findings) -> list[str]:
    return [reason.code for reason in findings.reasons]
