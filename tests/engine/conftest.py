"""The order of these tests."""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork come first: a process that has used libvirt cannot use it after a fork."""
    items.sort(key=lambda item: not item.path.name.startswith("test_kill"))
