"""The real server for tests that look at it from outside: own data directory, engine, ASGI entry.

What ``manage.py serve`` does, but for the registration of this machine: the tests add hosts by hand, and a
host made of this machine would be this machine twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.patience import Deadline
from tests.sshd import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
USER, PASSWORD = "ada", "correct horse battery"
START_S, STOP_S = 60, 20


TOKEN = """
from datetime import timedelta
from django.utils import timezone
from nodes.models import ApiToken, User
end = timezone.now() + timedelta(hours=4)
print(ApiToken.make(User.objects.get(), "test", end, read_only=False)[1])
"""


class Server:
    """``with Server(folder) as server:`` serves on ``server.url`` until the block ends.

    ``environment`` adds variables to its own. It may be killed and started again on the same data.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.prepare()
        self.manage("collectstatic", "--noinput", "--verbosity", "0")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def prepare(self) -> None:
        """Make the data directory, with a superuser."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self.manage("migrate", "--verbosity", "0")
        self.manage("createsuperuser", "--noinput", "--username", USER, "--email", "")

    def token(self) -> str:
        """A bearer token of the superuser."""
        return self.manage("shell", "--no-imports", "-c", TOKEN).strip()

    def start(self, *wrapper: str) -> None:
        """Start it, and return when it answers.

        ``wrapper`` is a module that runs it, and its arguments; nobody then waits for an answer.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *wrapper, "nodeadmin.server", "--port", str(self.port)],
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if not wrapper:
            self._wait()

    def stop(self) -> None:
        """End it as systemd would."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)

    def kill(self) -> None:
        """End it as the kernel would that has run out of memory."""
        assert self._process is not None
        self._process.kill()
        self.wait_for_death(STOP_S)

    def wait_for_death(self, timeout_s: float) -> None:
        """Return when it has ended by SIGKILL; subprocess.TimeoutExpired where it goes on."""
        assert self._process is not None
        deadline = Deadline(timeout_s)
        while self._process.poll() is None and not deadline.over():
            time.sleep(0.05)
        assert self._process.wait(0) == -signal.SIGKILL
        self._process = None

    def manage(self, *arguments: str) -> str:
        """Run a management command in the server's data directory; gives what it wrote."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment(), capture_output=True, text=True, timeout=240
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NODEADMIN_")}
        own = {
            "DJANGO_SETTINGS_MODULE": "nodeadmin.settings.local",
            "NODEADMIN_DATA_DIR": str(self.folder),
            "NODEADMIN_ALLOW_TEST_URI": "true",
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        }
        return kept | own | self.environment

    def _wait(self) -> None:
        deadline = Deadline(START_S)
        while not deadline.over():
            assert self._process is not None
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/login/", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"the server did not start: {self.log.read_text()[-3000:]}")
