"""What all tests share: three people, and a client for each."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from hypothesis import settings

# An example that takes long is no fault of what it tries on a machine that has other work besides.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

_skipped: list[str] = []


FIRST = ("engine/test_kill", "scale/", "script/", "hosts/test_migration", "operations/")
"""Tests that fork need a process that has not used libvirt yet. Of the others, those whose files take long:
begun last, they would leave all processes but their own without work."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not hasattr(config, "workerinput"):
        return
    names = {item: item.nodeid.removeprefix("tests/") for item in items}
    items.sort(key=lambda item: [not names[item].startswith(part) for part in FIRST])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    """Tests that run side by side share no directory of a server: each worker process has one of its own."""
    inherited = os.environ["NODEADMIN_DATA_DIR"]
    for number, spec in enumerate(specs):
        spec.env["NODEADMIN_DATA_DIR"] = f"{inherited}-{number}"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything has been set up for the tests, one that finds something missing has failed."""
    if _skipped and os.environ.get("NODEADMIN_NO_SKIPS"):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _fresh_process_state() -> object:
    """No test sees another one's throttle counts or connections to hosts."""
    yield
    if "nodes.access" in sys.modules:
        from django.core.cache import cache

        from nodes import access, credential_use, password_hashing
        from nodes.audit.head_file import head_path
        from nodes.engine import scans, waits

        cache.clear()
        scans.buckets.cache_clear()
        waits.waits.cache_clear()
        password_hashing.hashing.cache_clear()
        access.close_pool()
        credential_use.lately.clear()
        # It belongs to a database that is empty again, and would say that entries of the next one are
        # missing.
        head_path().unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped and os.environ.get("NODEADMIN_NO_SKIPS"):
        terminalreporter.section("skipped, though everything should be there for them", red=True)
        for name in _skipped:
            terminalreporter.line(name)


@pytest.fixture
def groups(db: None) -> None:
    from nodes.management.setup import ensure_groups

    ensure_groups()


@pytest.fixture
def administrator(groups: None):
    """Somebody of the group ``administrators``: all rights, and no superuser."""
    from django.contrib.auth.models import Group

    from nodes.models import User

    user = User.objects.create_user("ada", password="correct horse battery")
    user.groups.add(Group.objects.get(name="administrators"))
    return user


@pytest.fixture
def operator(groups: None):
    """Somebody with no rights until a test grants them some on one node."""
    from nodes.models import User

    return User.objects.create_user("otto", password="correct horse battery")


@pytest.fixture
def stranger(groups: None):
    """Somebody who may sign in and nothing else."""
    from nodes.models import User

    return User.objects.create_user("stella", password="correct horse battery")
