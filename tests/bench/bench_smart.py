"""SMART of 24 disks against that of one: a stand-in smartctl takes half a second each."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nodes.inventory.disk_sources import DISK_SMART
from nodes.inventory.script import build_script, parse_output
from nodes.inventory.source import Source
from tests.bench.figures import Report, alternate, ms, ratio

DISKS, LIMIT, ROUNDS = 24, 1.5, 5
STAND_IN = '#!/bin/sh\nsleep 0.5\necho "{\\"device\\": {\\"name\\": \\"$*\\"}}"\n'


def main() -> None:
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        tool = Path(folder) / "smartctl"
        tool.write_text(STAND_IN)
        tool.chmod(0o755)
        one, many = source(1), source(DISKS)
        answered = sum(name.startswith("disk-smart:") for name in probe([many], folder))
        times = alternate(
            {"one": lambda: probe([one], folder), "many": lambda: probe([many], folder)}, ROUNDS
        )
    if answered != DISKS:
        report.failed("smart_24_disks", f"{answered} of {DISKS} disks answered")
    else:
        behind = f"{DISKS} disks: {ms(times['many'])}; one: {ms(times['one'])}"
        report.figure("smart_24_disks", ratio(times["many"], times["one"]), LIMIT, behind)
    report.finish()


def source(count: int) -> Source:
    """The source as it is, with the names of disks that this machine does not have."""
    names = " ".join(f"/dev/sd{chr(ord('a') + number)}" for number in range(count))
    return replace(DISK_SMART, items=f"printf '%s\\n' {names}", needs_root=False)


def probe(sources: Sequence[Source], folder: str) -> list[str]:
    """Run the probe here, with the stand-in first on the path; gives the outputs' names."""
    done = subprocess.run(
        ["sh", "-s"],
        input=build_script(sources).encode(),
        capture_output=True,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        timeout=60,
        check=True,
    )
    return [name for name, output in parse_output(done.stdout, sources).items() if output.stdout]


if __name__ == "__main__":
    main()
