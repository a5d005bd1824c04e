"""The host keys that a host shows, type by type; and the one of them that a person confirmed.

An SSH server shows one key a connection, of the type that the client asks for (RFC 4253, section 7.1). sshd
drops connections at random once many wait for their login (MaxStartups in sshd_config(5)), and any beyond
PerSourceMaxStartups from one address. A dropped connection says nothing about a key: that type is asked for
again, one connection at a time, until the deadline.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nodes.errors import HostError, HostUnreachable
from nodes.hosts.deadlines import Clock
from nodes.hosts.handshake import NoSuchHostKey, algorithm_names, dropped, shake_hands, was_dropped
from nodes.hosts.network_rules import NetworkRules
from nodes.hosts.reach import reach
from nodes.hosts.target import HOST_KEY_TYPES, HostKey, JumpTarget

Types = tuple[str, ...]

_FAMILIES: tuple[Types, ...] = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("ssh-rsa",),
)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


@dataclass(frozen=True, slots=True)
class MissingTypes:
    """Key types of which it is not known whether the host has one; ``error`` says why."""

    types: Types
    error: HostError


@dataclass(frozen=True, slots=True)
class HostKeyScan:
    """The keys that a host showed and proved to hold, in the order of :data:`HOST_KEY_TYPES`.

    ``absent`` are the types of which it said that it has none.
    """

    keys: tuple[HostKey, ...]
    absent: Types = ()
    missing: tuple[MissingTypes, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.missing

    @property
    def shows_every_family(self) -> bool:
        """Whether it showed an ed25519, an ECDSA and an RSA key: one is then of any type confirmed."""
        shown = {key.type for key in self.keys}
        return all(shown & set(types) for types in _FAMILIES)

    def key_of(self, fingerprint: str) -> HostKey | None:
        return next((key for key in self.keys if key.fingerprint == fingerprint), None)

    def key_of_type(self, key_type: str) -> HostKey | None:
        return next((key for key in self.keys if key.type == key_type), None)


def scan_host(
    host: str,
    port: int = 22,
    *,
    rules: NetworkRules,
    timeout_s: float = 10.0,
    jump: JumpTarget | None = None,
) -> HostKeyScan:
    """All keys that the host at this address shows. Nothing is trusted by it, and no user name is sent.

    With ``jump`` it is asked from that jump host, which is logged in to first.

    The families are asked for side by side, then what was dropped one by one until ``timeout_s`` have passed.
    Raises HostUnreachable or HostTimeout where the host shows none, AddressDenied.
    """
    scan = _Scan(host, port, Clock(timeout_s), rules, jump=jump)
    with ThreadPoolExecutor(len(_FAMILIES), thread_name_prefix="host-key-scan") as pool:
        for types, error in zip(_FAMILIES, pool.map(scan.ask, _FAMILIES), strict=True):
            scan.note(types, error)
    if not scan.keys and not scan.may_be_asked_again:
        raise scan.failure()
    scan.ask_again()
    return scan.result()


def scan_host_keys(
    host: str,
    port: int = 22,
    *,
    rules: NetworkRules,
    timeout_s: float = 10.0,
    jump: JumpTarget | None = None,
) -> tuple[HostKey, ...]:
    """The keys of :func:`scan_host`, of which some may be missing. Raises as that does."""
    return scan_host(host, port, rules=rules, timeout_s=timeout_s, jump=jump).keys


def find_host_key(
    host: str,
    port: int,
    fingerprint: str,
    *,
    rules: NetworkRules,
    key_type: str = "",
    timeout_s: float = 10.0,
    jump: JumpTarget | None = None,
) -> HostKeyScan:
    """The host's key with this ``fingerprint``, over as few connections as can be.

    Only ``key_type`` is asked for where it is known, and otherwise one type after another until the key is
    among them. Where the host has no key of that type, those that it has are in the answer. Raises
    HostUnreachable or HostTimeout where the host shows none.
    """
    scan = _Scan(host, port, Clock(timeout_s), rules, wanted=fingerprint, jump=jump)
    for types in [(key_type,)] if key_type else _FAMILIES:
        scan.note(types, scan.ask(types))
        scan.ask_again()
        if scan.found:
            return scan.result()
    if key_type and key_type in scan.absent:
        return scan_host(host, port, rules=rules, timeout_s=scan.clock.left, jump=jump)
    return scan.result()


class _Scan:
    """What one scan has learned so far. ``ask`` may be called from several threads, all else from one."""

    def __init__(
        self,
        host: str,
        port: int,
        clock: Clock,
        rules: NetworkRules,
        *,
        wanted: str = "",
        jump: JumpTarget | None = None,
    ) -> None:
        self.clock = clock
        self._rules = rules
        self.keys: dict[str, HostKey] = {}
        self.absent: set[str] = set()
        self._wanted = wanted
        self._host, self._port, self._jump = host, port, jump
        self._open: dict[Types, HostError] = {}
        self._offered: tuple[str, ...] = ()
        self._tries = 0

    @property
    def found(self) -> bool:
        """Whether the key that is wanted is among them."""
        return any(key.fingerprint == self._wanted for key in self.keys.values())

    @property
    def may_be_asked_again(self) -> bool:
        return any(was_dropped(error) for error in self._open.values())

    def ask(self, types: Types) -> HostError | tuple[HostKey, Types]:
        """Connect once: the key that the host shows and the algorithms it has keys for, or what happened."""
        self._tries += 1
        try:
            sock = reach(self._host, self._port, self._jump, self.clock.left, self._rules)
            where = f"{self._host}, port {self._port}"
            wire = shake_hands(sock, where, types, None, self.clock.left)
        except HostError as error:
            return error
        wire.shut()
        if wire.shown_key is None:
            return NoSuchHostKey(())
        return wire.shown_key, wire.offered_key_algorithms

    def note(self, types: Types, answer: HostError | tuple[HostKey, Types]) -> None:
        self._open.pop(types, None)
        if isinstance(answer, NoSuchHostKey):
            self.absent.update(types)
            self._offered = answer.offered or self._offered
        elif isinstance(answer, HostError):
            self._open[types] = answer
        else:
            key, offered = answer
            self.keys[key.type] = key
            others = tuple(kind for kind in types if kind != key.type)
            # One connection shows one key, though a host may have ECDSA keys on several curves.
            further = tuple(kind for kind in others if kind in offered)
            self.absent.update(set(others) - set(further))
            if further:
                self._open[further] = HostUnreachable(
                    "There was no time left to ask for it.", extra={"reason": "closed"}
                )

    def ask_again(self) -> None:
        """Ask for what is still open, until it is answered, cannot be, or the time is over."""
        pause_s = _FIRST_PAUSE_S
        while self.may_be_asked_again and not self.found and self.clock.left > pause_s:
            time.sleep(pause_s)
            types = next(types for types, error in self._open.items() if was_dropped(error))
            answer = self.ask(types)
            self.note(types, answer)  # to the end of those that are open, where it was dropped again
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S) if types in self._open else _FIRST_PAUSE_S

    def result(self) -> HostKeyScan:
        """Raises :meth:`failure` where the host showed no key at all."""
        if not self.keys:
            raise self.failure()
        return HostKeyScan(
            keys=tuple(self.keys[kind] for kind in HOST_KEY_TYPES if kind in self.keys),
            absent=tuple(_ordered(self.absent)),
            missing=tuple(MissingTypes(types, self._counted(error)) for types, error in self._open.items()),
        )

    def failure(self) -> HostError:
        for error in self._open.values():
            return self._counted(error)
        return HostUnreachable(
            f"{self._host}, port {self._port} and nodeadmin have no type of host key in common. The host "
            f"offers: {', '.join(algorithm_names(self._offered)) or 'none'}. "
            f"nodeadmin knows: {', '.join(HOST_KEY_TYPES)}.",
            remedy="Make a key of a type that nodeadmin knows on the host, as root: ssh-keygen -A (and have "
            "sshd_config name it in a line HostKey, if it has such lines).",
            extra={
                "reason": "no_common_algorithm",
                "offered": list(algorithm_names(self._offered)),
                "known": list(HOST_KEY_TYPES),
            },
        )

    def _counted(self, error: HostError) -> HostError:
        return dropped(error, self._tries, self.clock)


def _ordered(types: Iterable[str]) -> list[str]:
    return sorted(types, key=HOST_KEY_TYPES.index)
