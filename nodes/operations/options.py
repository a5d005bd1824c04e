"""The options of planned operations, as calls and operations carry them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from django.utils.translation import gettext as _

from nodes.errors import InvalidInput

DRAIN, RETURN, DELETE = "disable-node", "enable-node", "delete-node"
REBOOT, SHUTDOWN = "reboot-node", "shutdown-node"

POLICIES: Mapping[str, tuple[str, ...]] = {
    DRAIN: ("migrate", "stop"),
    RETURN: ("migrate",),
    DELETE: ("refuse", "migrate"),
    REBOOT: ("refuse", "migrate", "stop"),
    SHUTDOWN: ("refuse", "migrate", "stop"),
}
"""What may be asked for all VMs, by kind; the first is what holds where nothing is."""

OVERRIDES: Mapping[str, tuple[str, ...]] = {
    DRAIN: ("migrate", "stop", "leave"),
    DELETE: ("migrate",),
    # A VM that still runs when its host goes down is not left: it dies.
    REBOOT: ("migrate", "stop"),
    SHUTDOWN: ("migrate", "stop"),
}
"""What may be asked for a single VM."""

STOP_TIMEOUT_S = 120.0
_MIGRATING: Mapping[str, Any] = {"auto_converge": False}
_TARGETS: Mapping[str, Any] = {**_MIGRATING, "vm_overrides": {}, "targets": []}
_STOPPING: Mapping[str, Any] = {**_TARGETS, "stop_timeout_s": STOP_TIMEOUT_S, "force_stop": False}
_DOWN: Mapping[str, Any] = {
    **_STOPPING,
    "accept_unknown_vms": False,
    "ignore_inhibitors": False,
    "keep_stopped_on_refusal": False,
    "hold_autostart": None,
}

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    DRAIN: {**_STOPPING, "reason": ""},
    RETURN: _MIGRATING,
    DELETE: {**_TARGETS, "force": False, "remove_key": False},
    REBOOT: {**_DOWN, "restart_vms": False},
    SHUTDOWN: _DOWN,
}
"""What else a call of each kind takes, and what holds where it does not say so."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for one VM: an ``action``, and the node that it is to migrate to, by name or UUID; ""
    leaves the choice to the plan."""

    action: str
    target: str = ""

    @classmethod
    def of(cls, given: str | Mapping[str, str]) -> Self:
        """From an override as calls write it: ``"stop"``, ``{"action": "migrate", "target": "kvm-02"}``."""
        if isinstance(given, str):
            return cls(given)
        return cls(given["action"], given.get("target") or "")


@dataclass(frozen=True, slots=True)
class Options:
    """``vm_overrides`` are wishes by name or UUID of a VM; ``targets`` are the nodes that VMs may migrate to,
    empty for any; a VM's own target counts for more. ``force`` is for deleting a host that is gone;
    ``remove_key`` takes nodeadmin's own key off the host with it.

    ``restart_vms``: those that were stopped are started after a *successful* reboot. Where the power command
    is refused they are started in any case, unless ``keep_stopped_on_refusal``.
    ``hold_autostart`` None: autostart is held where the node stays in maintenance.
    ``auto_converge``: a VM that changes its memory too fast is slowed down while it migrates.
    """

    vm_policy: str
    vm_overrides: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    targets: Sequence[str] = ()
    restart_vms: bool = False
    stop_timeout_s: float = STOP_TIMEOUT_S
    force_stop: bool = False
    accept_unknown_vms: bool = False
    ignore_inhibitors: bool = False
    keep_stopped_on_refusal: bool = False
    hold_autostart: bool | None = None
    force: bool = False
    remove_key: bool = False
    auto_converge: bool = False
    reason: str = ""

    @classmethod
    def of(cls, kind: str, given: Mapping[str, Any]) -> Self:
        """The options of a call of ``kind``; what is not given has its default."""
        known = {name: given[name] for name in cls.__slots__ if given.get(name) is not None}
        return cls(**{"vm_policy": POLICIES[kind][0]} | known)

    def override(self, uuid: str, name: str) -> Wish | None:
        """What is asked for this VM alone; its UUID counts for more than its name."""
        given = self.vm_overrides.get(uuid) or self.vm_overrides.get(name)
        return Wish.of(given) if given else None

    def wish(self, uuid: str, name: str) -> Wish:
        """What is asked for the VM: its own override, else the policy."""
        return self.override(uuid, name) or Wish(self.vm_policy)

    @property
    def named_targets(self) -> frozenset[str]:
        """The nodes that single VMs are to migrate to."""
        wishes = (Wish.of(given) for given in self.vm_overrides.values())
        return frozenset(wish.target for wish in wishes if wish.target)

    @property
    def may_migrate(self) -> bool:
        """Whether any VM could have to move."""
        wishes = (Wish.of(given) for given in self.vm_overrides.values())
        return self.vm_policy == "migrate" or any(wish.action == "migrate" for wish in wishes)


def complete(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call with every default filled in; what a kind does not take is left out.

    Raises InvalidInput for a policy that the kind does not know.
    """
    defaults = {"vm_policy": POLICIES[kind][0], **DEFAULTS[kind]}
    options = {name: given[name] if given.get(name) is not None else defaults[name] for name in defaults}
    if options["vm_policy"] not in POLICIES[kind]:
        raise InvalidInput(
            _("It can be: %s.") % ", ".join(POLICIES[kind]),
            field="vm_policy",
        )
    return options
