"""Several hosts asked at once, each in a thread of its own, under one deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from nodes.errors import HostTimeout, NodeAdminError
from nodes.hosts.deadlines import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LATE = "It did not answer in time."


def side_by_side(jobs: Mapping[K, Callable[[], V]], clock: Clock) -> dict[K, V | NodeAdminError]:
    """Run the jobs in threads of their own; by key what each gave, its error, or HostTimeout for a late one.

    An error that nobody expected is raised here.
    """
    answers: dict[K, V | NodeAdminError] = {}
    accidents: list[Exception] = []
    lock = threading.Lock()

    def run(key: K, job: Callable[[], V]) -> None:
        try:
            found: V | NodeAdminError = job()
        except NodeAdminError as error:
            found = error
        except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
            accidents.append(error)
            return
        with lock:
            answers[key] = found

    threads = [
        threading.Thread(target=run, args=item, name=f"plan: {item[0]}", daemon=True) for item in jobs.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(clock.left + 0.05)
    if accidents:
        raise accidents[0]
    with lock:
        found = dict(answers)
    return {key: found.get(key, _late()) for key in jobs}


def _late() -> HostTimeout:
    return HostTimeout(LATE)
