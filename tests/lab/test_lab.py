"""What a test run that was killed leaves behind is ended by the next one; what is in use is left alone."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.lab import end_abandoned_labs, runtime_directory
from tests.lab.network import Switch

pytestmark = pytest.mark.skipif(shutil.which("vde_switch") is None, reason="script/lab prepare installs vde2")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODEADMIN_CACHE", str(tmp_path))


def _lab_with_switch(owner: int) -> Switch:
    directory = runtime_directory() / f"{owner}-x"
    directory.mkdir()
    switch = Switch(directory)
    switch.start()
    return switch


def test_lab_whose_owner_is_gone_is_ended() -> None:
    owner = subprocess.Popen(["true"])
    owner.wait(timeout=10)
    switch = _lab_with_switch(owner.pid)
    running = Path(f"/proc/{(switch.directory / 'lan.pid').read_text().strip()}")
    assert running.exists()

    end_abandoned_labs()

    assert not switch.directory.exists()
    assert not running.exists() or not (running / "cmdline").read_bytes()


def test_lab_whose_owner_lives_stays() -> None:
    switch = _lab_with_switch(os.getpid())
    try:
        end_abandoned_labs()

        assert (switch.directory / "lan.pid").exists()
    finally:
        switch.stop()
