"""Keeps a handful of processes running as one: started in order, restarted when one dies, ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

READY_S = 120.0
STOP_S = 20.0
TICK_S = 0.25
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""What has run for so long is started again at once when it dies."""


class SetupFailed(Exception):
    """The set-up cannot be started; the message says why."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process. ``is_ready`` is asked until it is true before the next service is started."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: str = "TERM"
    log: Path | None = None
    is_ready: Callable[[], bool] | None = None


class Process:
    """A service that has been started, and how often that had to be done again."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._popen: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._failures = 0
        self._not_before = 0.0

    def start(self) -> None:
        """Start it. Whatever becomes of us, the kernel then sends it its signal to stop."""
        service = self.service
        self._started_at = time.monotonic()
        other = service.user if service.user and os.geteuid() == 0 else None
        output = service.log.open("ab") if service.log is not None else None
        try:
            self._popen = subprocess.Popen(
                ["/usr/bin/setpriv", "--pdeathsig", service.stop_signal, "--", *service.command],
                env={**os.environ, **service.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output is not None else None,
                user=other,
                group=other,
                extra_groups=[] if other is not None else None,
                # A terminal's Ctrl-C is for us: we end them in order.
                start_new_session=True,
                umask=0o077,
            )
        finally:
            if output is not None:
                output.close()

    def has_ended(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._popen.poll() if self._popen is not None else None

    def wait_ready(self, stopping: threading.Event) -> None:
        """Raises SetupFailed where it ends first, or takes too long."""
        deadline = time.monotonic() + READY_S
        while self.service.is_ready is not None:
            # First of all: what answers may be another one.
            status = self.has_ended()
            if status is not None:
                raise SetupFailed(f"{self.service.name} ended with {status} as it started.{self._log_hint()}")
            if self.service.is_ready():
                return
            if time.monotonic() > deadline:
                raise SetupFailed(f"{self.service.name} was not ready in {READY_S:.0f} s.{self._log_hint()}")
            if stopping.wait(0.05):
                return

    def start_again(self, say: Callable[[str], None]) -> None:
        """Where it has ended: at once if it had run for long, else after a pause that grows."""
        status = self.has_ended()
        if status is None:
            return
        now = time.monotonic()
        if not self._not_before:
            self._failures = 0 if now - self._started_at >= STEADY_S else self._failures + 1
            pause = min(LONGEST_PAUSE_S, 2.0**self._failures - 1.0)
            self._not_before = now + pause
            again = f"it starts again in {pause:.0f} s.{self._log_hint()}"
            say(f"{self.service.name} ended with {status}; {again}")
        if now >= self._not_before:
            self._not_before = 0.0
            self.start()

    def ask_to_stop(self) -> None:
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(getattr(signal, f"SIG{self.service.stop_signal}"))

    def wait_stopped(self, deadline: float) -> None:
        """Wait for its end; what has not ended by ``deadline`` (monotonic) is killed, which all bear."""
        if self._popen is None:
            return
        try:
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def end(self, seconds: float) -> None:
        """Ask it to stop, and see to it that it has."""
        self.ask_to_stop()
        self.wait_stopped(time.monotonic() + seconds)

    def _log_hint(self) -> str:
        return f" Its log is {self.service.log}." if self.service.log is not None else ""


class Supervisor:
    """Runs groups of services: each group is ready before the next one starts, and ended after it.

    At the end of a ``with`` block all have ended.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._groups: list[list[Process]] = []
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop_on_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._stopping.set())

    def start(self, *services: Service) -> None:
        """Start one group and wait until all of it is ready. Raises SetupFailed."""
        if self._stopping.is_set():
            return
        group = [Process(service) for service in services]
        self._groups.append(group)
        for process in group:
            process.start()
        for process in group:
            process.wait_ready(self._stopping)

    def run(self) -> None:
        """Start again what dies, until a signal says to stop."""
        while not self._stopping.wait(TICK_S):
            for group in self._groups:
                for process in group:
                    process.start_again(self._say)

    def stop(self) -> None:
        """End all, the last group first."""
        for group in reversed(self._groups):
            deadline = time.monotonic() + STOP_S
            for process in group:
                process.ask_to_stop()
            for process in group:
                process.wait_stopped(deadline)
        self._groups.clear()
