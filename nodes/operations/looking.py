"""The hosts' side of a plan: what runs where, and who could take which VM.

All hosts are asked side by side, each in a thread of its own, under one deadline. A target that is late is
left out and told as such; nobody waits for it who can do without it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from django.utils.translation import gettext as _
from lxml import etree

from nodes import access
from nodes.errors import AddressDenied, HostError, HostTimeout, InvalidInput
from nodes.hosts import migration
from nodes.hosts.deadlines import Clock
from nodes.hosts.domains import compare_cpu, machine_supported
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.name_lookup import addresses_there
from nodes.hosts.shell import Shell
from nodes.operations.host_reading import Host, SeenHost, see
from nodes.operations.plan.host_files import READ_S, HostFile, paths_of, read_files
from nodes.operations.plan.host_state import HostState, Verdict, Verdicts
from nodes.operations.plan.migration_address import leads_nowhere, literal, shown_addresses
from nodes.operations.plan.vm_state import VmState
from nodes.operations.side_by_side import LATE, side_by_side

GRACE_S = 0.4
"""How long the few targets that have not answered yet are waited for at least, counted from the last answer,
once those that have can take all VMs."""
LONG_GRACE_S = 1.5
"""The same where more than a quarter have not answered: they may only just be connected to."""
TARGET_S = 5.0

T = TypeVar("T")
Kinds = Mapping[bytes, Sequence[VmState]]


def target_deadline_s(timeout_s: float) -> float:
    """What one target may take of a plan's whole time ``timeout_s``, in seconds: half of it, 5 s at least,
    and never all of it, so that others can be asked in its place."""
    return max(0.5, min(timeout_s - 1.0, max(TARGET_S, timeout_s / 2)))


@dataclass(frozen=True, slots=True)
class Seen:
    """All answers. ``fits`` by target UUID and VM UUID; ``reach`` by source UUID and target UUID."""

    hosts: Mapping[str, SeenHost]
    fits: Mapping[tuple[str, str], Verdicts]
    reach: Mapping[tuple[str, str], Verdict]


@dataclass(frozen=True, slots=True)
class _TargetAnswer:
    seen: SeenHost
    fits: Mapping[tuple[str, str], Verdicts] = field(default_factory=dict)
    reach: Mapping[tuple[str, str], Verdict] = field(default_factory=dict)


def look(
    sources: Sequence[Host], targets: Sequence[Host], *, timeout_s: float, only: frozenset[str] | None = None
) -> Seen:
    """Ask ``sources`` for their VMs and ``targets`` for room, and which VMs they can take; wait for all.

    ``only`` names the VMs (by UUID) that matter. Never raises for what a host does.
    """
    survey = Survey(sources, timeout_s=timeout_s, only=only)
    survey.ask(targets, own_s=timeout_s, without_vms=True)
    return survey.seen


class Survey:
    """The sources are asked at once; targets are added as batches, each of which is waited for.

    A host that has not answered yet is a :class:`SeenHost` with a fault. What it says while a later batch is
    waited for still counts.
    """

    def __init__(
        self, sources: Sequence[Host], *, timeout_s: float, only: frozenset[str] | None = None
    ) -> None:
        self.clock = Clock(timeout_s)
        self._only = only
        self._sources = {host.uuid: host for host in sources}
        self._kinds: Future[Kinds] = Future()
        self._hosts: dict[str, SeenHost] = {}
        self._fits: dict[tuple[str, str], Verdicts] = {}
        self._reach: dict[tuple[str, str], Verdict] = {}
        self._paths: tuple[str, ...] = ()
        self._files_read = False
        self._waiting: dict[str, Host] = {}
        self._ends: dict[str, float] = {}
        self._answers: queue.SimpleQueue[tuple[str, _TargetAnswer | Exception]] = queue.SimpleQueue()
        self._source_answers = {
            host.uuid: _begin(partial(see, host, self.clock, domains=True, wants_room=False), host.name)
            for host in sources
        }

    @property
    def seen(self) -> Seen:
        """What was answered so far; the others are late."""
        late = {uuid: SeenHost(host, fault=HostTimeout(LATE)) for uuid, host in self._waiting.items()}
        return Seen({**late, **self._hosts}, dict(self._fits), dict(self._reach))

    @property
    def answered(self) -> frozenset[str]:
        """The UUIDs of the hosts that have answered, be it with a fault."""
        return frozenset(self._hosts)

    @property
    def knows_vms(self) -> bool:
        """Whether any source has told its VMs; waits for the sources."""
        self._await_sources()
        return any(self._hosts[uuid].domains is not None for uuid in self._sources)

    def ask(
        self,
        targets: Sequence[Host],
        *,
        own_s: float | None = None,
        patient: Collection[str] = (),
        more: bool = False,
        without_vms: bool = False,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Ask ``targets`` and wait for them, and for those of earlier batches that are late.

        The wait ends when all have answered or each has had ``own_s`` seconds; where there are ``more`` to
        ask, after a third of the whole time. Where half of ``targets`` and
        all the ``patient`` ones (by UUID) have answered, and these are ``enough`` or there are ``more`` to
        ask, it ends as soon as no further one answers within the time that the others took. ``enough`` is
        asked after answers, in this thread. Where no source tells its VMs nobody is waited for, unless
        ``without_vms``.
        """
        started = time.monotonic()
        own_s = target_deadline_s(self.clock.timeout_s) if own_s is None else own_s
        for host in targets:
            self._waiting[host.uuid] = host
            _begin(partial(self._answer, host, own_s), host.name)
        if not self.knows_vms and not without_vms:
            return
        self._read_source_files()
        now = time.monotonic()
        self._ends |= {host.uuid: now + own_s for host in targets}
        batch = {host.uuid for host in targets}
        end = now + (min(own_s, self.clock.timeout_s / 3) if more else own_s)
        while self._take_one(end):
            late = batch & self._waiting.keys()
            if not self._waiting or 2 * len(late) > len(batch) or late & set(patient):
                continue
            if more or enough():
                now = time.monotonic()
                grace_s = GRACE_S if 4 * len(late) <= len(batch) else LONG_GRACE_S
                end = min(end, now + max(grace_s, now - started))

    def _take_one(self, end: float) -> bool:
        """Wait for one more answer, until ``end`` at most; False where none is to be waited for any more."""
        last = max((self._ends[uuid] for uuid in self._waiting), default=0.0)
        now = time.monotonic()
        left = min(self.clock.left, end - now, last - now)
        if not self._waiting or left <= 0:
            return False
        try:
            uuid, answer = self._answers.get(timeout=left)
        except queue.Empty:
            return False
        if isinstance(answer, Exception):
            raise answer
        del self._waiting[uuid]
        self._hosts[uuid] = answer.seen
        self._fits |= answer.fits
        self._reach |= answer.reach
        return True

    def _await_sources(self) -> None:
        """Wait for the sources, once, and let the targets know which VMs they are asked about."""
        if self._kinds.done():
            return
        for uuid, answer in self._source_answers.items():
            try:
                self._hosts[uuid] = answer.result(self.clock.left + 0.05)
            except TimeoutError:
                self._hosts[uuid] = SeenHost(self._sources[uuid], fault=HostTimeout(LATE))
        kinds = _kinds(self._hosts, tuple(self._sources.values()), self._only)
        self._paths = paths_of([vm for vms in kinds.values() for vm in vms])
        self._kinds.set_result(kinds)

    def _read_source_files(self) -> None:
        """Look on the sources for the files that the VMs name, once; what is late is unknown."""
        if self._files_read or not self._paths:
            return
        self._files_read = True
        asked = {
            uuid: job
            for uuid in self._sources
            if (job := _files_job(self._hosts[uuid], self._paths, self.clock)) is not None
        }
        for uuid, found in side_by_side(asked, self.clock).items():
            if isinstance(found, dict):
                self._hosts[uuid].files = found

    def _answer(self, host: Host, own_s: float) -> None:
        """One target's answer into the queue; what nobody expected too, for the thread that waits."""
        try:
            self._answers.put((host.uuid, self._of_target(host, own_s)))
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            self._answers.put((host.uuid, error))

    def _of_target(self, host: Host, own_s: float) -> _TargetAnswer:
        seen = see(host, Clock(min(own_s, self.clock.left)), domains=False, wants_room=True)
        if seen.hypervisor is None or seen.room is None:
            return _TargetAnswer(seen)
        # The wait for the sources is no time of the target's.
        kinds = self._kinds.result(self.clock.left + 1.0)
        if not kinds:
            return _TargetAnswer(seen)
        sources = {uuid: self._hosts[uuid] for uuid in self._sources}
        clock = Clock(min(own_s, self.clock.left))
        return _compared(seen, seen.hypervisor, kinds, sources, self._paths, clock)


