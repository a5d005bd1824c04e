"""How benchmarks measure and report: ratios against a floor that was measured in the same run.

Every figure is one line, ``NAME VALUE <= LIMIT ok|short``, with the floor's own time behind it. A machine
that is twice as slow has a floor twice as slow, so the ratio stands.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Report:
    """Collects figures; ``finish`` ends the program with 1 where one falls short."""

    short: list[str] = field(default_factory=list)

    def figure(self, name: str, value: float, limit: float, behind: str = "") -> None:
        """One figure that must not exceed its limit."""
        met = value <= limit
        if not met:
            self.short.append(name)
        tail = f"  ({behind})" if behind else ""
        self.say(f"{name} {value:.3f} <= {limit:g} {'ok' if met else 'short'}{tail}")

    def failed(self, name: str, why: str) -> None:
        """A figure that could not be taken."""
        self.short.append(name)
        self.say(f"{name} - short  ({why})")

    def say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def finish(self) -> None:
        sys.exit(1 if self.short else 0)


def alternate(
    subjects: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Run the subjects in turn, ``rounds`` times; gives the seconds of each run by name.

    In turn, so that what else the machine does meets all of them alike.
    """
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for round_number in range(rounds + warm_up):
        for name, run in subjects.items():
            gc.collect()
            started = time.perf_counter()
            run()
            took = time.perf_counter() - started
            if round_number >= warm_up:
                times[name].append(took)
    return times


def ms(times: list[float]) -> str:
    """Median and spread, for the text behind a figure."""
    ordered = sorted(times)
    return f"{statistics.median(ordered) * 1000:.1f} ms, {ordered[0] * 1000:.1f} to {ordered[-1] * 1000:.1f}"


def ratio(subject: list[float], floor: list[float]) -> float:
    """Median over median."""
    return statistics.median(subject) / statistics.median(floor)
