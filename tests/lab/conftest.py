"""Fixtures that give tests real hosts. They know nothing of Django.

Hosts are started when the first test needs one, all that the run will need at once, and live until its end.
With NODEADMIN_LAB=shared they are those of `script/lab up`, and stay: quick while one test is being written.
"""

import os
import warnings
from collections.abc import Iterator

import pytest

from tests.lab.errors import LabError
from tests.lab.hardware import SPECS
from tests.lab.host import LabHost
from tests.lab.lab import Lab

_FIXTURES = {f"lab_{name}": name for name in SPECS}
_BY_THEMSELVES = ("trixie",)
"""Hosts that one module needs: started with it and ended after it, they slow no other test down."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks whatever uses a lab host as `lab`, which nobody can then forget, with time for boots."""
    for item in items:
        if _hosts_of(item):
            item.add_marker(pytest.mark.lab)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(1500))


def _hosts_of(item: pytest.Item) -> list[str]:
    used = getattr(item, "fixturenames", [])
    return [name for fixture, name in _FIXTURES.items() if fixture in used]


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab of this run, with the hosts that its tests use switched on but not yet up."""
    shared = os.environ.get("NODEADMIN_LAB") == "shared"
    lab = Lab.shared() if shared else Lab.private()
    try:
        asked = (name for item in request.session.items for name in _hosts_of(item))
        lab.start(dict.fromkeys(name for name in asked if name not in _BY_THEMSELVES))
        yield lab
    finally:
        if not shared:
            lab.down()


@pytest.fixture(scope="session")
def lab_rich(lab: Lab) -> LabHost:
    """A host with the full emulated hardware."""
    return _ready(lab, "rich")


@pytest.fixture(scope="session")
def lab_plain(lab: Lab) -> LabHost:
    """A host with one disk and one cell."""
    return _ready(lab, "plain")


@pytest.fixture(scope="session")
def lab_spare(lab: Lab) -> LabHost:
    """A second plain host."""
    return _ready(lab, "spare")


@pytest.fixture(scope="module")
def lab_trixie(lab: Lab) -> Iterator[LabHost]:
    """A plain host of Debian 13, with a systemd that lets inhibitors stop root too."""
    host = _ready(lab, "trixie")
    yield host
    if os.environ.get("NODEADMIN_LAB") != "shared":
        host.power_cut()


def _ready(lab: Lab, name: str) -> LabHost:
    """The host, up. One that does not come up well is started afresh, once.

    Starved of processor time, one boot in many goes wrong within Debian itself, and every test of that host
    would fail for it.
    """
    lab.start([name])
    try:
        lab.wait_until_ready([name])
    except LabError as error:
        warnings.warn(f"started afresh: {error}", stacklevel=1)
        lab.host(name).power_cut()
        lab.start([name])
        lab.wait_until_ready([name])
    return lab.host(name)


@pytest.fixture(autouse=True)
def mended_hosts(request: pytest.FixtureRequest) -> None:
    """Brings back the test's hosts where the test before left them off, frozen or cut off."""
    for fixture in _FIXTURES:
        if fixture in request.fixturenames:
            host: LabHost = request.getfixturevalue(fixture)
            host.mend()
