"""script/server as a user starts it, against the real packages, libvirt and data directory."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from tests.patience import slowness
from tests.script.serving import ROOT, log_in, server

SECOND_START_RATIO = 5.0
"""Of one ``manage.py check``, which imports what the server imports: about a second on a machine at rest."""


def test_first_start_shows_a_password_once_and_the_second_is_quick_and_keeps_it(tmp_path: Path) -> None:
    data_dir, log = tmp_path / "data", tmp_path / "log"
    with server(data_dir, log) as served:
        shown = re.findall(r"password {2,}(\S+)", log.read_text())
        assert len(shown) == 1
        assert log_in(served.url, shown[0]) == [302, 200, 200]
        assert log_in(served.url, "not the password") == [200, 302, 302]
    secrets = {file.name: file.read_bytes() for file in (data_dir / "secrets").iterdir()}
    assert data_dir.stat().st_mode & 0o777 == 0o700

    with server(data_dir, log) as served:
        assert "password  " not in log.read_text()
        assert log_in(served.url, shown[0]) == [302, 200, 200]
    assert {file.name: file.read_bytes() for file in (data_dir / "secrets").iterdir()} == secrets
    assert served.seconds <= SECOND_START_RATIO * one_check(data_dir) * slowness()


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
