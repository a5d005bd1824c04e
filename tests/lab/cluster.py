"""A server with lab hosts as its nodes, and what the hosts themselves say of their VMs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from tests.browser.serving import Server
from tests.lab.client import ApiClient
from tests.lab.host import LabHost
from tests.patience import Deadline, slowness

# libvirt-domain.h: of virDomainState, and of virDomainRunningReason the one for a VM that came by migration.
_STATS = re.compile(r"Domain: '(.+)'\n\s+state.state=(\d+)\n\s+state.reason=(\d+)")
_CLEAR = (
    "for vm in $(virsh list --name); do virsh -q destroy $vm; done; "
    "for vm in $(virsh list --all --name); do virsh -q undefine $vm; done"
)
_RUNNING, _MIGRATED = "1", "2"


class Cluster:
    """``with Cluster(folder, hosts) as cluster:`` has added each host as the node ``lab-NAME``."""

    def __init__(self, folder: Path, *hosts: LabHost, **environment: str) -> None:
        slow = slowness()
        patient = {
            "NODEADMIN_HOST_TIMEOUT_S": f"{15 * slow:.0f}",
            "NODEADMIN_PROBE_TIMEOUT_S": f"{60 * slow:.0f}",
            "NODEADMIN_POWER_OFF_S": f"{300 * slow:.0f}",
        }
        self.server = Server(folder, patient | environment)
        self.hosts = hosts

    def __enter__(self) -> Self:
        self.server.prepare()
        self.server.manage("collectstatic", "--noinput", "--verbosity", "0")
        self.api = ApiClient(self.server.url, self.server.token())
        self.server.start()
        asked = [self.add(host) for host in self.hosts]
        for operation in asked:
            self.api.succeeded(operation)
        for host in self.hosts:
            status, answer = self.api("update-node", node=self.node(host), migration_address=host.lan_address)
            assert status == 200, answer
        self.ready()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.server.stop()

    @staticmethod
    def node(host: LabHost) -> str:
        return f"lab-{host.name}"

    def add(self, host: LabHost) -> str:
        """Asks for the host to be added; gives the operation."""
        status, answer = self.api(
            "add-node",
            name=self.node(host),
            uri=host.uri(),
            host_key_fingerprint=host.fingerprints["ssh-ed25519"],
            credential={"kind": "ssh_key", "private_key": host.private_key.read_text()},
        )
        assert status == 202, answer
        return str(answer["id"])

    def describe(self, host: LabHost) -> dict[str, Any]:
        status, answer = self.api("describe-node", node=self.node(host))
        assert status == 200, answer
        return answer

    def ready(self, timeout_s: float = 120) -> None:
        """Returns once every node is enabled and online."""
        for host in self.hosts:
            if self.describe(host)["scheduling"]["state"] != "enabled":
                assert self.api("enable-node", node=self.node(host))[0] == 200
        for host in self.hosts:
            until(
                lambda host=host: self.describe(host)["status"] == "online", f"{host.name} online", timeout_s
            )

    def places(self) -> dict[str, list[tuple[str, str, str]]]:
        """VM to (host, state, reason) wherever it is active, by virsh on the hosts, in libvirt's numbers."""
        found: dict[str, list[tuple[str, str, str]]] = {}
        with ThreadPoolExecutor() as pool:
            told = pool.map(lambda host: host.run("virsh domstats --state --list-active").stdout, self.hosts)
        for host, text in zip(self.hosts, told, strict=True):
            for name, state, reason in _STATS.findall(text):
                found.setdefault(name, []).append((host.name, state, reason))
        return found

    def runs_once(self, *, migrated: bool | None = None, **expected: LabHost) -> None:
        """Asserts that exactly these VMs are active, each running on its one host.

        ``migrated`` says whether they have come there by a migration, and not by being started.
        """
        places = self.places()
        assert {name: [place[:2] for place in at] for name, at in places.items()} == {
            name: [(host.name, _RUNNING)] for name, host in expected.items()
        }
        if migrated is not None:
            assert all((at[0][2] == _MIGRATED) is migrated for at in places.values()), places

    def clear(self) -> None:
        """Removes all VMs from all hosts."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: host.run(_CLEAR, check=False, timeout_s=180), self.hosts))


def until(done: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
    deadline = Deadline(timeout_s)
    while not done():
        if deadline.over():
            raise AssertionError(f"not within {deadline.seconds:g} s: {what}")
        time.sleep(0.5)


def qemu_pid(host: LabHost, name: str) -> int:
    """The process of a VM: while it stays the same, nobody has stopped and started it."""
    return int(host.run(f"cat /run/libvirt/qemu/{name}.pid").stdout)


def boots(host: LabHost) -> int:
    """How often the host has been started since its disk was new."""
    return len(host.run("journalctl --list-boots --no-pager -q").stdout.splitlines())
