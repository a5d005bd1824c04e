"""Light hosts as nodes of a database, and operations on them as calls would ask for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from nodes import access
from nodes.engine.submit import submit
from nodes.events import SYSTEM, Actor
from nodes.models import Credential, Node, Operation, OperationStep, User
from nodes.operations.base import PlannedKind
from nodes.operations.plans import Plan
from nodes.operations.registry import kind_of
from nodes.operations.scheduling import cordon
from tests.factories import make_node
from tests.lighthosts import LightHost


def light_node(host: LightHost, **fields: Any) -> Node:
    """The node of a light host, entered by its own key over SSH."""
    sshd = host.sshd
    uri = f"qemu+ssh://root@{sshd.address}:{sshd.port}/system"
    node = make_node(host.name, uri=uri, **{"migration_address": "127.0.0.1", **fields})
    access.pin(node, sshd.host_key())
    node.save()
    Credential.objects.create(node=node, kind="ssh_key", secret={"private_key": sshd.user_key.read_text()})
    return node


def clear(host: LightHost) -> None:
    """End every VM of the host and every definition."""
    for listed, command in ((("--uuid",), "destroy"), (("--all", "--persistent", "--uuid"), "undefine")):
        found = host.virsh("-q", "list", *listed).split()
        if found:
            host.virsh("-q", "; ".join(f"{command} {uuid}" for uuid in found))


def plan_of(kind: str, node: Node, user: User | None = None, **options: Any) -> Plan:
    planned = kind_of(kind)
    assert isinstance(planned, PlannedKind)
    return planned.plan(user, node, options)


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


def wait_until(true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Look until it is ``true``; an assertion fails where it does not become so."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)


def steps_of(operation: Operation) -> dict[str, str]:
    """Status by step, a VM's step by the VM's name."""
    return {_label(step): step.status for step in operation.steps.all()}


def _label(step: OperationStep) -> str:
    return f"{step.code.partition(':')[0]}:{step.vm_name}" if step.vm_name else step.code