def _begin(work: Callable[[], T], name: str) -> Future[T]:
    """Run ``work`` in a thread of its own, which keeps no process from ending."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever takes the result
            outcome.set_exception(error)

    threading.Thread(target=run, name=f"plan: {name}", daemon=True).start()
    return outcome


def host_state(answer: SeenHost, seen: Seen) -> HostState:
    """What ``answer`` and the comparisons told of a host, for the constraints."""
    host = answer.host
    return HostState(
        uuid=host.uuid,
        name=host.name,
        address=host.address,
        address_forced=host.address_forced,
        storage=answer.storage,
        networks=answer.networks,
        names=answer.names,
        room=answer.room,
        verdicts={vm: verdicts for (target, vm), verdicts in seen.fits.items() if target == host.uuid},
        reaches={target: reach for (source, target), reach in seen.reach.items() if source == host.uuid},
        inventory=host.inventory,
        declared=host.declared,
        files=answer.files,
        refusals=host.refusals,
        named_for=host.named_for,
        **answer.more,
    )


# -- who can take which VM -------------------------------------------------------------------------


def _files_job(
    answer: SeenHost, paths: tuple[str, ...], clock: Clock
) -> Callable[[], dict[str, HostFile]] | None:
    """Looks on the host for the files; None where there are none, or no shell to look with."""
    connection = answer.connection
    if not paths or connection is None or not connection.has_shell or answer.fault:
        return None
    return lambda: read_files(connection.shell, paths, min(READ_S, clock.left))


def _compared(
    target: SeenHost,
    hypervisor: Hypervisor,
    kinds: Kinds,
    sources: Mapping[str, SeenHost],
    paths: tuple[str, ...],
    clock: Clock,
) -> _TargetAnswer:
    """The target's answer: which VMs it can take, which sources reach it, which of the named files it has."""
    uuid = target.host.uuid
    comparing = {uuid: partial(_verdicts, hypervisor, kinds)}
    reaching = {
        (source, uuid): partial(_reach, answer, target.host, clock)
        for source, answer in sources.items()
        if source != uuid
    }
    files = _files_job(target, paths, clock)
    looking = {"files": files} if files is not None else {}
    answers = side_by_side({**comparing, **reaching, **looking}, clock)
    if isinstance(found_files := answers.get("files"), dict):
        target.files = found_files
    fits: dict[tuple[str, str], Verdicts] = {}
    for (_key, vms), verdicts in zip(kinds.items(), _or_late(answers.get(uuid), len(kinds)), strict=True):
        fits |= {(uuid, vm.uuid): verdicts for vm in vms}
    reach = {}
    for pair in reaching:
        found = answers.get(pair)
        reach[pair] = found if isinstance(found, tuple) else (None, LATE)
    return _TargetAnswer(target, fits, reach)


