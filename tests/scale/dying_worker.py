"""A Celery worker that ends itself with SIGKILL at a commit of an operation. Its arguments say at which:

``python -m tests.scale.dying_worker NAMES WHERE``: the so many-th one where ``WHERE`` is a number; else the
first ``before`` or ``after`` which stand the words of a step's line in the operation's log, as in ``after
check:Done``; at none where it is ``never``. What it died at is added to the file ``NAMES``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import django
from django.core.management import execute_from_command_line


def main(names: Path, where: str) -> None:
    django.setup()
    from nodes.operations import coming_back, power_steps, vm_steps
    from tests.engine.test_kill_service import Points

    class NamedPoint(Points):
        def _pass(self, name: str | None, side: str) -> None:
            if name is not None and where.startswith(f"{side} ") and where.removeprefix(f"{side} ") in name:
                with names.open("a") as file:
                    file.write(f"{side} {name}\n")
                os.kill(os.getpid(), signal.SIGKILL)

    power_steps.LOOK_S = vm_steps.LOOK_S = 0.2
    coming_back.PAUSE_S = 0.3
    point = Points(names, int(where)) if where.isdecimal() else NamedPoint(names, None)
    point.install()
    execute_from_command_line(["manage.py", "worker"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
