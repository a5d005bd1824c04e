"""Light hosts as nodes of a database, and operations on them as calls would ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nodes import access
from nodes.engine.submit import submit
from nodes.events import SYSTEM, Actor
from nodes.models import Node, Operation, OperationStep, Scheduling, User
from nodes.operations.base import PlannedKind
from nodes.operations.planning import plan_for
from nodes.operations.plans import Plan
from nodes.operations.registry import kind_of
from nodes.operations.scheduling import cordon
from tests.factories import make_credential, make_node
from tests.lighthosts import LightHost, TinyVm, assert_exactly_once, comes_true


def light_node(host: LightHost, *, name: str = "", **fields: Any) -> Node:
    """The node of a light host, entered by its own key over SSH."""
    sshd = host.sshd
    uri = f"qemu+ssh://root@{sshd.address}:{sshd.port}/system"
    node = make_node(
        name or host.name,
        uri=uri,
        **{"migration_address": "127.0.0.1", "migration_address_forced": True, **fields},
    )
    access.pin(node, sshd.host_key())
    node.save()
    make_credential(node, "ssh_key", private_key=sshd.user_key.read_text())
    return node


def clear(host: LightHost) -> None:
    """End every VM of the host and every definition."""
    for listed, command in ((("--uuid",), "destroy"), (("--all", "--persistent", "--uuid"), "undefine")):
        found = host.virsh("-q", "list", *listed).split()
        if found:
            host.virsh("-q", "; ".join(f"{command} {uuid}" for uuid in found))


def plan_of(kind: str, node: Node, user: User | None = None, **options: Any) -> Plan:
    assert isinstance(kind_of(kind), PlannedKind)
    return plan_for(kind, user, node, options)


def ask(
    kind: str, node: Node, user: User | None = None, *, plan: Plan | None = None, **options: Any
) -> Operation:
    """Plan, confirm and submit, as a call with its token does."""
    found = plan or plan_of(kind, node, user, **options)
    assert not found.is_blocked, found
    operation = submit(kind, actor=Actor(user) if user else SYSTEM, node=node, params=options, plan=found)
    if kind == "disable-node":
        cordon(node, reason=options.get("reason", ""), actor=SYSTEM, operation=operation)
    return operation


def assert_rebooted(
    operation: Operation, hosts: Sequence[LightHost], vm: TinyVm, *, commands: int, where: str
) -> None:
    """The first host had so many power commands in all, shows the boot of the last one, and is in service
    with ``vm`` running on it alone."""
    host = hosts[0]
    assert len(host.power_commands) == commands, where
    assert operation.result is not None
    assert operation.result["boot_id"] == host.boot_id, where
    assert_exactly_once(hosts, vm, on=host)
    node = Node.objects.get(name=host.name)
    assert (node.scheduling, node.connection) == (Scheduling.ENABLED, "online"), where


def wait_until(true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Look until it is ``true``; an assertion fails where it does not become so."""
    assert comes_true(true, timeout_s), "it did not come about in time"


def steps_of(operation: Operation) -> dict[str, str]:
    """Status by step, a VM's step by the VM's name."""
    return {_label(step): step.status for step in operation.steps.all()}


def _label(step: OperationStep) -> str:
    return f"{step.code.partition(':')[0]}:{step.vm_name}" if step.vm_name else step.code