def _kinds(
    seen: Mapping[str, SeenHost], sources: Sequence[Host], only: frozenset[str] | None
) -> dict[bytes, list[VmState]]:
    """The active VMs, those together that ask the same of a target's processor and QEMU."""
    found: dict[bytes, list[VmState]] = {}
    for source in sources:
        for vm in seen[source.uuid].domains or ():
            if _may_move(vm, only) and vm.element is not None:
                found.setdefault(_kind(vm.element), []).append(vm)
    return found


def _may_move(vm: VmState, only: frozenset[str] | None) -> bool:
    return vm.facts.active and (only is None or vm.uuid in only)


def _kind(root: etree._Element) -> bytes:
    parts = [root.get("type", "").encode(), root.findtext("devices/emulator", "").encode()]
    for path in ("os/type", "cpu"):
        element = root.find(path)
        if element is not None:
            parts.append(etree.tostring(element, method="c14n"))
    return b"\0".join(parts)


def _verdicts(target: Hypervisor, kinds: Kinds) -> list[Verdicts]:
    """One verdict a kind, in their order: asked for by one VM of each."""
    found = []
    for vms in kinds.values():
        xml = vms[0].facts.xml or ""
        machine = machine_supported(target, xml)
        cpu = compare_cpu(target, xml) if machine[0] is not False else (None, "")
        found.append(Verdicts(machine, cpu))
    return found


def _or_late(answer: object, count: int) -> list[Verdicts]:
    if isinstance(answer, list):
        return answer
    return [Verdicts((None, LATE), (None, LATE))] * count


def _leads_elsewhere(shell: Shell, source: Host, target: Host, clock: Clock) -> str:
    """Why the name at which the target takes migrations is, on the source, no address of the target alone; ""
    where it is one, an address itself, or where that cannot be told. Raises InvalidInput, AddressDenied."""
    if target.address_forced or literal(target.address) is not None:
        return ""
    found = addresses_there(shell, target.address, timeout_s=min(5.0, clock.left))
    for text in found or ():
        access.network_rules().check(text, "migration", name=target.address)
    return next((words for text in found or () if (words := fault_of_address(text, source, target))), "")


def fault_of_address(text: str, source: Host, target: Host) -> str:
    """Why ``text``, an address that the target's name leads to, is not the target's alone; "" where it is, or
    where the inventories do not tell."""
    address, shown = literal(text), shown_addresses(target.inventory.get("net"))
    words = {"address": text, "node": target.name, "source": source.name}
    if address is None:
        return ""
    if leads_nowhere(address) or (shown is not None and address not in shown):
        return _("the name leads to %(address)s, which is no address of %(node)s") % words
    if address in (shown_addresses(source.inventory.get("net")) or ()):
        return _("the name leads to %(address)s, which %(source)s has as well") % words
    return ""


def _reach(source: SeenHost, target: Host, clock: Clock) -> Verdict:
    """Whether the source's host reaches the address at which the target takes migrations."""
    if not target.address:
        return False, ""
    if source.connection is None or not source.connection.has_shell:
        return None, ""
    try:
        access.network_rules().check_literal(target.address, "migration")
        elsewhere = _leads_elsewhere(source.connection.shell, source.host, target, clock)
        if elsewhere:
            return False, elsewhere
        return migration.reachable(source.connection.shell, target.address, timeout_s=min(5.0, clock.left))
    except (AddressDenied, InvalidInput) as error:
        return False, error.message
    except HostError as error:
        return None, error.message
