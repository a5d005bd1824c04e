"""What libvirt says of one domain, turned into plain values; called within :meth:`Hypervisor.run`."""

from __future__ import annotations

from dataclasses import dataclass

import libvirt
from lxml import etree

from nodes.inventory.domain_states import reason_name, state_name
from nodes.inventory.parsing.numbers import integer
from nodes.inventory.xmltext import parse_xml

JOBS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: "migration_out",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: "migration_in",
    libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP: "backup",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: "snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT: "snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_DELETE: "snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "dump",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: "save",
}
"""Words for the jobs of virDomainJobOperation; each other one is ``other``."""


@dataclass(frozen=True, slots=True)
class DomainState:
    state: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A domain as the list gives it; ``state`` is None where only the domain itself can tell."""

    domain: libvirt.virDomain
    uuid: str
    name: str
    active: bool
    persistent: bool | None
    managed_save: bool | None
    autostart: bool | None
    state: DomainState | None


@dataclass(frozen=True, slots=True)
class Size:
    """What a domain may come to use."""

    memory_max_bytes: int | None
    vcpus: int | None


def read_state(domain: libvirt.virDomain) -> DomainState:
    number, reason = domain.state()
    state = state_name(number)
    return DomainState(state, reason_name(state, reason))


def listed(connection: libvirt.virConnect, uuid: str | None = None) -> list[Listed]:
    """All domains, or the one of ``uuid``, by few calls that wait for no QEMU."""
    domains = connection.listAllDomains()
    persistent = _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    saved = _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
    marked = _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)
    states = _states(connection)
    rows = []
    for domain in domains:
        own = domain.UUIDString()
        if uuid is not None and own != uuid.lower():
            continue
        rows.append(
            Listed(
                domain=domain,
                uuid=own,
                name=domain.name(),
                active=domain.ID() >= 0,
                persistent=own in persistent if persistent is not None else None,
                managed_save=own in saved if saved is not None else None,
                autostart=own in marked if marked is not None else None,
                state=states.get(own),
            )
        )
    return rows


def _uuids(connection: libvirt.virConnect, flags: int) -> frozenset[str] | None:
    try:
        return frozenset(domain.UUIDString() for domain in connection.listAllDomains(flags))
    except libvirt.libvirtError:  # a driver without this filter
        return None


def _states(connection: libvirt.virConnect) -> dict[str, DomainState]:
    # Nothing beyond the state: for anything else libvirt asks QEMU, and waits for one that hangs.
    try:
        found = connection.getAllDomainStats(
            libvirt.VIR_DOMAIN_STATS_STATE, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        )
    except libvirt.libvirtError:  # the test driver and old daemons answer for each domain alone
        return {}
    states = {}
    for domain, stats in found:
        state = state_name(stats.get("state.state"))
        if state is not None:
            states[domain.UUIDString()] = DomainState(state, reason_name(state, stats.get("state.reason")))
    return states


def size_of(xml: str | None) -> Size:
    """Memory and virtual processors by a domain's description (https://libvirt.org/formatdomain.html)."""
    root = _parsed(xml) if xml else None
    if root is None:
        return Size(None, None)
    memory, vcpu = root.find("memory"), root.find("vcpu")
    count = (vcpu.get("current") or vcpu.text or "").strip() if vcpu is not None else ""
    return Size(_bytes(memory), integer(count, most=_MOST_VCPUS))


_MOST_VCPUS = 1 << 16
_MOST_KIB = 1 << 50


def _bytes(memory: etree._Element | None) -> int | None:
    # What libvirt writes is always in KiB.
    if memory is None or memory.get("unit", "KiB") != "KiB":
        return None
    text = (memory.text or "").strip()
    kib = integer(text, most=_MOST_KIB)
    return kib * 1024 if kib is not None and kib >= 0 else None


def _parsed(xml: str) -> etree._Element | None:
    return parse_xml(xml)


_REFUSED = (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_ERR_OPERATION_INVALID)
_RECEIVING = (DomainState("paused", "starting_up"), DomainState("paused", "migration"))


def job_of(domain: libvirt.virDomain) -> str | None:
    """The word for the job that runs on an active domain, None for none."""
    try:
        stats = domain.jobStats()
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code == libvirt.VIR_ERR_NO_SUPPORT:
            return None
        if code not in _REFUSED:
            raise
        # The half that receives a migration has no figures and refuses to give any, as does a domain that
        # has just ended.
        return "migration_in" if domain.isActive() and read_state(domain) in _RECEIVING else None
    if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) == libvirt.VIR_DOMAIN_JOB_NONE:
        return None
    return JOBS.get(stats.get("operation", libvirt.VIR_DOMAIN_JOB_OPERATION_UNKNOWN), "other")


def running_block_jobs(domain: libvirt.virDomain, xml: str) -> tuple[str, ...]:
    """Targets of the disks of ``xml`` on which a block job runs (copy, commit, pull, backup)."""
    root = _parsed(xml)
    targets = []
    for disk in root.iterfind("devices/disk") if root is not None else ():
        target = disk.find("target")
        name = target.get("dev") if target is not None else None
        if name is None or disk.get("device", "disk") not in ("disk", "lun"):
            continue
        if disk.find("mirror") is not None or _block_job(domain, name):
            targets.append(name)
    return tuple(targets)


def _block_job(domain: libvirt.virDomain, target: str) -> bool:
    try:
        return bool(domain.blockJobInfo(target))
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_INVALID):
            return False
        raise
