"""HTTP clients that connect only where the network rules allow: on the address that a name was resolved to.

A redirection is a request of its own, and goes through the same door.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

from nodes.hosts.dial import lookup
from nodes.hosts.network_rules import NetworkRules, Purpose


class CheckedTransport(httpx.HTTPTransport):
    """For ``httpx.Client(transport=…, trust_env=False)``: a proxy would connect in our place, unchecked.

    TLS verifies the name of the URL, though the connection goes to the address. Requests raise AddressDenied
    and httpx's errors. No time bound of name resolution: run a request under a deadline.
    """

    def __init__(self, rules: NetworkRules, purpose: Purpose, context: ssl.SSLContext | None = None) -> None:
        context = context or httpx.create_ssl_context(trust_env=False)
        super().__init__(verify=context, trust_env=False)
        # HTTPTransport has no parameter for it; httpcore's pool does.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=10,
            max_keepalive_connections=2,
            keepalive_expiry=5.0,
            network_backend=_CheckedBackend(rules, purpose),
        )


class _CheckedBackend(httpcore.NetworkBackend):
    """Resolves once, judges, and connects to what was judged."""

    def __init__(self, rules: NetworkRules, purpose: Purpose) -> None:
        self._rules = rules
        self._purpose = purpose
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = lookup(host, port, self._rules, self._purpose)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from error
        failure: Exception = httpcore.ConnectError("the name leads to no address")
        for _family, address in addresses:
            # A zone belongs to a link-local address alone, and stands last.
            zone = f"%{address[3]}" if len(address) == 4 and address[3] else ""
            try:
                return self._plain.connect_tcp(
                    f"{address[0].partition('%')[0]}{zone}",
                    port,
                    timeout and timeout / len(addresses),
                    local_address,
                    socket_options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        raise httpcore.ConnectError("a Unix socket is no address")

    def sleep(self, seconds: float) -> None:
        self._plain.sleep(seconds)
