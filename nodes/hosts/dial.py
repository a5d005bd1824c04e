"""Open a TCP connection: a name resolved once, every address judged and tried, under one deadline.

The address that was judged is the one that is connected to: a name server that answers otherwise a moment
later (DNS rebinding) is not asked again.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

from nodes.errors import AddressDenied, HostTimeout, HostUnreachable
from nodes.hosts.deadlines import Clock, run_within
from nodes.hosts.network_rules import NetworkRules, Purpose

_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EACCES}
_Address = tuple[int, tuple[str, int] | tuple[str, int, int, int]]


class PromptSocket(socket.socket):
    """A TCP socket that acknowledges at once what it receives.

    sshd leaves Nagle's algorithm on: it holds a small packet back until the one before is acknowledged, and
    Linux delays that by 40 ms where there is nothing to send along. Each new connection waits for this once,
    and so does every answer that takes two packets. The option lasts for one acknowledgement (tcp(7)).
    """

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data


def dial(
    host: str, port: int, timeout_s: float, rules: NetworkRules, purpose: Purpose = "host"
) -> socket.socket:
    """A connected socket: without Nagle's delay, and noticing within a minute that the peer is gone.

    Raises AddressDenied where ``rules`` let none of its addresses be reached, HostUnreachable, whose
    ``extra["reason"]`` is ``name_unknown``, ``refused``, ``no_route``, ``reset`` or ``network``, or
    HostTimeout when no address answers.
    """
    clock = Clock(timeout_s)
    addresses = _resolve(host, port, clock, rules, purpose)
    failures: list[OSError] = []
    sock = _first(addresses, clock, failures)
    if sock is None:
        raise _explain(host, port, failures, timeout_s)
    return sock


def connect(
    host: str, port: int, timeout_s: float, rules: NetworkRules, purpose: Purpose = "host"
) -> socket.socket:
    """The same for a caller that has a deadline of its own around it, with the socket's own errors.

    Raises AddressDenied, OSError (socket.gaierror for an unknown name), UnicodeError.
    """
    clock = Clock(timeout_s)
    failures: list[OSError] = []
    sock = _first(lookup(host, port, rules, purpose), clock, failures)
    if sock is None:
        raise failures[-1] if failures else TimeoutError("the connection was not made in time")
    return sock


def lookup(host: str, port: int, rules: NetworkRules, purpose: Purpose) -> list[_Address]:
    """The addresses of ``host`` that ``rules`` let be reached; asks the resolver where it is a name.

    Raises AddressDenied where there are only others, socket.gaierror, UnicodeError.
    """
    flags = socket.AI_NUMERICHOST if _is_literal(host) else 0
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return permitted(
        host,
        [(family, address) for family, _, _, _, address in found],  # type: ignore[misc]
        rules,
        purpose,
    )


def permitted(host: str, found: list[_Address], rules: NetworkRules, purpose: Purpose) -> list[_Address]:
    """Those of ``found``, which ``host`` leads to, that may be reached. Raises AddressDenied for none."""
    kept: list[_Address] = []
    refused: AddressDenied | None = None
    for family, address in found:
        try:
            rules.check(str(address[0]), purpose, name=host)
        except AddressDenied as error:
            refused = refused or error
        else:
            kept.append((family, address))
    if not kept and refused is not None:
        raise refused
    return kept


def _first(addresses: list[_Address], clock: Clock, failures: list[OSError]) -> socket.socket | None:
    """A connection to the first address that takes one; None, and why in ``failures``."""
    for position, (family, address) in enumerate(addresses):
        # An IPv6 address that swallows everything leaves time for the IPv4 one behind it.
        share = clock.left / (len(addresses) - position)
        if share <= 0:
            break
        sock = PromptSocket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(share)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failures.append(error)
        else:
            _tune(sock)
            return sock
    return None


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _resolve(host: str, port: int, clock: Clock, rules: NetworkRules, purpose: Purpose) -> list[_Address]:
    def work() -> list[_Address]:
        return lookup(host, port, rules, purpose)

    try:
        # The resolver has time-outs of its own, in tens of seconds; a literal address asks nobody.
        return work() if _is_literal(host) else run_within(work, clock.left, f"Looking up {host}")
    except (socket.gaierror, UnicodeError) as error:
        again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        raise HostUnreachable(
            f"The name {host} could not be looked up: "
            + ("the name server does not answer." if again else "it is not known."),
            remedy="Check the name, or give the host's address.",
            extra={"reason": "name_unknown"},
        ) from error


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    # What was sent and is not acknowledged: otherwise the kernel tries for a quarter of an hour.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)


def _explain(
    host: str, port: int, failures: list[OSError], timeout_s: float
) -> HostUnreachable | HostTimeout:
    numbers = {failure.errno for failure in failures}
    where = f"{host}, port {port}"
    if errno.ECONNREFUSED in numbers:
        return HostUnreachable(
            f"Nothing listens at {where}: the connection was refused.",
            remedy="Check the port, and that sshd runs on the host.",
            extra={"reason": "refused"},
        )
    if not failures or any(isinstance(failure, TimeoutError) for failure in failures):
        return HostTimeout(
            f"No answer from {where} within {timeout_s:g} s.",
            remedy="The host may be down, or a firewall drops what is sent to it.",
            extra={"reason": "silent"},
        )
    if numbers & _NO_ROUTE:
        return HostUnreachable(
            f"There is no route to {where}.",
            remedy="Check the address and this machine's network.",
            extra={"reason": "no_route"},
        )
    text = os.strerror(failures[-1].errno) if failures[-1].errno else "network error"
    reason = "reset" if failures[-1].errno == errno.ECONNRESET else "network"
    return HostUnreachable(f"{where} cannot be reached: {text}.", extra={"reason": reason})
