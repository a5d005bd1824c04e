"""Sessions of requests that connect only where the network rules allow, for libraries that need such a one.

As checked_http.py does for httpx: on the address that a name was resolved to, without a proxy. An answer has
a bound in bytes, and the whole of a request one in time, whatever flows.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from nodes.errors import AddressDenied, HostTimeout
from nodes.hosts import dial
from nodes.hosts.deadlines import run_within
from nodes.hosts.network_rules import NetworkRules, Purpose

CHUNK = 16_384


class CheckedSession(requests.Session):
    """Follows no redirection, knows no proxy and no ``~/.netrc``.

    Each request, its answer included, takes ``timeout_s`` and has ``most_bytes`` at most. Raises
    requests.RequestException for all that goes wrong, an address that is denied included.
    """

    def __init__(self, rules: NetworkRules, purpose: Purpose, *, timeout_s: float, most_bytes: int) -> None:
        super().__init__()
        self.trust_env = False
        self._timeout_s, self._most_bytes = timeout_s, most_bytes
        self._lines: list[socket.socket] = []
        for scheme in ("https://", "http://"):
            self.mount(scheme, _CheckedAdapter(rules, purpose, self._lines))

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        given = {**kwargs, "timeout": self._timeout_s, "stream": True, "allow_redirects": False}

        def work() -> requests.Response:
            return self._read(super(CheckedSession, self).request(method, url, *args, **given))

        try:
            # A time-out of a socket is one between two bytes; the resolver has its own, in tens of seconds.
            return run_within(work, self._timeout_s, f"The request to {url}")
        except AddressDenied as error:
            raise requests.ConnectionError(error.detail()) from error
        except HostTimeout as error:
            self._hang_up()
            raise requests.Timeout(error.message) from error

    def close(self) -> None:
        super().close()
        for line in self._lines:
            line.close()

    def _read(self, answer: requests.Response) -> requests.Response:
        """The answer with its content, of which requests would else read however much comes."""
        content = bytearray()
        with answer:
            try:
                # What is there, and not until a whole chunk is: it is counted as it comes.
                while part := answer.raw.read1(CHUNK, decode_content=True):
                    content += part
                    if len(content) > self._most_bytes:
                        raise requests.RequestException(f"the answer is longer than {self._most_bytes} bytes")
            except HTTPError as error:
                raise requests.ConnectionError(str(error)) from error
        answer._content, answer._content_consumed = bytes(content), True
        return answer

    def _hang_up(self) -> None:
        """Wake the thread that still reads; it ends then."""
        for line in self._lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


class _CheckedAdapter(HTTPAdapter):
    """Whose pools make connections that are dialled by the rules; ``lines`` gets a second handle of each, as
    TLS takes the first one over."""

    def __init__(self, rules: NetworkRules, purpose: Purpose, lines: list[socket.socket]) -> None:
        self._of_connections = {"rules": rules, "purpose": purpose, "lines": lines}
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        plain = type("CheckedConnection", (_Checked, HTTPConnection), self._of_connections)
        tls = type("CheckedTlsConnection", (_Checked, HTTPSConnection), self._of_connections)
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("CheckedPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("CheckedTlsPool", (HTTPSConnectionPool,), {"ConnectionCls": tls}),
        }

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        raise requests.exceptions.InvalidProxyURL("a proxy would connect in our place, unchecked")


class _Checked:
    """urllib3's connection over a socket of ours; TLS verifies the name of the URL all the same."""

    rules: NetworkRules
    purpose: Purpose
    lines: list[socket.socket]
    host: str
    port: int
    timeout: float

    def _new_conn(self) -> socket.socket:
        try:
            sock = dial.connect(self.host.strip("[]"), self.port, self.timeout, self.rules, self.purpose)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "the connection was not made in time") from error
        except (OSError, UnicodeError) as error:
            raise NewConnectionError(self, str(error)) from error  # type: ignore[arg-type]
        self.lines.append(sock.dup())
        return sock
