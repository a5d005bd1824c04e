"""How long migrations take. Estimates alone: nothing is decided by them."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from nodes.operations.plans import Action, VmDecision

ASSUMED_MIB_S = 100
"""What a migration moves in a second over a network of 1 Gbit/s."""
SETUP_S = 2.0


@dataclass(frozen=True, slots=True)
class Pace:
    """``out`` and ``into``: migrations at once that may leave a node and enter one; ``mib_s``: memory that
    one of them moves in a second."""

    out: int = 2
    into: int = 2
    mib_s: int = ASSUMED_MIB_S

    def of_vm(self, memory_bytes: int | None) -> float:
        """Seconds that one migration takes."""
        return round(SETUP_S + (memory_bytes or 0) / (self.mib_s << 20), 1)

    def of_all(self, decisions: Sequence[VmDecision], node_uuid: str) -> float | None:
        """Seconds from the first migration's start to the last one's end, None where there are none.

        As an operation does them: ``out`` at a time in their order, each once there is a place out of its
        source (``node_uuid`` where none is named) and one into its target.
        """
        moving = [vm for vm in decisions if vm.action == Action.MIGRATE and vm.estimate_s is not None]
        if not moving:
            return None
        workers = [0.0] * min(self.out, len(moving))
        leaving: dict[str, list[float]] = {}
        entering: dict[str, list[float]] = {}
        last = 0.0
        for vm in moving:
            source = leaving.setdefault(vm.source_uuid or node_uuid, [0.0] * self.out)
            target = entering.setdefault(vm.target_uuid, [0.0] * self.into)
            end = max(workers[0], source[0], target[0]) + (vm.estimate_s or 0.0)
            for places in (workers, source, target):
                heapq.heapreplace(places, end)
            last = max(last, end)
        return round(last, 1)
