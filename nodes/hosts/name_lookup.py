"""Which addresses a host's name leads to, asked here or on a host."""

from __future__ import annotations

import math
import shlex
import socket

from nodes.errors import HostError, HostUnreachable
from nodes.hosts.deadlines import run_within
from nodes.hosts.migration_path import checked_address
from nodes.hosts.shell import Shell

UNKNOWN_STATUS = 2
"""getent(1): one or more keys could not be found."""


def addresses_of(name: str, *, timeout_s: float = 3.0) -> tuple[str, ...]:
    """What this machine's resolver says of ``name``, each address once.

    Raises HostUnreachable where it is not known, HostTimeout.
    """

    def lookup() -> tuple[str, ...]:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        return tuple(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))

    try:
        return run_within(lookup, timeout_s, f"Looking up {name}")
    except (socket.gaierror, UnicodeError) as error:
        raise HostUnreachable(
            f"The name {name} could not be looked up.",
            remedy="Check the name, or give the host's address.",
            extra={"reason": "name_unknown"},
        ) from error


def addresses_there(shell: Shell, name: str, *, timeout_s: float = 5.0) -> tuple[str, ...] | None:
    """What the resolver of ``shell``'s host says of ``name``; empty where it does not know it, None where
    that cannot be told (no ``getent``, no answer). Raises InvalidInput for what is no name."""
    bare = checked_address(name).strip("[]")
    command = f"LC_ALL=C timeout {math.ceil(timeout_s)} getent ahosts {shlex.quote(bare)}"
    try:
        result = shell.run(command, timeout_s=timeout_s + 5)
    except HostError:
        return None
    if result.exit_status == UNKNOWN_STATUS:
        return ()
    if not result.ok:
        return None
    lines = result.stdout.decode("ascii", "replace").splitlines()
    return tuple(dict.fromkeys(line.split()[0].partition("%")[0] for line in lines if line.strip()))
