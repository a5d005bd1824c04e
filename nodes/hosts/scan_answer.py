"""What a look at an unknown address says of it: the SSH server or BMC that is there, and nothing of others.

Whoever may have this server look at any address could map the network around it: which ports are open, behind
which a firewall is, what answers there. So all of that is one answer, given at one time; what really happened
is in the server's log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from nodes.errors import AddressDenied, BmcUnreachable, HostError, HostUnreachable, JumpHostError
from nodes.hosts.bmc_target import BmcAddress
from nodes.hosts.deadlines import Clock

log = structlog.get_logger(__name__)

_OF_SSH = frozenset({"no_common_algorithm", "name_unknown"})


@contextmanager
def ssh_told_alike(host: str, port: int, clock: Clock, *, field: str = "uri") -> Iterator[None]:
    """Raise what happened inside only where an SSH server is there, and otherwise the one error for all
    addresses where none is, when ``clock`` is over. ``field`` is where the caller was given the address."""
    try:
        yield
    except HostError as error:
        told = isinstance(error, AddressDenied | JumpHostError) or error.extra.get("greeted")
        if told or _reason(error) in _OF_SSH:
            raise
        _keep(error, f"{host}:{port}", clock)
    else:
        return
    raise HostUnreachable(
        f"No SSH server answered at {host}, port {port} within {clock.timeout_s:g} s.",
        remedy="Check the address and the port, that sshd runs on the host, and that no firewall is between. "
        "The server's log says what was found.",
        field=field,
        extra={"reason": "no_ssh_server"},
    )


@contextmanager
def bmc_told_alike(address: BmcAddress, clock: Clock) -> Iterator[None]:
    """The same for a BMC: errors of what was shown to be a Redfish service are raised with ``extra`` saying
    ``redfish``; that member is taken out here."""
    try:
        yield
    except HostError as error:
        redfish = error.extra.pop("redfish", False)
        if isinstance(error, AddressDenied) or redfish:
            raise
        _keep(error, address.url, clock)
    else:
        return
    raise BmcUnreachable(
        f"No Redfish service answered at {address.url} within {clock.timeout_s:g} s.",
        remedy="Check the address, that the BMC has power and Redfish is switched on there, and that no "
        "firewall is between. The server's log says what was found.",
        field="bmc.url",
        extra={"reason": "no_redfish_service"},
    )


def _reason(error: HostError) -> str:
    return str(error.extra.get("reason", ""))


def _keep(error: HostError, where: str, clock: Clock) -> None:
    """Log what is not told, and wait until it could have been anything."""
    log.info("a look at an address", address=where, reason=_reason(error) or error.code, detail=error.message)
    time.sleep(clock.left)
