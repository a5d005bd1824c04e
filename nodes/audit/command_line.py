"""Names the command line as who acts in a process of manage.py."""

from __future__ import annotations

import sys
from pathlib import Path

from nodes.events import Actor, set_process_actor
from nodes.models.event import Via

SERVERS = ("serve", "monitor", "worker", "runserver", "test")
"""What these do by themselves, nobody asked for; in them a request or an operation names who acts."""
PROGRAMS = ("manage.py", "django-admin")


def install() -> None:
    program = Path(sys.argv[0])
    # ``python -m django`` is another name of django-admin.
    known = program.name in PROGRAMS or program.parts[-2:] == ("django", "__main__.py")
    if known and len(sys.argv) > 1 and sys.argv[1] not in SERVERS:
        set_process_actor(Actor(via=Via.COMMAND))
