"""What libvirt says of one domain, turned into plain values; called within :meth:`Hypervisor.run`."""

from __future__ import annotations

from dataclasses import dataclass

import libvirt
from lxml import etree

from nodes.inventory.domain_states import reason_name, state_name

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
    memory_max_bytes: int | None
    vcpus: int | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A domain as the list gives it; ``state`` is None where only the domain itself can tell."""

    domain: libvirt.virDomain
    uuid: str
    name: str
    active: bool
    persistent: bool | None
    managed_save: bool | None
    state: DomainState | None

    def read_state(self) -> DomainState:
        """Asked of the domain itself, which waits where its QEMU is busy."""
        _, memory_kib, _, vcpus, _ = self.domain.info()
        number, reason = self.domain.state()
        state = state_name(number)
        return DomainState(state, reason_name(state, reason), memory_kib * 1024, vcpus)


def listed(connection: libvirt.virConnect, uuid: str | None = None) -> list[Listed]:
    """All domains, or the one of ``uuid``, by few calls that wait for no QEMU."""
    domains = connection.listAllDomains()
    persistent = _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    saved = _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
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
    what = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_BALLOON | libvirt.VIR_DOMAIN_STATS_VCPU
    try:
        found = connection.getAllDomainStats(what, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
    except libvirt.libvirtError:  # the test driver and old daemons answer for each domain alone
        return {}
    states = {}
    for domain, stats in found:
        state = state_name(stats.get("state.state"))
        if state is None:
            continue
        memory_kib = stats.get("balloon.maximum")
        states[domain.UUIDString()] = DomainState(
            state,
            reason_name(state, stats.get("state.reason")),
            memory_kib * 1024 if memory_kib is not None else None,
            stats.get("vcpu.current"),
        )
    return states


def job_of(domain: libvirt.virDomain) -> str | None:
    """The word for the job that runs on an active domain, None for none."""
    try:
        stats = domain.jobStats()
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code == libvirt.VIR_ERR_NO_SUPPORT:
            return None
        # The half that receives a migration has no figures and refuses to give any, as does a domain that
        # has just ended; only the former is paused by a migration.
        if code == libvirt.VIR_ERR_OPERATION_INVALID:
            return "migration_in" if _is_receiving(domain) else None
        raise
    if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) == libvirt.VIR_DOMAIN_JOB_NONE:
        return None
    return JOBS.get(stats.get("operation", libvirt.VIR_DOMAIN_JOB_OPERATION_UNKNOWN), "other")


def _is_receiving(domain: libvirt.virDomain) -> bool:
    return bool(domain.isActive()) and domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED


def running_block_jobs(domain: libvirt.virDomain, xml: str) -> tuple[str, ...]:
    """Targets of the disks of ``xml`` on which a block job runs (copy, commit, pull, backup)."""
    root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False))
    targets = []
    for disk in root.iterfind("devices/disk"):
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
