"""What all tests share: three people, and a client for each."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _fresh_process_state() -> object:
    """No test sees another one's throttle counts or connections to hosts."""
    yield
    if "nodes.access" in sys.modules:
        from django.core.cache import cache

        from nodes import access

        cache.clear()
        access.close_pool()


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
