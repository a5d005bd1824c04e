"""The real server for tests that drive a browser: own data directory, engine, static files, ASGI entry.

What ``manage.py serve`` does, but for the registration of this machine: the tests add hosts by hand, and a
host made of this machine would be this machine twice.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.sshd import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
USER, PASSWORD = "ada", "correct horse battery"
START_S, STOP_S = 60, 20


class Server:
    """``with Server(folder) as server:`` serves on ``server.url`` until the block ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self.manage("migrate", "--verbosity", "0")
        self.manage("collectstatic", "--noinput", "--verbosity", "0")
        self.manage("createsuperuser", "--noinput", "--username", USER, "--email", "")
        application = ["-m", "uvicorn", "nodeadmin.asgi:application", "--lifespan", "on"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *application, "--port", str(self.port), "--log-level", "warning"],
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)

    def manage(self, *arguments: str) -> None:
        """Run a management command in the server's data directory."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment(), capture_output=True, text=True, timeout=240
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NODEADMIN_")}
        return kept | {
            "DJANGO_SETTINGS_MODULE": "nodeadmin.settings.local",
            "NODEADMIN_DATA_DIR": str(self.folder),
            "NODEADMIN_ALLOW_TEST_URI": "true",
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        }

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/login/", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"the server did not start: {self.log.read_text()[-3000:]}")
