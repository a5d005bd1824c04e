"""The VMs of a host as an operation needs them: what each does right now, and how it is told to do otherwise.

Every call has a deadline. One domain whose QEMU hangs costs its own facts, never those of the others.
Source: https://libvirt.org/html/libvirt-libvirt-domain.html.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import libvirt

from nodes.errors import HostError, HostTimeout, LibvirtUnavailable, MigrationFailed
from nodes.hosts.deadlines import Clock
from nodes.hosts.domain_reading import JOBS, Listed, job_of, listed, read_state, running_block_jobs, size_of
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.libvirt_errors import LibvirtCallFailed
from nodes.hosts.placement import Room, compare_cpu, machine_supported, room

T = TypeVar("T")

DETAIL_S = 4.0
"""How long one domain's own answers may take before it is left out of the details."""
AT_ONCE = 6
"""Domains asked at once: one that hangs then holds up few others."""
MAX_DESCRIPTION = 1 << 19
"""Characters of one domain's description: a VM with 1,000 disks has as many. Taken apart it needs twenty
times as much memory."""
MAX_DESCRIPTIONS = 32 << 20
"""Of all domains of a host together."""
STOP_S = 60.0
"""Ending a QEMU: libvirt itself gives up after some 30 s, and a large guest's memory takes seconds."""
START_S = 180.0

__all__ = [
    "JOBS",
    "DomainFacts",
    "Room",
    "compare_cpu",
    "find_domain",
    "force_off",
    "is_active",
    "keep_autostart",
    "known_names",
    "list_domains",
    "live_description",
    "machine_supported",
    "remove_remnant",
    "resume",
    "room",
    "shut_down",
    "start",
]


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """One domain. None: could not be read, which ``problems`` explains; () of block jobs and None of a job
    then say nothing either.
    """

    uuid: str
    name: str
    state: str | None
    """A word of :mod:`nodes.inventory.domain_states`: running, paused, shutoff, …"""
    reason: str | None
    active: bool
    """Whether it has a process."""
    persistent: bool | None
    managed_save: bool | None
    memory_max_bytes: int | None
    vcpus: int | None
    xml: str | None
    """The live description of an active domain, else its configuration."""
    job: str | None
    """None, or one of :data:`JOBS`."""
    block_jobs: tuple[str, ...]
    """Targets (``vda``) of the disks that a block job runs on."""
    snapshots: int | None
    autostart: bool | None = None
    """Whether libvirt starts it with its host."""
    problems: tuple[str, ...] = ()
    """What could not be read, in libvirt's words."""


def list_domains(hypervisor: Hypervisor, *, timeout_s: float = 15.0) -> tuple[DomainFacts, ...]:
    """All domains of the host, in the order of their names.

    Raises HostError where the list itself could not be read; what one domain does not answer is None.
    """
    clock = Clock(timeout_s)
    rows = hypervisor.run(listed, what="Listing VMs", timeout_s=clock.left)
    if not rows:
        return ()
    kept = _Kept()
    with ThreadPoolExecutor(min(AT_ONCE, len(rows)), thread_name_prefix="host: domain") as pool:
        found = list(pool.map(lambda row: _with_details(hypervisor, row, clock, kept), rows))
    return tuple(sorted((facts for facts in found if facts is not None), key=lambda f: (f.name, f.uuid)))


def known_names(hypervisor: Hypervisor, *, timeout_s: float = 15.0) -> dict[str, str]:
    """The UUIDs of all domains of the host by their names, switched off ones too. Raises HostError."""

    def work(connection: libvirt.virConnect) -> dict[str, str]:
        return {domain.name(): domain.UUIDString() for domain in connection.listAllDomains()}

    return hypervisor.run(work, what="Asking for the names of VMs", timeout_s=timeout_s)


def find_domain(hypervisor: Hypervisor, uuid: str, *, timeout_s: float = 15.0) -> DomainFacts | None:
    """One domain; None where the host does not know it. Raises HostError where that cannot be told."""
    clock = Clock(timeout_s)
    rows = hypervisor.run(
        lambda connection: listed(connection, uuid), what="Looking at a VM", timeout_s=clock.left
    )
    return _with_details(hypervisor, rows[0], clock, _Kept()) if rows else None


def is_active(hypervisor: Hypervisor, uuid: str, *, timeout_s: float = 15.0) -> bool | None:
    """Whether the domain has a process; None where the host does not know it. One call, of which no QEMU has
    to know. Raises HostError where that cannot be told."""
    return _of_one(hypervisor, uuid, lambda domain: bool(domain.isActive()), timeout_s)


