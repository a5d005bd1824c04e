"""Whether a live migration gets any nearer to its end.

Memory goes in passes: each sends what the guest has written to since the pass before it, and the last one has
to be so small that the guest can stand still for it (https://libvirt.org/migration.html, QEMU's
docs/devel/migration). A guest that writes faster than the network takes makes every pass as long as the one
before, for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

SHRUNK = 0.99
"""A pass has got smaller where it is below this part of the smallest one before it."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Patience:
    """When a migration counts as one that does not converge: for so many seconds, and in so many passes, none
    was smaller than the smallest before. ``seconds`` 0: never."""

    seconds: float = 300.0
    passes: int = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a running migration; None: not told (yet).

    ``passes`` is the number of the pass under way, from 1; ``dirty_bytes_s`` what the guest writes to in a
    second, ``sent_bytes_s`` what goes over the network; ``throttle_percent`` how much auto-converge slows the
    guest's processors down.
    """

    passes: int | None
    remaining_bytes: int | None
    dirty_bytes_s: float | None
    sent_bytes_s: float | None
    throttle_percent: int | None

    @classmethod
    def of(cls, stats: Mapping[str, Any]) -> Self:
        """The sample out of libvirt's job statistics (VIR_DOMAIN_JOB_* of virDomainGetJobStats)."""
        pages, size = stats.get("memory_dirty_rate"), stats.get("memory_page_size")
        sent = stats.get("memory_bps")
        return cls(
            passes=stats.get("memory_iteration"),
            remaining_bytes=stats.get("memory_remaining"),
            dirty_bytes_s=1.0 * pages * size if pages and size else None,
            sent_bytes_s=1.0 * sent if sent is not None else None,
            throttle_percent=stats.get("auto_converge_throttle"),
        )


class Convergence:
    """Follows one migration, sample by sample."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._pass = 0
        self._largest = 0
        self._smallest_pass: int | None = None
        self._throttle = 0
        self._since: float | None = None
        self._passes_since = 0
        self.last: Sample | None = None

    def stalled(self, now: float, sample: Sample) -> bool:
        """Whether at ``now`` (seconds of a steady clock) it has got no nearer for long enough."""
        self.last = sample
        if self._patience.seconds <= 0 or sample.passes is None or sample.remaining_bytes is None:
            return False
        if sample.passes != self._pass:
            self._pass_ended(now, sample.passes)
        self._largest = max(self._largest, sample.remaining_bytes)
        if (sample.throttle_percent or 0) > self._throttle:
            # Slowed down further, the guest is another one: it gets the whole time again.
            self._throttle = sample.throttle_percent or 0
            self._progress(now)
        if self._since is None or self._pass < 2:
            return False
        waited = now - self._since >= self._patience.seconds
        return waited and self._passes_since >= self._patience.passes

    def _pass_ended(self, now: float, number: int) -> None:
        """Judge the pass that has ended by the most that was left in it."""
        if self._pass >= 2:
            if self._smallest_pass is None or self._largest < SHRUNK * self._smallest_pass:
                self._smallest_pass = self._largest
                self._progress(now)
            else:
                self._passes_since += number - self._pass
        elif number >= 2:
            # The first pass, over the whole memory, takes what it takes.
            self._progress(now)
        self._pass, self._largest = number, 0

    def _progress(self, now: float) -> None:
        self._since, self._passes_since = now, 0


def explained(sample: Sample | None) -> str:
    """Why it does not end, in a sentence with the guest's dirty rate."""
    if sample is None or sample.dirty_bytes_s is None:
        text = "The VM changes its memory faster than it can be sent (libvirt tells no dirty rate)"
    elif sample.sent_bytes_s is None:
        text = f"The VM changes {_rate(sample.dirty_bytes_s)} of its memory"
    else:
        text = (
            f"The VM changes {_rate(sample.dirty_bytes_s)} of its memory, and the migration sends "
            f"{_rate(sample.sent_bytes_s)}"
        )
    if sample is not None and sample.throttle_percent:
        text += f", with the VM's processors slowed down by {sample.throttle_percent} %"
    return f"{text}."


def _rate(bytes_s: float) -> str:
    return f"{bytes_s / MIB:.1f} MiB/s" if bytes_s < 10 * MIB else f"{bytes_s / MIB:.0f} MiB/s"
