"""Whether a migration between two hosts is sent encrypted, by what their inventories tell of QEMU's
certificates and by the setting ``NODEADMIN_MIGRATION_TLS``.

Decided in the plan and confirmed with it: a migration that was confirmed as encrypted is sent by TLS or not
at all. Whether the certificates are good in the end, the handshake tells; this is what can be known before.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from nodes.inventory.libvirt.migration_tls import MigrationTls
from nodes.inventory.parsing.x509 import Certificate
from nodes.operations.plan.host_state import HostState
from nodes.operations.plans import Reason

REQUIRE, PREFER, OFF = "require", "prefer", "off"
AS_TARGET = ("ca-cert.pem", "server-cert.pem", "server-key.pem")
AS_SOURCE = ("ca-cert.pem",)
AS_KNOWN_SOURCE = ("client-cert.pem", "client-key.pem")
"""What a source needs besides, where the target asks who it is."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """How VMs are sent from one host to another.

    ``encrypted`` None: nothing was decided. ``verified_name`` is what the target's certificate has to name,
    "" where that is the migration address. ``notes`` say why they are not encrypted where they could have
    been. ``reasons``: they cannot be sent at all.
    """

    encrypted: bool | None = None
    verified_name: str = ""
    notes: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()


def encryption(source: HostState, target: HostState, *, mode: str, now: datetime) -> Encryption:
    """How VMs go from ``source`` to ``target``. ``mode`` is the setting's word, ``now`` has a time zone."""
    here, there = tls_of(source), tls_of(target)
    if mode == OFF:
        return _plain(source, here, target, there, _("NODEADMIN_MIGRATION_TLS is off."), told=False)
    why = next(_obstacles(source, here, target, there, now), None)
    name = _verified_name(target, there, now) if why is None else None
    if why is None and name is None:
        why = _("No name or address in the certificate of %s can be verified.") % target.name
    if why is None:
        return Encryption(True, "" if name == _bare(target.address) else name or "")
    if mode == REQUIRE:
        return Encryption(False, reasons=(_refusal(why),))
    return _plain(source, here, target, there, why)


def tls_of(host: HostState) -> MigrationTls | None:
    """What the host's inventory tells; None where it does not."""
    facts: Any = (host.inventory.get("summary") or {}).get("libvirt") or {}
    told = facts.get("migration_tls") if isinstance(facts, Mapping) else None
    try:
        return MigrationTls.from_plain(told) if told else None
    except (KeyError, TypeError):
        return None


def _plain(
    source: HostState,
    here: MigrationTls | None,
    target: HostState,
    there: MigrationTls | None,
    why: str,
    *,
    told: bool = True,
) -> Encryption:
    for host, tls in ((source, here), (target, there)):
        if tls is not None and tls.required:
            demand = _("libvirt on %(node)s refuses migrations without TLS (migrate_tls_force). %(why)s")
            return Encryption(False, reasons=(_refusal(demand % {"node": host.name, "why": why}),))
    return Encryption(False, notes=(_("Not encrypted: %s") % why,) if told else ())


def _refusal(why: str) -> Reason:
    return Reason(
        "migration_not_encrypted",
        _("takes no encrypted migration: %s") % why,
        _("Put QEMU's certificates on both hosts and refresh both nodes, or change NODEADMIN_MIGRATION_TLS."),
    )


# -- what stands against it ------------------------------------------------------------------------


def _obstacles(
    source: HostState, here: MigrationTls | None, target: HostState, there: MigrationTls | None, now: datetime
) -> Iterator[str]:
    if here is None or there is None:
        unknown = source if here is None else target
        yield _("The inventory of %s does not tell which certificates QEMU has there.") % unknown.name
        return
    known = there.verifies_client or {"client-cert.pem", "client-key.pem"} <= set(here.files)
    yield from _missing(target.name, there, AS_TARGET)
    yield from _missing(source.name, here, AS_SOURCE + (AS_KNOWN_SOURCE if there.verifies_client else ()))
    yield from _unfit(target.name, "server-cert.pem", there.server, now)
    if known:
        yield from _unfit(source.name, "client-cert.pem", here.client, now)
    for host, chain, authorities in (
        # Each side checks its own certificate as well before it says a word.
        (target, there.server, here.authorities),
        (target, there.server, there.authorities),
        *((source, here.client, side.authorities) for side in (here, there) if known),
    ):
        if not _vouched(chain, authorities, now):
            yield _("No authority that both hosts trust has issued the certificate of %s.") % host.name


def _missing(name: str, tls: MigrationTls, wanted: Sequence[str]) -> Iterator[str]:
    lacking = [file for file in wanted if file not in tls.files]
    if lacking:
        words = {"node": name, "folder": tls.folder, "files": ", ".join(lacking)}
        yield _("%(node)s lacks in %(folder)s: %(files)s.") % words


def _unfit(name: str, file: str, chain: Sequence[Certificate], now: datetime) -> Iterator[str]:
    if not chain:
        yield _("%(file)s of %(node)s holds no certificate that can be read.") % {"file": file, "node": name}
    elif not chain[0].valid_at(now):
        words = {"file": file, "node": name, "begin": chain[0].not_before, "end": chain[0].not_after}
        yield _("%(file)s of %(node)s is valid from %(begin)s to %(end)s alone.") % words


def _vouched(chain: Sequence[Certificate], authorities: Sequence[Certificate], now: datetime) -> bool:
    """Whether the chain leads to one of the ``authorities``, by the names of its issuers."""
    trusted = [authority for authority in authorities if authority.valid_at(now)]
    link, rest = chain[0], list(chain[1:])
    while not any(link.may_be_signed_by(authority) for authority in trusted):
        step = next((other for other in rest if link.may_be_signed_by(other)), None)
        if step is None:
            return False
        rest.remove(step)
        link = step
    return True


# -- whose certificate it is -----------------------------------------------------------------------


def _verified_name(target: HostState, tls: MigrationTls | None, now: datetime) -> str | None:
    """What the target's certificate is verified by: its migration address where the certificate has that,
    else the host's own name, else another name of that certificate, which was read on the host itself."""
    names = tls.server[0].names if tls is not None and tls.server else ()
    own = [name for name in _host_names(target) if name]
    for wanted in (_bare(target.address), *own):
        if any(_matches(name, wanted.lower()) for name in names):
            return wanted
    return next((name for name in names if _is_of_one_host(name)), None)


def _host_names(target: HostState) -> tuple[str, ...]:
    facts = target.inventory.get("summary") or {}
    libvirt, system = facts.get("libvirt") or {}, facts.get("system") or {}
    return (libvirt.get("hostname") or "", system.get("hostname") or "", target.name)


def _matches(name: str, wanted: str) -> bool:
    """Whether a certificate's ``name`` covers ``wanted`` (RFC 6125, 6.4.3: a star is a whole first label)."""
    if name == wanted:
        return True
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(wanted)
    except ValueError:
        first, _dot, rest = wanted.partition(".")
        return name.startswith("*.") and bool(first) and bool(rest) and name[2:] == rest


def _is_of_one_host(name: str) -> bool:
    if name.startswith("*.") or name.split(".")[0] == "localhost":
        return False
    try:
        return not ipaddress.ip_address(name).is_loopback
    except ValueError:
        return bool(name)


def _bare(address: str) -> str:
    return address.strip("[]")
