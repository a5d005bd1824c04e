"""Requests to one Redfish service: with the credential in the form it takes, patiently, and to it alone.

DMTF DSP0266. Every request carries HTTP Basic authentication, which section 13.3 requires services to take;
where it is switched off, a session is opened (section 13.3.4) and deleted at the end, as BMCs allow few of
them. What says "later" is asked again until the deadline, at the pace that the service asks for.
"""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

from nodes.errors import BmcFailed, HostTimeout
from nodes.hosts.bmc.answer import REDIRECTS, Answer, path_at, path_of, service_path
from nodes.hosts.bmc.attempts import Attempts, Lost
from nodes.hosts.bmc_line import AnswerTooLong, BmcLine
from nodes.hosts.bmc_target import BmcTarget
from nodes.hosts.certificates import BROKEN_OFF, COMPARE, show_certificate, unreachable
from nodes.hosts.deadlines import Clock

ROOT = "/redfish/v1/"
SESSIONS = "/redfish/v1/SessionService/Sessions"
MAX_HOPS = 5
GOODBYE_S = 3.0
"""For deleting a session; one that cannot be deleted ends by the BMC's own time-out."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait for a BMC, in seconds.

    Between attempts from ``first_pause_s``, doubling, to ``longest_pause_s``. A BMC may tell of a change of
    power up to ``late_s`` after it; it is looked at every ``look_s``.
    """

    first_pause_s: float = 0.5
    longest_pause_s: float = 5.0
    late_s: float = 10.0
    look_s: float = 1.0


PACE = Pace()


