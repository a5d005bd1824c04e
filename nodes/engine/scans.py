"""Looks at addresses that belong to no node yet: for who may scan, a bounded number a minute, on record."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.utils.translation import gettext as _

from nodes import access
from nodes.engine import jump_hosts
from nodes.engine.submit import asking_user
from nodes.engine.waits import waiting
from nodes.errors import InvalidInput, RateLimited
from nodes.events import Actor, Target, record
from nodes.hosts.deadlines import Clock
from nodes.hosts.host_key_scan import HostKeyScan, scan_host
from nodes.hosts.scan_answer import ssh_told_alike
from nodes.hosts.uri import NodeUri
from nodes.permissions import SCAN, require
from nodes.rate_limit import Buckets, read_rate


def scan_host_key(actor: Actor, uri: str, jump_host: str = "") -> tuple[NodeUri, HostKeyScan]:
    """The keys that the host at ``uri`` shows now, asked from ``jump_host`` where one is named. Trusts
    nothing.

    Ends within ``NODEADMIN_HOST_TIMEOUT_S``, and where no SSH server is there, exactly then. Raises
    PermissionDenied, RateLimited, InvalidUri, InvalidInput, AddressDenied, UnknownJumpHost, JumpHostError,
    HostUnreachable, HostTimeout.
    """
    user = asking_user(actor)
    require(user, SCAN)
    through = jump_hosts.chosen(user, jump_host)
    read = access.read_uri(uri)
    if read.transport != "ssh":
        raise InvalidInput(_("Only hosts that are reached over SSH have a host key."), field="uri")
    count_scan(actor, f"{read.host}:{read.port}")
    clock = Clock(settings.NODEADMIN_HOST_TIMEOUT_S)
    with waiting(actor), ssh_told_alike(read.host, read.port, clock):
        return read, scan_host(
            read.host,
            read.port,
            rules=access.network_rules(),
            timeout_s=clock.left,
            jump=access.jump_target(through) if through is not None else None,
        )


def count_scan(actor: Actor, address: str) -> None:
    """Put the look at ``address`` on record. Raises RateLimited where the user has looked too often."""
    wait_s = buckets().take(asking_user(actor).pk)
    if wait_s:
        raise RateLimited(
            _("Too many scans: %(rate)s for each user.") % {"rate": settings.NODEADMIN_SCAN_RATE},
            remedy=_("Try again in %d s.") % (int(wait_s) + 1),
            extra={"retry_after_s": int(wait_s) + 1},
        )
    record(
        "address_scanned",
        _("Scanned %s") % address,
        actor=actor,
        target=Target("address", address, address),
    )


@cache
def buckets() -> Buckets:
    """The scans of each user, in this process."""
    return Buckets(read_rate(settings.NODEADMIN_SCAN_RATE))
