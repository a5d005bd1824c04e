"""The way to a host's port: a TCP connection of our own, or a channel through a jump host."""

from __future__ import annotations

from nodes.hosts.dial import dial
from nodes.hosts.network_rules import NetworkRules
from nodes.hosts.target import JumpTarget
from nodes.hosts.wire import SocketLike


def reach(host: str, port: int, jump: JumpTarget | None, timeout_s: float, rules: NetworkRules) -> SocketLike:
    """Something connected to ``port`` of ``host``, on which SSH may begin.

    Raises what :func:`~nodes.hosts.dial.dial` raises; with ``jump`` also JumpHostError and its subclasses,
    where it is the jump host that fails.
    """
    if jump is None:
        return dial(host, port, timeout_s, rules)
    from nodes.hosts.jump import jump_hosts

    return jump_hosts().open(jump, host, port, timeout_s)
