"""Celery workers as they run in an installation: processes of their own, which may be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import connection

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """``manage.py worker`` on this test's database. A long ``sweep_s`` leaves it to the broker's messages."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        sweep_s: float = 0.5,
        lease_s: float = 20.0,
        command: tuple[str, ...] = (sys.executable, str(ROOT / "manage.py"), "worker"),
        **environment: str,
    ) -> None:
        url = urlsplit(settings.DATABASE_URL)
        environment = {
            "NODEADMIN_DATABASE_URL": urlunsplit(url._replace(path=f"/{connection.settings_dict['NAME']}")),
            "NODEADMIN_DATA_DIR": str(folder / name),
            "NODEADMIN_LEASE_S": str(lease_s),
            "NODEADMIN_SWEEP_S": str(sweep_s),
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self._asked = False
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", *command],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def has(self, claimed_by: str) -> bool:
        """Whether a row's ``claimed_by`` names this worker."""
        return claimed_by.endswith(f":{self.pid}")

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait_ready(self) -> Self:
        """Wait until it listens to the broker."""
        wait_until(lambda: " ready." in self.said() or self.has_ended, 60, self.said)
        assert self._process.poll() is None, self.said()
        return self

    def said(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        """SIGKILL: nothing of it is left to say goodbye."""
        self._process.kill()
        self._process.wait()

    def ask_to_stop(self) -> None:
        """SIGTERM, as systemd stops it: once. A second one, while Python ends, would find no handler."""
        if not self._asked and self._process.poll() is None:
            self._asked = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.ask_to_stop()
        try:
            return self._process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def wait_until(true: Callable[[], bool], timeout_s: float = 30.0, words: Callable[[], str] = str) -> None:
    """Look until it is ``true``; fails with ``words`` where it does not become so."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"it did not come about in {timeout_s} s\n{words()}"
        time.sleep(0.05)
