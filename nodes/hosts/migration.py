"""Live migration of a VM from host to host, driven from here over the two connections to libvirt.

This is libvirt's managed direct migration (https://libvirt.org/migration.html): the data goes from QEMU to
QEMU, the daemons know nothing of each other, and this process leads them through five calls: begin (source),
prepare (target), perform (source), finish (target: the VM runs there), confirm (source: its half is removed).
Post-copy is never used: a VM whose memory is in two places dies with either of them.

Where a call ends in an error, nothing is concluded from that: :func:`settle` looks at both hosts.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import libvirt

from nodes.errors import (
    HostError,
    HostTimeout,
    InsufficientRightsOnHost,
    LibvirtUnavailable,
    MigrationAborted,
    MigrationFailed,
    MigrationNotConverging,
    MigrationTimeout,
    MigrationTlsFailed,
)
from nodes.hosts.deadlines import Clock
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.libvirt.convergence import Convergence, Patience, Sample, explained
from nodes.hosts.libvirt.disk_paths import parameters_for
from nodes.hosts.libvirt.refusal import refusal_of
from nodes.hosts.libvirt_errors import readable, translate
from nodes.hosts.migration_path import migration_uri, reachable
from nodes.hosts.settling import Outcome, settle

T = TypeVar("T")

__all__ = ["Manner", "Outcome", "Patience", "Progress", "migrate", "reachable", "settle"]

POLL_S = 0.4
ASK_S = 5.0
SILENT_S = 45.0
"""A source whose libvirt has told nothing for so long is given up."""
FINISH_S = 60.0
"""How long a VM may stand still between the hosts before the connections are given up. Its last memory takes
well under a second, and the target's libvirt seconds at most."""
ABORT_S = 20.0
"""What an abort may take until the call has ended."""
CUT_S = 5.0
_ABOUT_TLS = re.compile(r"\bTLS\b|\btls-|certificate|credentials|handshake|x509|GNUTLS", re.IGNORECASE)
"""In libvirt's and QEMU's words for an encryption that did not come about."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a VM is migrated.

    ``encrypted``: QEMU sends it by TLS, or not at all. ``verified_name`` is the name that the target's
    certificate has to have, "" where that is the migration address itself (as libvirt before 6.0 demands).
    ``auto_converge``: a guest that changes its memory too fast is slowed down. ``bandwidth_mib_s`` None: no
    bound. ``disk_paths`` are the paths of its block devices on the target, by their paths here, where they
    differ. ``skip_storage_check``: its files are shared, though libvirt may not know their file system for
    such.
    """

    encrypted: bool = False
    verified_name: str = ""
    auto_converge: bool = False
    bandwidth_mib_s: int | None = None
    disk_paths: Mapping[str, str] = field(default_factory=dict)
    skip_storage_check: bool = False


