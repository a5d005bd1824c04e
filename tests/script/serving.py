"""script/server in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.patience import Deadline

ROOT = Path(__file__).resolve().parents[2]
FIRST_START_S = 180


@dataclass(frozen=True, slots=True)
class Served:
    """A running server. ``seconds``: from typing the command to its first answer."""

    url: str
    seconds: float
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def server(data_dir: Path, log: Path, *options: str) -> Iterator[Served]:
    """script/server with ``options``, until the block ends."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "NODEADMIN_"))
    }
    with log.open("w") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            ["script/server", *options, "--port", str(port), "--data-dir", str(data_dir)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            answered = _first_answer(url, process, log, FIRST_START_S)
            yield Served(url, answered - started, process)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


def _first_answer(url: str, process: subprocess.Popen[bytes], log: Path, deadline_s: float) -> float:
    deadline = Deadline(deadline_s)
    # One client: each reads all certificates of this machine, which takes a processor from the server.
    with httpx.Client(base_url=url, timeout=deadline_s, trust_env=False) as client:
        while not deadline.over():
            assert process.poll() is None, log.read_text()
            try:
                client.get("/login/").raise_for_status()
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return time.monotonic()
    pytest.fail(f"no answer within {deadline.seconds:g} s:\n{log.read_text()}")


def log_in(url: str, password: str) -> list[int]:
    """The statuses of the log-in and of the first two pages behind it."""
    with httpx.Client(base_url=url) as client:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get("/login/").text)
        assert token is not None
        form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token[1]}
        answer = client.post("/login/", data=form, headers={"Referer": f"{url}/login/"})
        return [answer.status_code, *(client.get(page).status_code for page in ("/", "/nodes/"))]
