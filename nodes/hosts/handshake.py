"""The beginning of SSH: greeting, key exchange, host key. Nothing here sends a user's name or a secret."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import paramiko

from nodes.errors import HostError, HostKeyMismatch, HostTimeout, HostUnreachable
from nodes.hosts.deadlines import Clock, Deadlines
from nodes.hosts.host_budget import HostBudget, budgets
from nodes.hosts.reach import reach
from nodes.hosts.target import HostKey, HostTarget
from nodes.hosts.wire import PinnedKeyMismatch, SocketLike, Wire

SSHD_REFUSALS = frozenset({"Exceeded MaxStartups", "Not allowed at this time"})
"""What OpenSSH says in place of its greeting (sshd.c). What anything else says is not repeated."""
_ALGORITHM = re.compile(r"[A-Za-z0-9@._+-]{1,64}")
_MOST_NAMES = 20
_LAST_TRY_S = 1.0
"""What a try that begins just before the deadline is given all the same."""


class NoSuchHostKey(HostError):
    """The server has no host key of the types asked for; ``offered`` are the algorithms it has keys for."""

    layer = "host_key"

    def __init__(self, offered: tuple[str, ...]) -> None:
        super().__init__("The host has no key of the type asked for.")
        self.offered = offered


def shake_hands(
    sock: SocketLike,
    where: str,
    key_types: tuple[str, ...],
    pinned: HostKey | None,
    timeout_s: float,
    budget: HostBudget | None = None,
) -> Wire:
    """Greet the server on ``sock`` and exchange keys; the wire given back is encrypted, nobody logged in.

    With ``pinned`` the server's key is that one, proven. ``budget`` is what reading from the host is paid out
    of, by default that of ``where``. Raises HostTimeout, HostUnreachable (reasons
    ``not_ssh``, ``closed``, ``no_common_algorithm``), NoSuchHostKey, PinnedKeyMismatch. The socket is closed
    then.
    """
    wire = Wire(sock, key_types, pinned, budget or budgets.of(where))
    # Later than ours: paramiko's own deadlines look like a peer that hung up.
    wire.banner_timeout = wire.handshake_timeout = timeout_s + 5
    done = threading.Event()
    wire.start_client(event=done)
    in_time = done.wait(timeout_s)
    if in_time and wire.is_active() and wire.initial_kex_done:
        return wire
    failure = wire.get_exception()
    wire.shut()
    raise _explain(wire, where, failure, timeout_s if not in_time else None) from failure


def connect_verified(
    target: HostTarget, pinned: HostKey, deadlines: Deadlines, on_stage: Callable[[str], None]
) -> Wire:
    """Dial ``target`` and shake hands; give the wire where the host proved that its key is ``pinned``.

    ``on_stage`` is told ``host_key`` once the host is reached. A connection that sshd drops is tried again
    for as long as a handshake may take (see :mod:`nodes.hosts.host_key_scan`).

    Raises HostKeyMismatch (see :func:`host_key_mismatch`), NoSuchHostKey where the host has no key of the
    pinned type, and what :func:`reach` and :func:`shake_hands` raise.
    """
    clock, tries, pause_s, limits = Clock(deadlines.handshake_s), 0, 0.05, deadlines
    while True:
        tries += 1
        try:
            return _connect_once(target, pinned, limits, on_stage if tries == 1 else lambda _stage: None)
        except PinnedKeyMismatch as mismatch:
            raise host_key_mismatch(target.address, pinned, (mismatch.shown,)) from None
        except HostUnreachable as error:
            if not was_dropped(error):
                raise
            if clock.left <= pause_s:
                raise dropped(error, tries, clock) from error
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 1.0)
        limits = _for_what_is_left(deadlines, clock)


def _for_what_is_left(deadlines: Deadlines, clock: Clock) -> Deadlines:
    """The limits of one more try: not all of them anew, as many tries would then add up."""
    left_s = max(clock.left, _LAST_TRY_S)
    return replace(
        deadlines,
        connect_s=min(deadlines.connect_s, left_s),
        handshake_s=min(deadlines.handshake_s, left_s),
    )


def _connect_once(
    target: HostTarget, pinned: HostKey, deadlines: Deadlines, on_stage: Callable[[str], None]
) -> Wire:
    sock = reach(target.host, target.port, target.jump, deadlines.connect_s, target.rules)
    try:
        on_stage("host_key")
    except BaseException:
        sock.close()
        raise
    budget = budgets.of(target.budget_key, target.address)
    return shake_hands(sock, target.address, (pinned.type,), pinned, deadlines.handshake_s, budget)


def host_key_mismatch(where: str, pinned: HostKey, shown: tuple[HostKey, ...]) -> HostKeyMismatch:
    """The error of a host that does not prove the ``pinned`` key.

    ``extra["reason"]`` is ``differs`` where it showed another key of that type, and ``type_missing`` where it
    has none of that type: then no key was compared, and nobody is suspected to be in between.
    """
    prints = ", ".join(f"{key.fingerprint} ({key.type})" for key in shown)
    confirmed = f"{pinned.fingerprint} ({pinned.type})"
    differs = any(key.type == pinned.type for key in shown)
    if differs:
        message = (
            f"{where} shows another host key than the one confirmed. Confirmed: {confirmed}; "
            f"shown: {prints}. Nothing was sent to it."
        )
        remedy = (
            "Find out why it changed: a host that was reinstalled, or another one in its place. "
            "Then confirm the new fingerprint."
        )
    else:
        message = (
            f"{where} has no host key of the type {pinned.type} any more, of which {pinned.fingerprint} was "
            f"confirmed. It shows: {prints or 'none that could be read'}. Nothing was sent to it."
        )
        remedy = (
            "Look on the host whether sshd's HostKey settings were changed (sshd -T | grep -i hostkey); "
            "if so, confirm the fingerprint of a key that it shows."
        )
    return HostKeyMismatch(
        message,
        remedy=remedy,
        extra={
            "reason": "differs" if differs else "type_missing",
            "expected_fingerprint": pinned.fingerprint,
            "expected_type": pinned.type,
            "shown_fingerprints": [key.fingerprint for key in shown],
        },
    )


def was_dropped(error: HostError) -> bool:
    """Whether the server ended the connection before it had shown a key: it may take the next one."""
    return isinstance(error, HostUnreachable) and error.extra.get("reason") in ("closed", "reset")


def dropped(error: HostError, tries: int, clock: Clock) -> HostError:
    """``error`` of a dropped connection, with how many connections were tried since ``clock`` began."""
    if not was_dropped(error) or tries < 2:
        return error
    return HostUnreachable(
        f"{error.message.rstrip('.')}, {tries} connections tried in {max(1, round(clock.elapsed))} s.",
        remedy=error.remedy,
        extra={**error.extra, "tries": tries},
    )


_OPTIONS = {
    "key exchange method": "KexAlgorithms",
    "cipher": "Ciphers",
    "message authentication code (MAC)": "MACs",
}
"""What each kind of algorithm is called in sshd_config(5)."""


def _no_common_algorithm(wire: Wire, where: str) -> HostUnreachable:
    known = wire.known
    for kind, named in wire.offered.items():
        offered = algorithm_names(named)
        if not set(offered) & set(known[kind]):
            return HostUnreachable(
                f"{where} and nodeadmin have no SSH {kind} in common. The host offers: {', '.join(offered)}. "
                f"nodeadmin knows: {', '.join(known[kind])}.",
                remedy=f"Allow one that nodeadmin knows on the host ({_OPTIONS[kind]} in "
                "/etc/ssh/sshd_config, or the system's crypto policy), or update an OpenSSH older than 2018.",
                extra={
                    "reason": "no_common_algorithm",
                    "offered": list(offered),
                    "known": list(known[kind]),
                },
            )
    return HostUnreachable(
        f"{where} and nodeadmin have no SSH algorithm in common.",
        remedy="Update the host's OpenSSH if it is older than 2018, or widen Ciphers, MACs and KexAlgorithms "
        "in its /etc/ssh/sshd_config.",
        extra={"reason": "no_common_algorithm"},
    )


def algorithm_names(named: Iterable[str]) -> tuple[str, ...]:
    """Those of a server's algorithms that may be shown: a name can be any bytes (RFC 4251, section 6)."""
    return tuple(name for name in named if _ALGORITHM.fullmatch(name))[:_MOST_NAMES]