PLAIN = Manner()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a migration is: ``fraction`` from 0 to 1 and never less than before, None until libvirt counts.

    ``remaining_bytes`` may grow: memory that the guest writes to meanwhile has to go again. ``dirty_bytes_s``
    is how fast it does, ``throttle_percent`` how much auto-converge slows it down; None where not told.
    """

    fraction: float | None
    remaining_bytes: int | None
    speed_bytes_s: float | None
    elapsed_s: float
    dirty_bytes_s: float | None = None
    throttle_percent: int | None = None


def _nobody(_: Progress) -> None:
    """Progress that nobody wants to see."""


def _never() -> bool:
    return False


def migrate(
    source: Hypervisor,
    target: Hypervisor,
    uuid: str,
    *,
    address: str,
    timeout_s: float,
    manner: Manner = PLAIN,
    patience: Patience | None = None,
    on_progress: Callable[[Progress], None] = _nobody,
    should_stop: Callable[[], bool] = _never,
) -> None:
    """Move the active VM ``uuid`` to ``target``, whose migration address is ``address`` (a name or an IP).

    ``manner`` is how. Both callbacks are called in this thread, every half second or so. ``timeout_s`` is
    what the VM's memory may take, and ``patience`` how long it may get no nearer to its end; at the end of
    either the migration is aborted and the VM stays where it is. This returns some 30 s later at most,
    whatever hangs; the connections are then cut, the source's first, which makes it impossible that the
    source goes on with the VM while the target may have started it.

    Returns where the VM has moved, even if a stop was asked for too late. Raises MigrationTimeout,
    MigrationNotConverging, MigrationAborted, MigrationTlsFailed, MigrationFailed (libvirt's words),
    LibvirtUnavailable (a connection ended), InsufficientRightsOnHost. After any of them the VM may be at
    either side: ask :func:`settle`, with connections that stand.
    """
    call = _Call(source, target, uuid, migration_uri(address), manner)
    try:
        call.start()
        _Watch(call, Clock(timeout_s), patience or Patience(), on_progress, should_stop).run()
    except BaseException:
        # A callback failed: a migration that nobody follows must not go on.
        if not call.ended.is_set():
            call.end(ABORT_S)
        raise
    finally:
        call.close()
    on_progress(Progress(1.0, 0, None, call.elapsed_s))


class _Call:
    """The one long call, in a thread of its own: it cannot be interrupted, only made to end.

    It has connections of its own as well, which may be cut without hurting what else is done on these hosts;
    questions beside it go over the ones that were given.
    """

    def __init__(self, source: Hypervisor, target: Hypervisor, uuid: str, uri: str, manner: Manner) -> None:
        self.uuid = uuid
        self.ended = threading.Event()
        self.error: Exception | None = None
        self._started = time.monotonic()
        self._parameters: dict[str, str | int] = {libvirt.VIR_MIGRATE_PARAM_URI: uri}
        self.manner = manner
        if manner.bandwidth_mib_s is not None:
            self._parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = manner.bandwidth_mib_s
        if manner.encrypted and manner.verified_name:
            self._parameters[libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION] = manner.verified_name
        self._given = self._asked = source
        self.source = source.another()
        try:
            self.target = target.another()
        except HostError:
            self.source.close()
            raise
        self.target.on_loss(self.target_lost)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"host: migration of {self.uuid}", daemon=True).start()

    def _run(self) -> None:
        try:
            with self.source.borrowed() as here, self.target.borrowed() as there:
                domain = here.lookupByUUIDString(self.uuid)
                flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
                if self.manner.skip_storage_check:
                    flags |= libvirt.VIR_MIGRATE_UNSAFE
                if self.manner.encrypted:
                    flags |= libvirt.VIR_MIGRATE_TLS
                if self.manner.auto_converge:
                    flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE
                autostart = False
                if domain.isPersistent():
                    flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
                    autostart = bool(domain.autostart())
                parameters = self._parameters | parameters_for(domain, self.manner.disk_paths)
                moved = domain.migrate3(there, parameters, flags)
                if autostart:
                    # A definition travels without this mark, and its VM would stay off after a power cut.
                    moved.setAutostart(True)
        except Exception as error:  # noqa: BLE001 - raised by the thread that waits for it
            # Its frames hold libvirt's objects, whose end, in whatever thread, is a call to the host.
            self.error = error.with_traceback(None)
        finally:
            self.ended.set()

    def ask_source(self, question: Callable[[libvirt.virDomain], T], what: str) -> T:
        """Ask the source about the VM. Raises HostError."""
        if not self._asked.alive:
            self._asked = self._asked.another(ASK_S)
        return self._asked.run(
            lambda connection: question(connection.lookupByUUIDString(self.uuid)),
            what=what,
            timeout_s=ASK_S,
            drop=False,
        )

    def close(self) -> None:
        """Let go of the connections: the source's first, as in :meth:`cut`."""
        self.source.close()
        self.target.close()
        if self._asked is not self._given:
            self._asked.close()

    def abort(self) -> None:
        """Ask for the end of the job; nothing happens where none has begun yet or it is over."""
        try:
            self.ask_source(lambda domain: domain.abortJob(), "Aborting a migration")
        except HostError:
            return

    def end(self, abort_s: float) -> None:
        """Abort, again and again for ``abort_s`` (before the job begins there is none to abort); then cut."""
        clock = Clock(abort_s)
        while not clock.passed and not self.ended.is_set():
            self.abort()
            self.ended.wait(POLL_S)
        if not self.ended.is_set():
            self.cut()

    def cut(self) -> None:
        """Make the call end by ending its connections.

        First the source's, waiting a moment: libvirt then cancels at the target. Were it the target's,
        libvirt would take the lost answer to “finish” for a failure and let the VM go on at the source,
        while the target may run it already.
        """
        self.source.cut()
        if not self.ended.wait(CUT_S):
            self.target.cut()
            self.ended.wait(CUT_S)

    def target_lost(self) -> None:
        """The target's connection has ended, which libvirt does not know yet: it learns when this returns.

        As long as the VM runs at the source, “finish” cannot have been sent, and libvirt may undo. Once it
        stands still, “finish” may have been carried out and only the answer be lost: the source must not
        be told to go on.
        """
        if self.ended.is_set():
            return
        try:
            known = self.ask_source(_state, "Looking at a VM")
        except HostError:
            known = _BETWEEN
        if known == _BETWEEN:
            self.source.cut()
        else:
            self.abort()


_BETWEEN = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)


def _state(domain: libvirt.virDomain) -> tuple[int, int]:
    state, reason = domain.state()
    return state, reason


def _state_and_job(domain: libvirt.virDomain) -> tuple[tuple[int, int], dict[str, Any]]:
    return _state(domain), domain.jobStats()


_CONVERGE = {
    False: "Plan it again with auto_converge, which slows the VM's processors down until it converges, allow "
    "more bandwidth (NODEADMIN_MIGRATION_BANDWIDTH_MIB_S), or shut the VM down.",
    True: "Slowing the VM's processors down was not enough. Allow more bandwidth "
    "(NODEADMIN_MIGRATION_BANDWIDTH_MIB_S), try it when the VM is less busy, or shut the VM down.",
}
"""What helps, by whether auto-converge was on."""


