"""The engine in several processes, on a real PostgreSQL and a real Redis.

Settings are read once a process, and this one's say SQLite: so what needs PostgreSQL is run by another
pytest, whose words stand in the failure here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.libvirtd import AVAILABLE
from tests.scale.servers import Servers, servers

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 4 * 3600 if os.environ.get("NODEADMIN_SOAK") == "1" else 400
pytestmark = pytest.mark.timeout(SECONDS + 20)
WITH_EMBEDDED_ENGINE = {"NODEADMIN_ENGINE": "embedded", "NODEADMIN_REDIS_URL": ""}


@pytest.fixture(scope="module")
def running() -> Iterator[Servers]:
    with servers() as found:
        yield found


def run_tests(running: Servers, *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**os.environ, **running.environment, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-15_000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout, done.stdout[-2000:]


def test_workers_share_operations_and_take_over_from_the_dead(running: Servers) -> None:
    run_tests(running, "tests/scale/workers.py")


@pytest.mark.skipif(not AVAILABLE, reason="needs root and libvirtd")
def test_a_drain_and_a_reboot_outlive_the_worker_that_began_them(running: Servers) -> None:
    run_tests(running, "tests/scale/killed.py")


def test_what_an_enemy_says_and_a_database_that_is_held_are_the_same_on_postgresql(running: Servers) -> None:
    parts = (
        "audit/test_chain.py",
        "hostile/test_audit_tampering.py",
        "hostile/test_busy.py",
        "hostile/test_stored_inventory.py",
        "scale/held_database.py",
    )
    of_sqlite = "not locked_database and not reading_goes_on"
    run_tests(running, *(f"tests/{part}" for part in parts), "-k", of_sqlite, **WITH_EMBEDDED_ENGINE)


def test_claims_fences_and_constraints_hold_on_postgresql_as_on_sqlite(running: Servers) -> None:
    parts = (
        "engine/test_engine.py",
        "engine/test_last_node.py",
        "engine/test_races.py",
        "monitor/test_claims.py",
        "operations/test_slots.py",
        "permissions/test_roles.py",
        "permissions/test_trusted_labels.py",
        "test_database_updates.py",
    )
    run_tests(running, *(f"tests/{part}" for part in parts), **WITH_EMBEDDED_ENGINE)
