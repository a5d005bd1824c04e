"""Migrates one VM in a process of its own, to be killed: ``python -m tests.hosts.migration_driver``.

Reads a pickled :class:`Order` from standard input; prints a line as the migration begins and one at its end.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodes.errors import HostError
from nodes.hosts.connection import connect
from nodes.hosts.migration import Manner, migrate
from nodes.hosts.target import HostTarget

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Order:
    source: HostTarget
    target: HostTarget
    uuid: str
    bandwidth_mib_s: int | None = None


@contextmanager
def driven(order: Order) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once both connections stand and the migration is about to begin."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hosts.migration_driver"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pickle.dumps(order))
        process.stdin.close()
        assert process.stdout.readline() == b"begins\n"
        try:
            yield process
        finally:
            process.kill()


def main() -> None:
    order: Order = pickle.load(sys.stdin.buffer)
    with connect(order.source) as here, connect(order.target) as there:
        source, target = here.hypervisor(), there.hypervisor()
        sys.stdout.write("begins\n")
        sys.stdout.flush()
        try:
            migrate(
                source,
                target,
                order.uuid,
                address="127.0.0.1",
                timeout_s=60,
                manner=Manner(bandwidth_mib_s=order.bandwidth_mib_s),
            )
        except HostError as error:
            sys.stdout.write(f"{error.code}: {error.message}\n")
        else:
            sys.stdout.write("moved\n")
        sys.stdout.flush()


if __name__ == "__main__":
    # Under its importable name, or else what is pickled as that module's would not be found.
    from tests.hosts import migration_driver

    migration_driver.main()
