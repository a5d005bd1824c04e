"""script/server as a user starts it, against the real packages, libvirt and data directory."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
FIRST_START_S = 180
SECOND_START_RATIO = 5.0
"""Of one ``manage.py check``, which imports what the server imports: about a second on a machine at rest."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def server(data_dir: Path, log: Path, deadline_s: float) -> Iterator[tuple[str, float]]:
    """A running server: its address, and the seconds from typing the command to its first answer."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "NODEADMIN_"))
    }
    with log.open("w") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            ["script/server", "--port", str(port), "--data-dir", str(data_dir)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield url, _first_answer(url, process, log, deadline_s) - started
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def _first_answer(url: str, process: subprocess.Popen[bytes], log: Path, deadline_s: float) -> float:
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            httpx.get(f"{url}/login/", timeout=deadline_s).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return time.monotonic()
    pytest.fail(f"no answer within {deadline_s} s:\n{log.read_text()}")


def log_in(url: str, password: str) -> list[int]:
    """The statuses of the log-in and of the first two pages behind it."""
    with httpx.Client(base_url=url) as client:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get("/login/").text)
        assert token is not None
        form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token[1]}
        answer = client.post("/login/", data=form, headers={"Referer": f"{url}/login/"})
        return [answer.status_code, *(client.get(page).status_code for page in ("/", "/nodes/"))]


def test_first_start_shows_a_password_once_and_the_second_is_quick_and_keeps_it(tmp_path: Path) -> None:
    data_dir, log = tmp_path / "data", tmp_path / "log"
    with server(data_dir, log, FIRST_START_S) as (url, _seconds):
        shown = re.findall(r"password {2,}(\S+)", log.read_text())
        assert len(shown) == 1
        assert log_in(url, shown[0]) == [302, 200, 200]
        assert log_in(url, "not the password") == [200, 302, 302]
    secrets = {file.name: file.read_bytes() for file in (data_dir / "secrets").iterdir()}
    assert data_dir.stat().st_mode & 0o777 == 0o700

    with server(data_dir, log, FIRST_START_S) as (url, seconds):
        assert "password  " not in log.read_text()
        assert log_in(url, shown[0]) == [302, 200, 200]
    assert {file.name: file.read_bytes() for file in (data_dir / "secrets").iterdir()} == secrets
    assert seconds <= SECOND_START_RATIO * one_check(data_dir)


def one_check(data_dir: Path) -> float:
    """Seconds that Django takes here and now to start and look at itself."""
    started = time.monotonic()
    subprocess.run(
        [ROOT / ".venv/bin/python", ROOT / "manage.py", "check"],
        env={
            **os.environ,
            "NODEADMIN_DATA_DIR": str(data_dir),
            "DJANGO_SETTINGS_MODULE": "nodeadmin.settings.local",
        },
        capture_output=True,
        check=True,
        timeout=120,
    )
    return time.monotonic() - started
