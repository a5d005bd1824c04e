"""The options of planned operations, as calls and operations carry them."""

from __future__ import annotations

from collections.abc import Mapping
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
    # A VM that still runs when its host goes down is not left: it dies.
    REBOOT: ("migrate", "stop"),
    SHUTDOWN: ("migrate", "stop"),
}
"""What may be asked for a single VM."""

STOP_TIMEOUT_S = 120.0
_MIGRATING: Mapping[str, Any] = {"auto_converge": False}
_STOPPING: Mapping[str, Any] = {
    **_MIGRATING,
    "vm_overrides": {},
    "stop_timeout_s": STOP_TIMEOUT_S,
    "force_stop": False,
}
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
    DELETE: {**_MIGRATING, "force": False},
    REBOOT: {**_DOWN, "restart_vms": False},
    SHUTDOWN: _DOWN,
}
"""What else a call of each kind takes, and what holds where it does not say so."""


@dataclass(frozen=True, slots=True)
class Options:
    """``vm_overrides`` are wishes by name or UUID of a VM; ``force`` is for deleting a host that is gone.

    ``restart_vms``: those that were stopped are started after a *successful* reboot. Where the power command
    is refused they are started in any case, unless ``keep_stopped_on_refusal``.
    ``hold_autostart`` None: autostart is held where the node stays in maintenance.
    ``auto_converge``: a VM that changes its memory too fast is slowed down while it migrates.
    """

    vm_policy: str
    vm_overrides: Mapping[str, str] = field(default_factory=dict)
    restart_vms: bool = False
    stop_timeout_s: float = STOP_TIMEOUT_S
    force_stop: bool = False
    accept_unknown_vms: bool = False
    ignore_inhibitors: bool = False
    keep_stopped_on_refusal: bool = False
    hold_autostart: bool | None = None
    force: bool = False
    auto_converge: bool = False
    reason: str = ""

    @classmethod
    def of(cls, kind: str, given: Mapping[str, Any]) -> Self:
        """The options of a call of ``kind``; what is not given has its default."""
        known = {name: given[name] for name in cls.__slots__ if given.get(name) is not None}
        return cls(**{"vm_policy": POLICIES[kind][0]} | known)

    def wish(self, uuid: str, name: str) -> str:
        """What is asked for the VM; its UUID counts for more than its name."""
        return self.vm_overrides.get(uuid) or self.vm_overrides.get(name) or self.vm_policy

    @property
    def may_migrate(self) -> bool:
        """Whether any VM could have to move."""
        return self.vm_policy == "migrate" or "migrate" in self.vm_overrides.values()


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
