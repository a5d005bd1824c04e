"""The beginning of SSH: greeting, key exchange, host key. Nothing here sends a user's name or a secret."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import paramiko

from nodes.errors import HostError, HostKeyMismatch, HostTimeout, HostUnreachable
from nodes.hosts.deadlines import Clock, Deadlines
from nodes.hosts.dial import dial
from nodes.hosts.target import HostKey, HostTarget
from nodes.hosts.wire import PinnedKeyMismatch, Wire

_SCANNED = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("ssh-rsa",),
)


class NoSuchHostKey(HostError):
    """The server has no host key of the types asked for; ``offered`` are the algorithms it has keys for."""

    layer = "host_key"

    def __init__(self, offered: tuple[str, ...]) -> None:
        super().__init__("The host has no key of the type asked for.")
        self.offered = offered


def shake_hands(
    sock: socket.socket, where: str, key_types: tuple[str, ...], pinned: HostKey | None, timeout_s: float
) -> Wire:
    """Greet the server on ``sock`` and exchange keys; the wire given back is encrypted, nobody logged in.

    With ``pinned`` the server's key is that one, proven. Raises HostTimeout, HostUnreachable (reasons
    ``not_ssh``, ``closed``, ``no_common_algorithm``), NoSuchHostKey, PinnedKeyMismatch. The socket is closed
    then.
    """
    wire = Wire(sock, key_types, pinned)
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

    ``on_stage`` is told ``host_key`` once the host is reached.

    Raises HostKeyMismatch with both fingerprints in message and ``extra`` (``expected_fingerprint``,
    ``shown_fingerprints``), and what :func:`dial` and :func:`shake_hands` raise.
    """
    sock = dial(target.host, target.port, deadlines.connect_s)
    try:
        on_stage("host_key")
    except BaseException:
        sock.close()
        raise
    try:
        return shake_hands(sock, target.address, (pinned.type,), pinned, deadlines.handshake_s)
    except PinnedKeyMismatch as mismatch:
        raise _mismatch(target, pinned, (mismatch.shown,)) from None
    except NoSuchHostKey:
        # The host was confirmed by a key of a type it no longer has: ask what it shows instead.
        try:
            shown = scan_host_keys(target.host, target.port, timeout_s=deadlines.handshake_s)
        except HostError:
            shown = ()
        raise _mismatch(target, pinned, shown) from None


def scan_host_keys(host: str, port: int = 22, *, timeout_s: float = 10.0) -> tuple[HostKey, ...]:
    """The keys that the host at this address shows and proves to hold: ed25519, ECDSA, RSA, as it has them.

    Nothing is trusted by it and no credential or user name is sent. The types are asked for side by side.
    Raises HostUnreachable or HostTimeout where the host shows none.
    """
    clock = Clock(timeout_s)

    def ask(key_types: tuple[str, ...]) -> HostKey | HostError:
        try:
            sock = dial(host, port, clock.left)
            wire = shake_hands(sock, f"{host}, port {port}", key_types, None, clock.left)
        except HostError as error:
            return error
        wire.shut()
        return wire.shown_key or NoSuchHostKey(())

    with ThreadPoolExecutor(len(_SCANNED), thread_name_prefix="host-key-scan") as pool:
        answers = list(pool.map(ask, _SCANNED))
    keys = tuple(answer for answer in answers if isinstance(answer, HostKey))
    if keys:
        return keys
    errors = [answer for answer in answers if isinstance(answer, HostError)]
    for error in errors:
        if not isinstance(error, NoSuchHostKey):
            raise error
    raise HostUnreachable(
        f"The SSH server at {host}, port {port} has no host key of a supported type.",
        extra={"reason": "no_common_algorithm"},
    )


def _mismatch(target: HostTarget, pinned: HostKey, shown: tuple[HostKey, ...]) -> HostKeyMismatch:
    prints = ", ".join(f"{key.fingerprint} ({key.type})" for key in shown) or "none of this type"
    return HostKeyMismatch(
        f"{target.address} shows another host key than the one confirmed. "
        f"Confirmed: {pinned.fingerprint} ({pinned.type}); shown: {prints}. Nothing was sent to it.",
        remedy="Find out why it changed: a host that was installed anew, or another one in its place. "
        "Then confirm the new fingerprint.",
        extra={
            "expected_fingerprint": pinned.fingerprint,
            "expected_type": pinned.type,
            "shown_fingerprints": [key.fingerprint for key in shown],
        },
    )


def _explain(wire: Wire, where: str, failure: Exception | None, timed_out: float | None) -> Exception:
    greeted = wire.remote_version.startswith("SSH-")
    if isinstance(failure, PinnedKeyMismatch):
        return failure
    if timed_out is not None:
        what = "began SSH but did not finish the key exchange" if greeted else "accepted, but said nothing"
        return HostTimeout(
            f"{where} {what} within {timed_out:g} s.",
            remedy="Is it an SSH server, and does it answer to others?",
            extra={"reason": "silent"},
        )
    if isinstance(failure, paramiko.ssh_exception.IncompatiblePeer):
        if "host key" in str(failure):
            return NoSuchHostKey(wire.offered_key_algorithms)
        return HostUnreachable(
            f"{where} and this server have no SSH algorithm in common.",
            remedy="The host's OpenSSH is older than 2018, or its configuration is narrower.",
            extra={"reason": "no_common_algorithm"},
        )
    text = str(failure)
    if not greeted and ("Indecipherable" in text or "Invalid SSH banner" in text or wire.remote_version):
        return HostUnreachable(
            f"Something answers at {where}, but it is no SSH server.",
            remedy="Check the port.",
            extra={"reason": "not_ssh"},
        )
    stage = "during the key exchange" if greeted else "without a greeting"
    return HostUnreachable(
        f"{where} closed the connection {stage}.",
        remedy="It may be overloaded (sshd's MaxStartups), refuse this address, or be no SSH server.",
        extra={"reason": "closed"},
    )
