"""HTTPS to one BMC, of which every exchange ends in time and with a bounded answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import httpx

from nodes.errors import HostTimeout
from nodes.hosts.bmc.answer import Answer
from nodes.hosts.bmc_target import BmcTarget
from nodes.hosts.certificates import bmc_context
from nodes.hosts.checked_http import CheckedTransport
from nodes.hosts.deadlines import Clock, run_within

MAX_ANSWER = 1 << 20


class AnswerTooLong(Exception):
    """The answer has more than :data:`MAX_ANSWER` bytes."""


class BmcLine:
    """A client for one BMC, for one caller at a time.

    httpx bounds each wait for bytes and nothing else: a BMC that drips them, or a name server that is silent,
    would hold the caller for ever. So an exchange runs in a thread, which is cut off at its deadline and then
    closes what it used; the line is of no use after that (``dead``).
    """

    def __init__(self, target: BmcTarget) -> None:
        self.dead = False
        self._guard = threading.Lock()
        self._busy = False
        self._context = bmc_context(target.fingerprint)
        self._client = httpx.Client(
            base_url=target.address.url,
            transport=CheckedTransport(target.rules, "bmc", self._context),
            # Neither a proxy of the environment nor a redirection gets to see the credential.
            trust_env=False,
            follow_redirects=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "OData-Version": "4.0"},
        )

    def exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        clock: Clock,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Answer:
        """Send one request, with these header fields beside the usual ones.

        Raises HostTimeout, AddressDenied, AnswerTooLong, httpx's errors, and what the context raises for a
        certificate that differs.
        """
        with self._guard:
            self._busy = True
        try:
            return run_within(
                lambda: self._in_its_thread(method, path, body, clock, headers),
                clock.left,
                f"{method} {path}",
            )
        except HostTimeout:
            self._abandon()
            raise

    def close(self) -> None:
        if not self.dead:
            self.dead = True
            self._client.close()

    def _abandon(self) -> None:
        with self._guard:
            self.dead = True
            if not self._busy:  # it has ended in this very moment
                self._client.close()
        self._context.cut()

    def _in_its_thread(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        clock: Clock,
        headers: Mapping[str, str],
    ) -> Answer:
        try:
            return self._send(method, path, body, clock, headers)
        finally:
            with self._guard:
                self._busy = False
                if self.dead:
                    self._client.close()

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        clock: Clock,
        headers: Mapping[str, str],
    ) -> Answer:
        raw = bytearray()
        with self._client.stream(
            method, path, json=body, headers=dict(headers), timeout=max(clock.left, 0.001)
        ) as response:
            for chunk in response.iter_raw():
                raw += chunk
                if len(raw) > MAX_ANSWER:
                    raise AnswerTooLong
                if clock.passed:
                    raise httpx.ReadTimeout("the answer did not end")
            found = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status_code, found, bytes(raw))
