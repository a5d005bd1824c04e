"""libvirt's objects read with few round trips, whatever the host has.

Lists come whole, flags (autostart, persistent) by listing with a filter instead of asking each object,
states and memory of all domains by one call.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import libvirt

from nodes.hosts.libvirt_errors import readable
from nodes.inventory.document import SourceOutput, SourceStatus
from nodes.inventory.xmltext import parse_xml

MAX_OBJECTS = 5000
"""Domains, pools or networks described at most, each kind."""
MAX_XML = 1 << 20
"""Characters kept of one description."""
MAX_TOTAL = 16 << 20
"""Of all descriptions together: 1,500 VMs of 10 KiB. Beyond it, none is asked for."""
LATE = "libvirt did not answer before the probe's deadline."


class Gathered:
    """What came so far. Filled by several threads; once taken, late ones change nothing any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outputs: dict[str, SourceOutput] = {}
        self._expected: list[str] = []
        self._room = MAX_TOTAL

    def put(self, name: str, text: str, duration_s: float | None = None, *, xml: bool = True) -> None:
        with self._lock:
            limit = min(MAX_XML, self._room) if xml else self._room
            kept = text[:limit]
            self._room -= len(kept)
            status = SourceStatus.OK if len(kept) == len(text) else SourceStatus.TRUNCATED
            self._outputs[name] = SourceOutput(name, status, kept, duration_s=duration_s)

    @property
    def is_full(self) -> bool:
        return self._room <= 0

    def expect(self, names: Iterable[str]) -> None:
        """These are being asked for; those that do not come in time are said to have timed out."""
        with self._lock:
            self._expected += names

    def set(self, output: SourceOutput) -> None:
        """Note a failure, unless the answer itself came before it."""
        with self._lock:
            self._outputs.setdefault(output.name, output)

    def taken(self) -> dict[str, SourceOutput]:
        with self._lock:
            outputs = dict(self._outputs)
            missing = [name for name in self._expected if name not in outputs]
        for name in missing:
            outputs[name] = SourceOutput(name, SourceStatus.TIMEOUT, stderr=LATE)
        return outputs


def _versions(connection: libvirt.virConnect, gathered: Gathered) -> None:
    facts = {
        "libvirt": connection.getLibVersion(),
        "hypervisor": _or_none(connection.getVersion) or None,
        "type": connection.getType(),
        "hostname": _or_none(connection.getHostname),
        "uri": connection.getURI().partition("?")[0].replace("+unix:", ":"),
        "api": libvirt.getVersion(),
        "secure": bool(connection.isSecure()),
        "encrypted": bool(connection.isEncrypted()),
    }
    gathered.put("libvirt:versions", json.dumps(facts), xml=False)


def _sysinfo(connection: libvirt.virConnect, gathered: Gathered) -> None:
    gathered.put("libvirt:sysinfo", connection.getSysinfo())


