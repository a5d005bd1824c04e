"""What a BMC answered while it was asked again and again: told in the end, as it was seen."""

from __future__ import annotations

from nodes.errors import BmcBusy, BmcUnreachable
from nodes.hosts.deadlines import Clock


class Lost(Exception):
    """A request without an answer: the connection ended, or the time. The message says which, and where.

    ``sent`` is False where the request certainly did not reach the service.
    """

    def __init__(self, what: str, *, sent: bool) -> None:
        super().__init__(what)
        self.sent = sent


class Attempts:
    """The attempts of one call under one deadline."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._seen: dict[str, int] = {}
        self._answered = False

    def note(self, what: str, *, answered: bool) -> None:
        self._seen[what] = self._seen.get(what, 0) + 1
        self._answered = self._answered or answered

    def error(self, retry_after_s: float | None = None) -> BmcUnreachable:
        """BmcBusy where the service answered at all, BmcUnreachable where it never did."""
        lines = [f"{what}{_times(count)}" for what, count in self._seen.items()]
        seconds = max(1, round(self._clock.elapsed))
        asks = f" It asks to be tried again in {retry_after_s:.0f} s." if retry_after_s else ""
        message = f"{'; '.join(lines)} in {seconds} s.{asks}"
        if not self._answered:
            return BmcUnreachable(
                f"The BMC at {self._url} did not answer: {message}",
                remedy="Look whether the BMC has power and this machine a way into its network.",
                field="bmc.url",
                extra={"reason": "unreachable"},
            )
        return BmcBusy(
            f"The BMC is busy: {message}",
            remedy="Try again in a minute. If it stays busy, restart the BMC, on its own page or with: "
            "ipmitool mc reset cold. The machine goes on running meanwhile.",
            field="bmc.url",
            extra={"reason": "busy", "retry_after_s": retry_after_s},
        )


def _times(count: int) -> str:
    return ", once" if count == 1 else f", {count} times"
