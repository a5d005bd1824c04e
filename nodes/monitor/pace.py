"""What a monitor goes by: the settings, in one object."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from nodes.monitor.evidence import Timing


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """Seconds, and counts."""

    timing: Timing
    lease_s: float = 8.0
    refresh_s: float = 900.0
    threads: int = 16
    cut_off_share: float = 0.5

    @classmethod
    def from_django(cls) -> MonitorSettings:
        return cls(
            timing=Timing(period_s=settings.NODEADMIN_BEAT_S),
            lease_s=settings.NODEADMIN_MONITOR_LEASE_S,
            refresh_s=settings.NODEADMIN_REFRESH_S,
            threads=settings.NODEADMIN_MONITOR_THREADS,
            cut_off_share=settings.NODEADMIN_CUT_OFF_SHARE,
        )