def live_description(hypervisor: Hypervisor, uuid: str, *, timeout_s: float = 15.0) -> str | None:
    """The XML of an active domain as it is now; None where it is off or unknown. Raises HostError."""

    def read(domain: libvirt.virDomain) -> str | None:
        return str(domain.XMLDesc(0)) if domain.isActive() else None

    return _of_one(hypervisor, uuid, read, timeout_s)


def _of_one(
    hypervisor: Hypervisor, uuid: str, question: Callable[[libvirt.virDomain], T], timeout_s: float
) -> T | None:
    """The answer of the domain; None where the host does not know it."""

    def work(connection: libvirt.virConnect) -> T:
        return question(connection.lookupByUUIDString(uuid))

    try:
        return hypervisor.run(work, what="Looking at a VM", timeout_s=timeout_s, drop=False)
    except LibvirtCallFailed as error:
        if error.libvirt_code == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


class _Kept:
    """The descriptions that are kept of one host, bounded together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = MAX_DESCRIPTIONS

    def takes(self, text: str) -> bool:
        with self._lock:
            fits = len(text) <= min(MAX_DESCRIPTION, self._left)
            self._left -= len(text) if fits else 0
            return fits


def _with_details(hypervisor: Hypervisor, row: Listed, clock: Clock, kept: _Kept) -> DomainFacts | None:
    """The facts of one domain; None where it has gone since the list was made."""
    problems: list[str] = []

    def ask(what: str, question: Callable[[], T]) -> T | None:
        if clock.passed or (problems and problems[-1].endswith(_HANGS)):
            problems.append(f"{what}: not asked.")
            return None
        try:
            return hypervisor.run(
                lambda _: question(), what=what, timeout_s=min(DETAIL_S, clock.left), drop=False
            )
        except HostTimeout:
            # The connection stays: the answers of all others come over it.
            problems.append(f"{what}: {_HANGS}")
        except LibvirtUnavailable:
            raise
        except HostError as error:
            problems.append(error.message)
        return None

    domain = row.domain
    state = row.state or ask("Its state", lambda: read_state(domain))
    xml = ask("Its description", lambda: str(domain.XMLDesc(0)))
    if xml is not None and not kept.takes(xml):
        xml = None
        problems.append("Its description: longer than any VM has.")
    snapshots = ask("Its snapshots", lambda: int(domain.snapshotNum()))
    job = ask("Its job", lambda: job_of(domain) or "") if row.active else ""
    block_jobs = ask("Its block jobs", lambda: running_block_jobs(domain, xml)) if row.active and xml else ()
    if state is None and xml is None and not _is_there(hypervisor, row.uuid, clock):
        return None
    size = size_of(xml)
    return DomainFacts(
        uuid=row.uuid,
        name=row.name,
        state=state.state if state else None,
        reason=state.reason if state else None,
        active=row.active,
        persistent=row.persistent,
        managed_save=row.managed_save,
        memory_max_bytes=size.memory_max_bytes,
        vcpus=size.vcpus,
        xml=xml,
        job=job or None,
        block_jobs=block_jobs or (),
        snapshots=snapshots,
        autostart=row.autostart,
        problems=tuple(problems),
    )


_HANGS = "its QEMU or libvirt does not answer."


def _is_there(hypervisor: Hypervisor, uuid: str, clock: Clock) -> bool:
    try:
        hypervisor.run(
            lambda connection: connection.lookupByUUIDString(uuid),
            what="Looking at a VM",
            timeout_s=min(DETAIL_S, clock.left),
            drop=False,
        )
    except LibvirtCallFailed as error:
        return bool(error.libvirt_code != libvirt.VIR_ERR_NO_DOMAIN)
    except HostTimeout:
        return True
    return True


# -- telling one what to do -----------------------------------------------------------------------


def shut_down(hypervisor: Hypervisor, uuid: str) -> bool:
    """Ask the guest to shut down, and return at once; it may take its time, or not listen.

    False where it cannot be asked, as its guest does not run: it is paused, say. No error where it is off
    already or going off, or not known at all.
    """

    def work(connection: libvirt.virConnect) -> bool:
        domain = _lookup(connection, uuid)
        if domain is not None and domain.isActive():
            _unless(lambda: domain.shutdown(), lambda: not _runs(connection, uuid))
            return not _stands(connection, uuid)
        return True

    return hypervisor.run_apart(work, what="Asking a VM to shut down", timeout_s=STOP_S)


def force_off(hypervisor: Hypervisor, uuid: str) -> None:
    """End the VM's process. No error where it is off already, or not known at all."""

    def work(connection: libvirt.virConnect) -> None:
        domain = _lookup(connection, uuid)
        if domain is not None and domain.isActive():
            _unless(lambda: domain.destroy(), lambda: not _active(connection, uuid))

    hypervisor.run_apart(work, what="Forcing a VM off", timeout_s=STOP_S)