def _domains(connection: libvirt.virConnect, gathered: Gathered) -> None:
    domains = connection.listAllDomains()[:MAX_OBJECTS]
    with_autostart = _uuids(connection.listAllDomains, libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)
    persistent = _uuids(connection.listAllDomains, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    saved = _uuids(connection.listAllDomains, libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
    states = _domain_states(connection)
    rows = []
    for domain in domains:
        uuid = domain.UUIDString()
        state = states.get(uuid) or _or_none(partial(_domain_info, domain))
        if state is None:  # it went away since the list was made
            continue
        number = domain.ID()
        rows.append(
            {
                "uuid": uuid,
                "name": domain.name(),
                "id": number if number >= 0 else None,
                **state,
                # Of a domain that does not run, some daemons give their own processor time.
                "cpu_time_ns": state["cpu_time_ns"] if number >= 0 else None,
                "autostart": uuid in with_autostart if with_autostart is not None else None,
                "persistent": uuid in persistent if persistent is not None else number < 0,
                "managed_save": uuid in saved if saved is not None else None,
            }
        )
    gathered.put("libvirt:domains", json.dumps(rows), xml=False)
    gathered.expect(f"libvirt:domain:{row['uuid']}" for row in rows)
    for domain in domains:
        _describe(f"libvirt:domain:{domain.UUIDString()}", domain, gathered)


def _domain_states(connection: libvirt.virConnect) -> dict[str, dict[str, Any]]:
    """State and processor time of all domains by one call.

    Nothing that QEMU itself is asked for (the balloon, single vCPUs): one that hangs would keep the whole
    list waiting. Memory and vCPUs stand in each domain's description.
    """
    what = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    try:
        found = connection.getAllDomainStats(what, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
    except libvirt.libvirtError:  # the test driver and old daemons answer for each domain alone
        return {}
    return {
        domain.UUIDString(): {
            "state": stats["state.state"],
            "reason": stats.get("state.reason", 0),
            "cpu_time_ns": stats.get("cpu.time"),
        }
        for domain, stats in found
        if "state.state" in stats
    }


def _domain_info(domain: libvirt.virDomain) -> dict[str, Any]:
    _, max_memory, memory, vcpus, cpu_time = domain.info()
    state, reason = domain.state()
    return {
        "state": state,
        "reason": reason,
        "max_memory_kib": max_memory,
        "memory_kib": memory,
        "vcpus": vcpus,
        "cpu_time_ns": cpu_time,
    }


def _pools(connection: libvirt.virConnect, gathered: Gathered) -> None:
    pools = connection.listAllStoragePools()[:MAX_OBJECTS]
    with_autostart = _uuids(connection.listAllStoragePools, libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_AUTOSTART)
    persistent = _uuids(connection.listAllStoragePools, libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT)
    rows = []
    for pool in pools:
        uuid = pool.UUIDString()
        info = _or_none(pool.info)
        if info is None:
            continue
        state, capacity, allocation, available = info
        running = state == libvirt.VIR_STORAGE_POOL_RUNNING
        rows.append(
            {
                "uuid": uuid,
                "name": pool.name(),
                "state": state,
                # libvirt knows no sizes of a pool that is not started and says 0.
                "capacity_bytes": capacity if running else None,
                "allocation_bytes": allocation if running else None,
                "available_bytes": available if running else None,
                "autostart": uuid in with_autostart if with_autostart is not None else None,
                "persistent": uuid in persistent if persistent is not None else None,
                "volumes": _or_none(pool.numOfVolumes) if running else None,
            }
        )
    gathered.put("libvirt:pools", json.dumps(rows), xml=False)
    gathered.expect(f"libvirt:pool:{row['uuid']}" for row in rows)
    for pool in pools:
        _describe(f"libvirt:pool:{pool.UUIDString()}", pool, gathered)


def _networks(connection: libvirt.virConnect, gathered: Gathered) -> None:
    networks = connection.listAllNetworks()[:MAX_OBJECTS]
    active = _uuids(connection.listAllNetworks, libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)
    with_autostart = _uuids(connection.listAllNetworks, libvirt.VIR_CONNECT_LIST_NETWORKS_AUTOSTART)
    persistent = _uuids(connection.listAllNetworks, libvirt.VIR_CONNECT_LIST_NETWORKS_PERSISTENT)
    rows = []
    for network in networks:
        uuid = network.UUIDString()
        text = _describe(f"libvirt:network:{uuid}", network, gathered)
        rows.append(
            {
                "uuid": uuid,
                "name": network.name(),
                "active": uuid in active if active is not None else None,
                "autostart": uuid in with_autostart if with_autostart is not None else None,
                "persistent": uuid in persistent if persistent is not None else None,
                "bridge": _bridge_name(text),
            }
        )
    gathered.put("libvirt:networks", json.dumps(rows), xml=False)


def _describe(name: str, described: Any, gathered: Gathered) -> str:
    if gathered.is_full:
        gathered.set(SourceOutput(name, SourceStatus.TRUNCATED, stderr=_FULL))
        return ""
    try:
        text: str = described.XMLDesc(0)
    except libvirt.libvirtError as error:  # the object went away, or is locked by a job of its own
        gathered.set(SourceOutput(name, SourceStatus.FAILED, stderr=readable(error)))
        return ""
    gathered.put(name, text)
    return text


_FULL = f"Not asked for: libvirt's descriptions of this host are longer than {MAX_TOTAL >> 20} MiB together."


def _bridge_name(xml: str) -> str | None:
    root = parse_xml(xml)
    if root is None:
        return None
    bridge = root.find("bridge")
    return bridge.get("name") if bridge is not None else None


def _uuids(list_all: Callable[[int], Sequence[Any]], flags: int) -> frozenset[str] | None:
    """UUIDs of the objects that the filter lets through; None where the driver cannot tell."""
    found = _or_none(lambda: list_all(flags))
    return frozenset(item.UUIDString() for item in found) if found is not None else None


def _or_none(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except libvirt.libvirtError:
        return None


Reader = Callable[[libvirt.virConnect, Gathered], None]
READERS: Mapping[str, Reader] = {
    "libvirt:versions": _versions,
    "libvirt:sysinfo": _sysinfo,
    "libvirt:domains": _domains,
    "libvirt:pools": _pools,
    "libvirt:networks": _networks,
}
ITEMS = {
    "libvirt:domains": "libvirt:domain",
    "libvirt:pools": "libvirt:pool",
    "libvirt:networks": "libvirt:network",
}
