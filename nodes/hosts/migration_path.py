"""Whether one host can reach another for a migration."""

from __future__ import annotations

import ipaddress
import math
import re
import shlex

from nodes.errors import HostError, InvalidInput
from nodes.hosts.shell import Shell

PORT = 49215
"""The last of the ports that libvirt hands out for migrations (migration_port_max in qemu.conf), which comes
into use with the 64th at once. A lower one may be waiting for its migration, which a stray connection would
break: QEMU takes the first that comes."""
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_REACHED = ("Connection refused",)
_NOT_REACHED = (
    "No route to host",
    "Network is unreachable",
    "Name or service not known",
    "No address associated",
    "Temporary failure in name resolution",
    "Host is unreachable",
)


def checked_address(address: str) -> str:
    """``address`` as it stands in a URI, IPv6 in brackets.

    Raises InvalidInput for what is neither a host's name nor an IP address.
    """
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    try:
        version = ipaddress.ip_address(bare).version
    except ValueError:
        if _NAME.fullmatch(bare) is None:
            raise InvalidInput(
                "A migration address is a host's name or its IP address.", field="migration_address"
            ) from None
        return bare
    return f"[{bare}]" if version == 6 else bare


def migration_uri(address: str) -> str:
    """Where the source's QEMU connects to; the target's libvirt chooses the port. Raises InvalidInput."""
    return f"tcp://{checked_address(address)}"


def reachable(shell: Shell, address: str, *, timeout_s: float = 5.0) -> tuple[bool | None, str]:
    """Whether the host of ``shell`` can reach ``address`` on the ports of migrations, and why not.

    A refused connection is as good as one that stands: nothing listens before a migration. None where the
    host has no bash to try it with, or does not answer. Raises InvalidInput for an impossible address.
    """
    bare = checked_address(address).strip("[]")
    # bash connects by itself, so nothing has to be installed; timeout(1) answers 124 in its own time.
    attempt = f"exec 3<>/dev/tcp/{bare}/{PORT}"
    command = (
        "command -v bash >/dev/null || exit 90; "
        f"LC_ALL=C timeout {math.ceil(timeout_s)} bash -c {shlex.quote(attempt)}"
    )
    try:
        result = shell.run(command, timeout_s=timeout_s + 5)
    except HostError as error:
        return None, error.message
    said = result.stderr.decode("utf-8", errors="replace")
    if result.ok or any(text in said for text in _REACHED):
        return True, ""
    if result.exit_status == 124:
        return False, f"{address} does not answer on port {PORT}: a firewall may drop what is sent to it."
    for text in _NOT_REACHED:
        if text in said:
            return False, f"{address} cannot be reached: {text.lower()}."
    return None, f"Whether {address} can be reached could not be tried: {result.error_text or 'no bash'}."
