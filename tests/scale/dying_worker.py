"""A Celery worker that ends itself with SIGKILL at a commit of an operation: which one is its arguments.

``python -m tests.scale.dying_worker NAMES SIDE WORDS``: before or after (``SIDE``) the first commit of a step
whose line in the operation's log holds ``WORDS``; what it died at is added to the file ``NAMES``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from django.core.management import execute_from_command_line


def main(names: Path, side: str, words: str) -> None:
    import django

    django.setup()
    from tests.engine.test_kill_service import Points

    class NamedPoint(Points):
        def _pass(self, name: str | None, passed: str) -> None:
            if name is not None and passed == side and words in name:
                with names.open("a") as file:
                    file.write(f"{side} {name}\n")
                os.kill(os.getpid(), signal.SIGKILL)

    NamedPoint(names, None).install()
    execute_from_command_line(["manage.py", "worker"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