class _Watch:
    """Follows the call from the thread that asked for it, and ends it where it has to end."""

    def __init__(
        self,
        call: _Call,
        clock: Clock,
        patience: Patience,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._call = call
        self._clock = clock
        self._convergence = Convergence(patience)
        self._stalled = False
        self._on_progress = on_progress
        self._should_stop = should_stop
        self._fraction: float | None = None
        self._heard = time.monotonic()
        self._between_since: float | None = None

    def run(self) -> None:
        """Wait for the end; raise what it was."""
        call = self._call
        stopped: HostError | None = None
        while stopped is None and not call.ended.wait(POLL_S):
            stopped = self._why_stop()
            if stopped is None:
                self._look()
        if stopped is not None:
            call.end(0.0 if isinstance(stopped, LibvirtUnavailable) else ABORT_S)
        if not call.ended.is_set():
            raise HostTimeout(
                f"The call for the migration from {call.source.address} to {call.target.address} hangs."
            )
        if call.error is not None:
            raise self._explain(call.error, stopped)

    def _why_stop(self) -> HostError | None:
        call, now = self._call, time.monotonic()
        if self._should_stop():
            return MigrationAborted()
        # Once the VM stands between the hosts, an abort comes too late: the end is a matter of moments.
        if self._clock.passed and self._between_since is None:
            return MigrationTimeout(
                f"The migration had not ended after {self._clock.timeout_s:g} s and was aborted. "
                f"{explained(self._convergence.last)}",
                remedy="Try it again when the VM is less busy, or allow more time or bandwidth.",
            )
        if self._stalled and self._between_since is None:
            return MigrationNotConverging(
                f"The migration does not converge and was aborted. {explained(self._convergence.last)}",
                remedy=_CONVERGE[call.manner.auto_converge],
            )
        if now - self._heard > SILENT_S:
            return LibvirtUnavailable(f"libvirt on {call.source.address} has stopped answering.")
        if self._between_since is not None and now - self._between_since > FINISH_S:
            return LibvirtUnavailable(f"libvirt on {call.target.address} does not finish the migration.")
        return None

    def _look(self) -> None:
        try:
            state, stats = self._call.ask_source(_state_and_job, "Following a migration")
        except HostError:
            # The VM has just left, or the connection has: the call itself is about to tell which.
            return
        self._heard = time.monotonic()
        if state != _BETWEEN:
            self._between_since = None
        elif self._between_since is None:
            self._between_since = time.monotonic()
        self._stalled = self._convergence.stalled(self._heard, Sample.of(stats))
        self._on_progress(self._progress(stats))

    def _progress(self, stats: dict[str, Any]) -> Progress:
        # A job of type NONE has not begun or is over already; which of them, it does not say.
        total, remaining = stats.get("data_total", 0), stats.get("data_remaining")
        if stats.get("type") == libvirt.VIR_DOMAIN_JOB_NONE or remaining is None or total <= 0:
            return Progress(self._fraction, None, None, self._call.elapsed_s)
        done = min(0.99, max(0.0, 1 - remaining / total))
        self._fraction = max(done, self._fraction or 0.0)
        speed = stats.get("memory_bps")
        sample = self._convergence.last
        return Progress(
            self._fraction,
            remaining,
            float(speed) if speed is not None else None,
            self._call.elapsed_s,
            sample.dirty_bytes_s if sample is not None else None,
            sample.throttle_percent if sample is not None else None,
        )

    def _explain(self, error: Exception, stopped: HostError | None) -> Exception:
        call = self._call
        if not isinstance(error, libvirt.libvirtError):
            return error
        failure = translate(error, "The migration", call.source.address)
        if isinstance(failure, InsufficientRightsOnHost):
            return failure
        text = readable(error)
        if isinstance(stopped, LibvirtUnavailable | MigrationTimeout | MigrationNotConverging):
            return stopped
        if isinstance(stopped, MigrationAborted):
            return MigrationAborted(f"The migration was aborted as asked: {text}")
        for side in (call.source, call.target):
            if not side.alive:
                return LibvirtUnavailable(
                    f"The connection to libvirt on {side.address} ended during the migration: {text}",
                    remedy="Look at it on the host: systemctl status libvirtd (or virtqemud).",
                )
        if isinstance(failure, LibvirtUnavailable):
            return failure
        if call.manner.encrypted and _ABOUT_TLS.search(text):
            return MigrationTlsFailed(
                f"The migration from {call.source.address} to {call.target.address} could not be encrypted, "
                f"and nothing was sent without encryption: {text}",
                remedy="Put the certificates of QEMU right on both hosts (see qemu.conf, "
                "migrate_tls_x509_cert_dir), refresh both nodes and plan it again.",
            )
        failed = MigrationFailed(
            f"The migration from {call.source.address} to {call.target.address} failed: {text}"
        )
        failed.refusal = refusal_of(error.get_error_code(), text)
        return failed
