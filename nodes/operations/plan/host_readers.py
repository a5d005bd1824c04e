"""What else a plan asks of each host, source and target alike: one reader for each further field of
:class:`HostState`.

To have a constraint know something more of a host: add a field to ``HostState`` with the default None, and
here a function that reads it, with one entry in ``READERS`` under the field's name. A reader asks the host
(``asking.connection.shell``, ``asking.hypervisor``) within ``asking.within_s`` and changes nothing on it.
Where it raises a HostError its field stays None: the plan goes on, and the constraint says what it could not
verify. Readers run side by side in threads of their own; the database is out of their reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from nodes.errors import NodeAdminError
from nodes.hosts import probe
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.libvirt.host_cpu import HostCpu, read_host_cpu
from nodes.hosts.libvirt.secrets import known_secrets
from nodes.inventory.block import identity
from nodes.inventory.block.identity import HostBlockIdentities
from nodes.inventory.capabilities import Capabilities, parse_capabilities
from nodes.operations.plan import host_resources
from nodes.operations.plan.host_resources import HostResources
from nodes.operations.side_by_side import side_by_side

READER_S = 5.0
"""What one reader may take at most, in seconds."""

SECTIONS: tuple[str, ...] = ("summary", "net")
"""Slugs of the inventory sections whose newest facts ``HostState.inventory`` carries."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A host that answers, and the time left for the whole plan."""

    connection: HostConnection
    hypervisor: Hypervisor
    clock: Clock

    @property
    def within_s(self) -> float:
        """Seconds that the next question may take."""
        return max(0.2, min(READER_S, self.clock.left - 1.0))

    @property
    def in_time(self) -> bool:
        """Whether there is time for another question."""
        return self.clock.left > 1.0


Reader = Callable[[Asking], Any]


def read_more(asking: Asking) -> dict[str, Any]:
    """The values of the readers by field; None where a reader failed, was late, or its turn came too late."""
    if not asking.in_time:
        return dict.fromkeys(READERS)
    answers = side_by_side({name: partial(reader, asking) for name, reader in READERS.items()}, asking.clock)
    return {name: None if isinstance(answer, NodeAdminError) else answer for name, answer in answers.items()}


def read_capabilities(asking: Asking) -> Capabilities | None:
    """libvirt's capabilities of the host (https://libvirt.org/formatcaps.html)."""
    text = asking.hypervisor.run(
        lambda connection: str(connection.getCapabilities()),
        what="Asking for the capabilities",
        timeout_s=asking.within_s,
    )
    found = parse_capabilities(text)
    return found if found != Capabilities() else None


def read_blocks(asking: Asking) -> HostBlockIdentities | None:
    """The host's block devices by what they are, from the kernel, udev, lsblk and LVM."""
    if not asking.connection.has_shell:
        return None
    document = probe.collect(asking.connection, (identity.SECTION,), timeout_s=asking.within_s)
    return identity.read_identities(document)


def read_resources(asking: Asking) -> HostResources | None:
    """What the host has left of what VMs are tied to; None where there is no shell to ask."""
    if not asking.connection.has_shell:
        return None
    answer = asking.connection.shell.run(host_resources.COMMAND, timeout_s=asking.within_s)
    return host_resources.parse_resources(answer.stdout.decode("utf-8", "replace"))


def read_secrets(asking: Asking) -> frozenset[str]:
    return known_secrets(asking.hypervisor, asking.within_s)


def read_cpu(asking: Asking) -> HostCpu | None:
    """The host's processor, for VMs that are given it unchanged."""
    shell = asking.connection.shell if asking.connection.has_shell else None
    return read_host_cpu(shell, asking.hypervisor, timeout_s=asking.within_s)


READERS: Mapping[str, Reader] = {
    "cpu": read_cpu,
    "capabilities": read_capabilities,
    "blocks": read_blocks,
    "resources": read_resources,
    "secrets": read_secrets,
}