class RedfishService:
    """One BMC's service, for one thread. ``timeout_s`` bounds one request, and one call without a ``clock``.

    With ``clock`` all calls together end with it. ``sleep`` is called for every pause, and may raise to end
    the wait.
    """

    def __init__(
        self,
        target: BmcTarget,
        *,
        timeout_s: float,
        clock: Clock | None = None,
        pace: Pace = PACE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.pace = pace
        self.sleep = sleep
        self._clock = clock
        self._line: BmcLine | None = None
        self._token = ""
        self._session = ""
        self._last = ROOT

    def close(self) -> None:
        if self._session:
            self._delete_session()
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def call_clock(self) -> Clock:
        """The deadline of one call."""
        return self._clock if self._clock is not None else Clock(self.timeout_s)

    # -- requests ---------------------------------------------------------------------------------

    def get(self, path: str, clock: Clock | None = None) -> Answer:
        """The answer at ``path`` once it is none that says "later"; redirections within the service followed.

        Raises BmcBusy or BmcUnreachable at the deadline, BmcFailed (not_redfish, authentication_failed, and
        what a certificate may be wrong by).
        """
        clock = clock or self.call_clock()
        for _hop in range(MAX_HOPS):
            answer = self._patiently(partial(self.once, "GET", path, clock=clock), clock)
            if answer.status not in REDIRECTS:
                return answer
            path = self.redirected(path, answer)
        raise self.not_redfish(f"its redirections from {path} do not come to an end")

    def once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        clock: Clock,
        if_match: str | None = None,
    ) -> Answer:
        """One request with the credential, and whatever it is answered with; 401 and 403 are refusals.

        Raises Lost where there is no answer, BmcFailed.
        """
        headers = {"If-Match": if_match} if if_match else {}
        answer = self._send(method, path, body, clock, headers | self._credential())
        if answer.status == 401 and self.target.user:
            # Basic authentication may be off, or the session may have ended.
            self._open_session(clock)
            answer = self._send(method, path, body, clock, headers | self._credential())
        if answer.status in (401, 403) and not answer.says_later:
            raise self._refused(answer)
        return answer

    def redirected(self, path: str, answer: Answer) -> str:
        """Where a redirection leads. Raises BmcFailed for another service, which gets no credential."""
        location = answer.headers.get("location", "")
        found = path_at(self.target.address, path, location)
        if found is None:
            shown = "".join(c for c in location if c.isprintable())[:200]
            raise self.not_redfish(
                f"it answers {path} with HTTP {answer.status} and leads to {shown or 'nowhere'}, "
                "which is not followed"
            )
        return found

    def attempts(self, clock: Clock) -> Attempts:
        return Attempts(self.target.address.url, clock)

    def seen(self, answer: Answer, path: str) -> str:
        """An answer as it is told in an error."""
        words = f" (“{answer.said}”)" if answer.said else ""
        return f"HTTP {answer.status} from {self.target.address.url}{path}{words}"

    def _patiently(self, send: Callable[[], Answer], clock: Clock) -> Answer:
        attempts, pause_s = self.attempts(clock), self.pace.first_pause_s
        while True:
            asked: float | None = None
            try:
                answer = send()
            except Lost as lost:
                attempts.note(str(lost), answered=False)
            else:
                if not answer.says_later:
                    return answer
                asked = answer.retry_after_s
                attempts.note(self.seen(answer, self._last), answered=True)
            wait_s = max(pause_s, asked or 0.0)
            if wait_s >= clock.left:
                raise attempts.error(asked)
            self.sleep(wait_s)
            pause_s = min(2 * pause_s, self.pace.longest_pause_s)

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        clock: Clock,
        headers: Mapping[str, str],
    ) -> Answer:
        self._last = path
        at = f"{self.target.address.url}{path}"
        within_s = min(self.timeout_s, clock.left)
        if within_s <= 0:  # a command that is sent now would be nobody's any more
            raise Lost(f"no time was left to ask {at}", sent=False)
        if self._line is None or self._line.dead:
            self._line = BmcLine(self.target)
        try:
            return self._line.exchange(method, path, body, Clock(within_s), headers)
        except (HostTimeout, httpx.TimeoutException) as error:
            sent = not isinstance(error, httpx.ConnectTimeout)
            raise Lost(f"no answer from {at} within {round(within_s, 1):g} s", sent=sent) from None
        except AnswerTooLong:
            raise self.not_redfish("its answer is too long") from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self._translate(error, at) from error

    def _translate(self, error: Exception, at: str) -> Exception:
        causes = list(_causes(error))
        untrusted = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
        if untrusted is not None:
            return self._certificate_unknown(untrusted.verify_message)
        connected = not isinstance(error, httpx.ConnectError)
        if connected or any(isinstance(cause, BROKEN_OFF) for cause in causes):
            return Lost(f"the connection to {at} was broken off", sent=connected)
        system = next((cause for cause in causes if isinstance(cause, OSError)), error)
        return unreachable(self.target.address.url, system)

    # -- the credential ---------------------------------------------------------------------------

    def _credential(self) -> dict[str, str]:
        if self._token:
            return {"X-Auth-Token": self._token}
        if not self.target.user:
            return {}
        pair = f"{self.target.user}:{self.target.password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}

    def _open_session(self, clock: Clock) -> None:
        """Log in (DSP0266, section 13.3.4). Raises BmcFailed where that is refused as well."""
        if self._session:  # refused, but perhaps counted still
            self._delete_session(min(GOODBYE_S, clock.left))
        self._token = ""
        login = {"UserName": self.target.user, "Password": self.target.password}
        answer, path = self._without_token("POST", self._sessions_path(clock), login, clock)
        token = answer.headers.get("x-auth-token", "")
        if answer.status not in (200, 201) or not token:
            raise self._refused(answer)
        self._token = token
        location = path_of(path, answer.headers.get("location", ""))
        named = location if location != path else None
        self._session = named or service_path((answer.body or {}).get("@odata.id")) or ""

    def _sessions_path(self, clock: Clock) -> str:
        """Where sessions are opened; the service root, which says so, is shown to everybody."""
        root, _path = self._without_token("GET", ROOT, None, clock)
        links = (root.body or {}).get("Links")
        sessions = links.get("Sessions") if isinstance(links, Mapping) else None
        named = service_path(sessions.get("@odata.id")) if isinstance(sessions, Mapping) else None
        return named or SESSIONS

    def _without_token(
        self, method: str, path: str, body: Mapping[str, Any] | None, clock: Clock
    ) -> tuple[Answer, str]:
        """The answer of one who is not logged in, along redirections within the service, and its path."""
        for _hop in range(MAX_HOPS):
            answer = self._patiently(partial(self._send, method, path, body, clock, {}), clock)
            if answer.status not in REDIRECTS or answer.status == 303:
                return answer, path
            path = self.redirected(path, answer)
        raise self.not_redfish(f"its redirections from {path} do not come to an end")

    def _delete_session(self, within_s: float = GOODBYE_S) -> None:
        path, self._session = self._session, ""
        try:
            self._send("DELETE", path, None, Clock(within_s), {"X-Auth-Token": self._token})
        except (Lost, BmcFailed):
            pass
        self._token = ""

    # -- errors -----------------------------------------------------------------------------------

    def _refused(self, answer: Answer) -> BmcFailed:
        words = f": “{answer.said}”" if answer.said else ""
        return self.failed(
            "authentication_failed",
            f"The BMC refused the user or the password (HTTP {answer.status}{words}).",
            remedy="The user needs the right to see the system and to switch its power.",
            field="bmc.password",
        )

    def _certificate_unknown(self, doubt: str) -> BmcFailed:
        address = self.target.address
        shown = show_certificate(
            address.host, address.port, rules=self.target.rules, timeout_s=self.timeout_s
        ).fingerprint
        return self.failed(
            "certificate_unknown",
            f"Nobody vouches for the certificate of {address.url} ({doubt}). Its SHA-256 fingerprint is "
            f"{shown}.",
            remedy=f"{COMPARE}. If they are the same, send it as certificate_fingerprint.",
            field="bmc.certificate_fingerprint",
            shown=shown,
        )

    def not_redfish(self, why: str) -> BmcFailed:
        address = self.target.address.url
        return self.failed(
            "not_redfish",
            f"What answers at {address} is not a Redfish service: {why}.",
            remedy="Give the address of the BMC, and see that Redfish is switched on there.",
            field="bmc.url",
        )

    @staticmethod
    def failed(reason: str, message: str, *, remedy: str = "", field: str = "", **extra: str) -> BmcFailed:
        return BmcFailed(message, remedy=remedy, field=field, extra={"reason": reason, **extra})


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
