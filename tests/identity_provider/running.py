"""The identity provider of the tests, as a process on loopback; and a browser's walk through it, by HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.lab.recipe import cache_directory
from tests.patience import Deadline
from tests.sshd import free_port

HERE = Path(__file__).parent
START_S, STOP_S = 60, 10
CLIENT, SECRET = "nodeadmin", "a-secret-of-the-tests"


def packages() -> Path | None:
    """The node_modules that script/test has installed for this lock file; None where there are none."""
    key = sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = cache_directory().parent / "identity-provider" / key
    return folder / "node_modules" if (folder / "ready").exists() else None


class IdentityProvider:
    """``with IdentityProvider(folder, redirect_uris) as provider``: it serves until the block ends."""

    def __init__(self, folder: Path, *redirects: str) -> None:
        self.folder = folder
        self.redirects = redirects
        self.port = free_port("127.0.0.1")
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._accounts: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def account(self, sub: str, **claims: Any) -> None:
        """Somebody who may sign in, from now on with these claims."""
        self._accounts[sub] = {"preferred_username": sub, **claims}
        (self.folder / "accounts.json").write_text(json.dumps(self._accounts))

    def __enter__(self) -> Self:
        found = packages()
        assert found is not None
        self.folder.mkdir(exist_ok=True)
        # A module finds its packages beside itself and nowhere else.
        shutil.copy(HERE / "provider.mjs", self.folder)
        (self.folder / "node_modules").symlink_to(found)
        (self.folder / "accounts.json").write_text("{}")
        self.start()
        return self

    def start(self) -> None:
        command = ["node", "provider.mjs", str(self.port), "accounts.json", *self.redirects]
        with (self.folder / "provider.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        deadline = Deadline(START_S)
        while not deadline.over() and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.issuer}/.well-known/openid-configuration", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError((self.folder / "provider.log").read_text()[-2000:])

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def walk(self, address: str, login: str, *, go: str = "in") -> str:
        """From the address that nodeadmin sends the browser to, through the login page, to the address that
        the provider sends it back to."""
        with httpx.Client(base_url=self.issuer, follow_redirects=False, timeout=30) as browser:
            answer = browser.get(address)
            page = answer.headers["location"]
            assert browser.get(page).status_code == 200
            answer = browser.post(page, data={"login": login, "go": go})
            while answer.headers.get("location", "").startswith(("/", self.issuer)):
                answer = browser.get(answer.headers["location"])
            return answer.headers["location"]
