"""What an operation that failed or was cancelled leaves to be put right."""

from __future__ import annotations

from nodes.models import Node, Operation, StepStatus
from nodes.operations.node_state.maintenance_vms import forget
from nodes.operations.run.autostart import hand_over_moved, release_held_by


def settle_unfinished(operation: Operation) -> tuple[Node, ...]:
    """Within the transaction that ends the operation, whatever has ended it: autostart that it holds is to be
    put back, and what was to run after a boot that does not come is forgotten.

    Gives the nodes of which a refresh can put something back now.
    """
    steps = {step.code: step for step in operation.steps.filter(code__in=("command", "back", "way_back"))}
    sent = "command" in steps and bool(steps["command"].data.get("sent_at"))
    if "way_back" in steps:
        sent = False  # it has seen its host go on running
    is_back = "back" in steps and steps["back"].status == StepStatus.SUCCEEDED
    if operation.node is not None and operation.plan is not None and not sent:
        forget(operation.node)
    owed = hand_over_moved(operation)
    if release_held_by(operation, going_down=sent and not is_back) and operation.node is not None:
        owed = (operation.node, *owed)
    return owed
