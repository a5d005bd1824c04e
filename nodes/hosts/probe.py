"""Take a host's document: the probe script over one channel, and libvirt's part beside it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from nodes.errors import HostError, ProbeFailed
from nodes.hosts import libvirt_facts, stop_signal
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.libvirt_facts import LastGood, Outputs
from nodes.hosts.shell import CommandResult, CommandTimeout, ConnectionLost
from nodes.inventory.document import HostDocument
from nodes.inventory.parsing.bounds import bounded
from nodes.inventory.probe_watch import ProbeWatch
from nodes.inventory.registry import all_libvirt_sources, all_sources
from nodes.inventory.script import PROBE_SOURCE, build_script, parse_output
from nodes.inventory.section import Section
from nodes.inventory.source import Source

MAX_OUTPUT = 8 << 20
"""Bytes of one probe, fifteen times what a large host prints; each source is bounded besides, on the host."""


def collect(
    connection: HostConnection,
    sections: Sequence[Section[Any]],
    *,
    last_good: LastGood | None = None,
    timeout_s: float = 30.0,
) -> HostDocument:
    """The document of everything that ``sections`` read.

    The shell's sources and libvirt's are read side by side. What is missing, denied, slow or broken is a
    status of its source; a libvirt that cannot be reached is one of all its sources. Raises HostTimeout or
    HostUnreachable where the host gave nothing at all, ProbeFailed where its shell ran no script.
    """
    clock = Clock(timeout_s)
    observed_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    names = [source.name for source in all_libvirt_sources(sections)]
    sources = all_sources(sections)
    libvirt_outputs: list[Outputs] = []
    libvirt_thread = threading.Thread(
        target=lambda: libvirt_outputs.append(_ask_libvirt(connection, names, last_good, clock)),
        name="host: libvirt part",
        daemon=True,
    )
    libvirt_thread.start()
    outputs = dict(_run_script(connection, sources, clock)) if connection.has_shell and sources else {}
    waiting = Clock(clock.left + 1)
    while libvirt_thread.is_alive() and not waiting.passed:
        libvirt_thread.join(stop_signal.slice_of(waiting.left))
        stop_signal.check()
    if libvirt_outputs:
        outputs |= libvirt_outputs[0]
    return bounded(HostDocument(observed_at, outputs, connection.transport, connection.user))


def _ask_libvirt(
    connection: HostConnection, names: Sequence[str], last_good: LastGood | None, clock: Clock
) -> Outputs:
    if not names:
        return {}
    try:
        hypervisor = connection.hypervisor(min(clock.left, connection.deadlines.libvirt_s))
    except HostError as error:
        return libvirt_facts.unavailable(names, error)
    return libvirt_facts.collect(hypervisor, names, last_good=last_good, timeout_s=clock.left)


@cache
def _script(sources: tuple[Source, ...]) -> bytes:
    return build_script(sources, sudo=True).encode("utf-8", errors="surrogateescape")


def _run_script(connection: HostConnection, sources: tuple[Source, ...], clock: Clock) -> Outputs:
    try:
        result = connection.shell.run(
            "exec sh -s",
            stdin=connection.shell.elevation.assignment + _script(sources),
            timeout_s=clock.left,
            max_bytes=MAX_OUTPUT,
            watch=ProbeWatch(),
        )
    except (CommandTimeout, ConnectionLost) as cut:
        # What had come is whole as far as it goes: each source carries its length in front.
        outputs = dict(parse_output(cut.partial.stdout, sources))
        if PROBE_SOURCE not in outputs:
            raise
        return outputs
    outputs = dict(parse_output(result.stdout, sources))
    if PROBE_SOURCE not in outputs:
        raise _no_output(connection, result)
    return outputs


def _no_output(connection: HostConnection, result: CommandResult) -> ProbeFailed:
    said = result.error_text or result.stdout[:200].decode("utf-8", errors="replace")
    shown = " ".join("".join(c if c.isprintable() else " " for c in said).split())[:200]
    status = "" if result.exit_status is None else f" (exit status {result.exit_status})"
    return ProbeFailed(
        f"The shell of “{connection.user}” on {connection.address} did not run the probe{status}"
        + (f": {shown}" if shown else "."),
        remedy="The user needs a login shell, and the host sh, coreutils, grep and util-linux.",
    )