def _explain(wire: Wire, where: str, failure: Exception | None, timed_out: float | None) -> Exception:
    refusal = wire.said_instead if wire.said_instead in SSHD_REFUSALS else ""
    greeted = wire.remote_version.startswith("SSH-")
    if isinstance(failure, PinnedKeyMismatch):
        return failure
    if timed_out is not None:
        what = "began SSH but did not finish the key exchange" if greeted else "accepted, but said nothing"
        return HostTimeout(
            f"{where} {what} within {timed_out:g} s.",
            remedy="Is it an SSH server, and does it answer to others?",
            extra={"reason": "silent", "greeted": greeted},
        )
    if isinstance(failure, paramiko.ssh_exception.IncompatiblePeer):
        if "host key" in str(failure):
            return NoSuchHostKey(wire.offered_key_algorithms)
        return _no_common_algorithm(wire, where)
    text = str(failure)
    if not greeted and ("Indecipherable" in text or "Invalid SSH banner" in text or wire.remote_version):
        return HostUnreachable(
            f"Something answers at {where}, but it is no SSH server.",
            remedy="Check the port.",
            extra={"reason": "not_ssh"},
        )
    stage = "during the key exchange" if greeted else "without a greeting"
    words = f": “{refusal}”" if refusal else ""
    return HostUnreachable(
        f"{where} closed the connection {stage}{words}.",
        remedy="sshd may have too many connections that wait for their login (MaxStartups, "
        "PerSourceMaxStartups) or refuse this address for a while (PerSourcePenalties, fail2ban): try again "
        "in a minute. Or it is no SSH server: check the port.",
        extra={"reason": "closed", "greeted": greeted or bool(refusal)},
    )
