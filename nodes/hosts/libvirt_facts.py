"""libvirt's part of a host's document: raw XML, and JSON of what its calls answer.

What is slow on some hosts (capabilities) is asked for beside the rest, waited for only so long, and kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import libvirt

from nodes.errors import HostError, HostTimeout, InsufficientRightsOnHost
from nodes.hosts.deadlines import Clock
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.libvirt_errors import LibvirtCallFailed
from nodes.hosts.libvirt_objects import ITEMS, LATE, MAX_XML, READERS, Gathered, Reader
from nodes.inventory.document import SourceOutput, SourceStatus

SLOW_S = 4.0
"""How long a probe waits for capabilities; where they were slow before, a second."""

SLOW_CAPABILITIES = (
    "libvirt is slow to describe what it can do: it starts QEMU anew for every question. This happens where "
    "/dev/kvm is closed to QEMU's user: look at “ls -l /dev/kvm” on the host, which should show mode 0660 "
    "and the group kvm (chgrp kvm /dev/kvm; chmod 0660 /dev/kvm; a package or udev rule may reset it)."
)


@dataclass(slots=True)
class LastGood:
    """The last good answers of one host to slow questions: kept by the caller, updated here.

    An answer that comes after its deadline is still kept, for the next probe.
    """

    texts: dict[str, str] = field(default_factory=dict)
    slow: bool = False
    pending: dict[str, Future[str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


Outputs = dict[str, SourceOutput]


def collect(
    hypervisor: Hypervisor,
    names: Sequence[str],
    *,
    last_good: LastGood | None = None,
    timeout_s: float = 20.0,
) -> Outputs:
    """The libvirt sources ``names`` (those of :class:`nodes.inventory.source.LibvirtSource`) as outputs.

    Never raises for what libvirt answers or leaves unanswered: that is each source's status. What has come
    when the deadline passes is kept.
    """
    clock = Clock(timeout_s)
    memory = last_good if last_good is not None else LastGood()
    gathered = Gathered()
    gathered.expect(name for name in names if name not in ITEMS.values())
    jobs: list[Callable[[], None]] = []
    slow = [name for name in _SLOW if name in names]
    if slow:
        jobs.append(partial(_slow_answers, hypervisor, slow, memory, clock, gathered))
    for group, reader in READERS.items():
        if group in names or ITEMS.get(group) in names:
            jobs.append(partial(_read, hypervisor, group, reader, clock, gathered))
    threads = [threading.Thread(target=job, name="host: libvirt facts", daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(clock.left + 0.1)
    return gathered.taken()


def unavailable(names: Sequence[str], error: HostError) -> Outputs:
    """The outputs of ``names`` where libvirt could not be opened at all."""
    return {name: _failed(name, error) for name in names if name not in ITEMS.values()}


def _read(hypervisor: Hypervisor, name: str, reader: Reader, clock: Clock, gathered: Gathered) -> None:
    started = time.monotonic()
    try:
        hypervisor.run(lambda connection: reader(connection, gathered), what=name, timeout_s=clock.left)
    except HostError as error:
        gathered.set(_failed(name, _late_or(error, clock), time.monotonic() - started))


def _late_or(error: HostError, clock: Clock) -> HostError:
    """At the deadline the connection is dropped under all readers; how each notices it is chance."""
    return HostTimeout(LATE) if clock.passed else error


def _failed(name: str, error: HostError, duration_s: float | None = None) -> SourceOutput:
    status = SourceStatus.FAILED
    if isinstance(error, HostTimeout):
        status = SourceStatus.TIMEOUT
    elif isinstance(error, InsufficientRightsOnHost):
        status = SourceStatus.DENIED
    elif isinstance(error, LibvirtCallFailed) and error.libvirt_code in _NOT_THERE:
        status = SourceStatus.MISSING
    return SourceOutput(name, status, stderr=error.detail(), duration_s=duration_s)


_NOT_THERE = frozenset({libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_CONFIG_UNSUPPORTED})


# -- what may take seconds ------------------------------------------------------------------------


def _slow_answers(
    hypervisor: Hypervisor, names: Sequence[str], memory: LastGood, clock: Clock, gathered: Gathered
) -> None:
    for name in names:
        wait_s = min(clock.left, 1.0 if memory.slow else SLOW_S)
        started = time.monotonic()
        future = _ask(hypervisor, name, memory)
        try:
            text = future.result(wait_s)
        except TimeoutError:
            memory.slow = True
            gathered.set(_kept(name, memory, time.monotonic() - started))
        except HostError as error:
            gathered.set(_failed(name, _late_or(error, clock), time.monotonic() - started))
        else:
            gathered.put(name, text, time.monotonic() - started)


def _ask(hypervisor: Hypervisor, name: str, memory: LastGood) -> Future[str]:
    """The question under way: a new one only where the last one has been answered."""
    with memory.lock:
        pending = memory.pending.get(name)
        if pending is not None:
            return pending
        future: Future[str] = Future()
        memory.pending[name] = future

    def ask() -> None:
        started = time.monotonic()
        try:
            text = hypervisor.run(_SLOW[name], what=name, timeout_s=60.0, drop=False)
        except HostError as error:
            _answered(name, memory)
            future.set_exception(error)
            return
        memory.texts[name] = text
        memory.slow = time.monotonic() - started > SLOW_S / 2
        _answered(name, memory)
        future.set_result(text)

    threading.Thread(target=ask, name=f"host: {name}", daemon=True).start()
    return future


def _answered(name: str, memory: LastGood) -> None:
    with memory.lock:
        memory.pending.pop(name, None)


def _kept(name: str, memory: LastGood, duration_s: float) -> SourceOutput:
    text = memory.texts.get(name)
    if text is None:
        return SourceOutput(name, SourceStatus.TIMEOUT, stderr=SLOW_CAPABILITIES, duration_s=duration_s)
    return SourceOutput(
        name, SourceStatus.OK, text[:MAX_XML], SLOW_CAPABILITIES, duration_s=duration_s, cached=True
    )


_SLOW: Mapping[str, Callable[[libvirt.virConnect], str]] = {
    "libvirt:capabilities": lambda connection: connection.getCapabilities(),
    "libvirt:domain-capabilities": lambda connection: connection.getDomainCapabilities(),
}
