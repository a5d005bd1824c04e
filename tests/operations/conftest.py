"""Two light hosts for all tests of a module, and for each test two nodes without VMs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodes import access
from nodes.models import Node
from tests.light_nodes import clear, light_node
from tests.lighthosts import AVAILABLE, LightHost, TinyVm, guest_kernel, light_pair

Pair = tuple[LightHost, ...]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if not AVAILABLE:
        pytest.skip("needs root and libvirtd")
    with light_pair(tmp_path_factory.mktemp("pair")) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def obedient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The system of a VM that shuts down when it is asked to."""
    return guest_kernel("obedient", tmp_path_factory.mktemp("guest"))


@pytest.fixture(scope="module")
def restless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The system of a VM whose migration does not converge."""
    return guest_kernel("restless", tmp_path_factory.mktemp("guest"))


@pytest.fixture
def run_vm(pair: Pair) -> Iterator[Callable[..., TinyVm]]:
    """Starts a VM, on the first host unless told otherwise; all are gone after the test."""

    def start(name: str, *, on: LightHost | None = None, **fields: object) -> TinyVm:
        vm = TinyVm(name, **fields)  # type: ignore[arg-type]
        (on or pair[0]).start_vm(vm)
        return vm

    yield start
    access.close_pool()
    for host in pair:
        if not host.is_on:
            host.power_on()
        clear(host)


@pytest.fixture
def nodes(pair: Pair, transactional_db: None, settings: object) -> tuple[Node, ...]:
    """Both hosts as nodes; waits are short."""
    settings.NODEADMIN_SETTLE_S = 20.0  # type: ignore[attr-defined]
    settings.NODEADMIN_POWER_OFF_S = 20.0  # type: ignore[attr-defined]
    settings.NODEADMIN_REBOOT_S = 40.0  # type: ignore[attr-defined]
    settings.NODEADMIN_SILENCE_S = 3.0  # type: ignore[attr-defined]
    return tuple(light_node(host) for host in pair)
