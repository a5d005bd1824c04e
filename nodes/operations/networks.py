"""What a host's network interfaces and libvirt networks are called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostNetworks:
    """Names of the host's network interfaces and of libvirt's active networks; None where they could not be
    read."""

    interfaces: frozenset[str] | None = None
    networks: frozenset[str] | None = None