def start(hypervisor: Hypervisor, uuid: str) -> None:
    """Start a defined VM. No error where it runs already. Raises LibvirtCallFailed where it is not known."""

    def work(connection: libvirt.virConnect) -> None:
        domain = connection.lookupByUUIDString(uuid)
        if not domain.isActive():
            _unless(lambda: domain.create(), lambda: _active(connection, uuid))

    hypervisor.run_apart(work, what="Starting a VM", timeout_s=START_S)


def resume(hypervisor: Hypervisor, uuid: str) -> None:
    """Let a paused VM run on. No error where it runs already."""

    def work(connection: libvirt.virConnect) -> None:
        domain = connection.lookupByUUIDString(uuid)
        if domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
            _unless(lambda: domain.resume(), lambda: domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING)

    hypervisor.run_apart(work, what="Resuming a VM", timeout_s=STOP_S)


def remove_remnant(hypervisor: Hypervisor, uuid: str) -> None:
    """Destroy and undefine what a migration that has finished left of the VM on its source.

    Firmware variables and TPM state stay: on shared storage they are the running VM's. No error where nothing
    is left. Raises MigrationFailed, touching nothing, where the VM found is no such remnant: it is active,
    and not paused by a migration.
    """

    def work(connection: libvirt.virConnect) -> None:
        domain = _lookup(connection, uuid)
        if domain is None:
            return
        persistent = bool(domain.isPersistent())
        if domain.isActive():
            if tuple(domain.state()) != (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION):
                raise MigrationFailed(
                    f"The VM on {hypervisor.address} is active, and not paused by a migration."
                )
            _unless(lambda: domain.destroy(), lambda: not _active(connection, uuid))
        if persistent:
            _undefine(connection, uuid)

    hypervisor.run_apart(work, what="Removing what a migration left", timeout_s=STOP_S)


def keep_autostart(source: Hypervisor, target: Hypervisor, uuid: str) -> None:
    """Have the VM started with the target's libvirt where it is with the source's, and is defined on both."""

    def marked(connection: libvirt.virConnect) -> bool:
        domain = _lookup(connection, uuid)
        return domain is not None and bool(domain.isPersistent()) and bool(domain.autostart())

    def mark(connection: libvirt.virConnect) -> None:
        domain = _lookup(connection, uuid)
        if domain is not None and domain.isPersistent():
            domain.setAutostart(True)

    what = "Keeping a VM's autostart"
    if source.run(marked, what=what):
        target.run(mark, what=what)


def _undefine(connection: libvirt.virConnect, uuid: str) -> None:
    domain = _lookup(connection, uuid)
    if domain is None:
        return
    keep = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
    try:
        domain.undefineFlags(keep | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM)
    except libvirt.libvirtError as error:
        # Before libvirt 8.9 there is no flag for the TPM, whose state was then never removed with it.
        if error.get_error_code() not in (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT):
            raise
        domain.undefineFlags(keep)


def _unless(act: Callable[[], object], already: Callable[[], bool]) -> None:
    """Do it; where libvirt refuses and it has come about meanwhile by itself, that is no failure."""
    try:
        act()
    except libvirt.libvirtError as error:
        gone = (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN)
        if error.get_error_code() not in gone or not already():
            raise


def _lookup(connection: libvirt.virConnect, uuid: str) -> libvirt.virDomain | None:
    try:
        return connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _active(connection: libvirt.virConnect, uuid: str) -> bool:
    domain = _lookup(connection, uuid)
    return domain is not None and bool(domain.isActive())


def _runs(connection: libvirt.virConnect, uuid: str) -> bool:
    domain = _lookup(connection, uuid)
    running = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED)
    return domain is not None and domain.state()[0] in running


def _stands(connection: libvirt.virConnect, uuid: str) -> bool:
    """Whether it has a process and its guest does not run, nor is about to end."""
    domain = _lookup(connection, uuid)
    still = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED, libvirt.VIR_DOMAIN_CRASHED)
    return domain is not None and bool(domain.isActive()) and domain.state()[0] in still
