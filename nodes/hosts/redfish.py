"""Redfish: what a BMC says of the machine it belongs to, and the switch for its power.

DMTF DSP0266 (the protocol) and DSP0268 (the schemas ServiceRoot, ComputerSystemCollection, ComputerSystem,
ActionInfo). Requests are those of :mod:`nodes.hosts.bmc.service`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from nodes.errors import BmcFailed, HostError
from nodes.hosts.bmc.answer import Answer, service_path, word
from nodes.hosts.bmc.reset import SwitchOn
from nodes.hosts.bmc.service import PACE, ROOT, Pace, RedfishService
from nodes.hosts.bmc.system import System
from nodes.hosts.bmc_target import BmcTarget
from nodes.hosts.deadlines import Clock

RESET = "#ComputerSystem.Reset"
MAX_SYSTEMS = 64
_ROOT_MARKS = frozenset({"RedfishVersion", "@odata.id", "@odata.type"})
"""Members that a service root must have (DSP0268, ServiceRoot)."""


class Redfish:
    """A BMC's Redfish service. A context manager; for one thread.

    Every call ends within ``timeout_s``, or all of them together with ``clock`` where one is given. ``sleep``
    is called for every pause between attempts.

    All raise BmcUnreachable, BmcBusy (which says what was seen, and how often) and BmcFailed, whose
    ``reason`` is one of: unreachable, busy, not_tls, certificate_differs, certificate_unknown,
    authentication_failed, not_redfish, no_such_system, several_systems, other_system, reset_refused.
    """

    def __init__(
        self,
        target: BmcTarget,
        *,
        timeout_s: float = 15.0,
        clock: Clock | None = None,
        pace: Pace = PACE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.target = target
        self._service = RedfishService(target, timeout_s=timeout_s, clock=clock, pace=pace, sleep=sleep)

    def close(self) -> None:
        self._service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- systems ----------------------------------------------------------------------------------

    def system(self, path: str = "") -> System:
        """The machine at ``path``, by default the target's."""
        path = path or self.target.system_path
        answer = self._found(path)
        body = answer.body or {}
        actions = body.get("Actions")
        action = actions.get(RESET) if isinstance(actions, Mapping) else None
        action = action if isinstance(action, Mapping) else {}
        return System(
            path=path,
            name=word(body.get("Name")) or word(body.get("Id")) or path,
            uuid=word(body.get("UUID")),
            power_state=word(body.get("PowerState")),
            reset_target=service_path(action.get("target")),
            reset_types=self._reset_types(action),
            etag=answer.etag,
        )

    def find_system(self, wanted: str = "", firmware_uuid: str = "") -> System:
        """The machine that is the node's host.

        ``wanted`` names it, by its path or its id. Otherwise it is the one with the host's firmware UUID, or
        the only one there is where nothing speaks against it. Raises BmcFailed (no_such_system,
        several_systems, other_system).
        """
        if wanted.startswith("/"):
            return self.system(self._checked(wanted))
        paths = self._members()
        if wanted:
            paths = tuple(path for path in paths if path.rstrip("/").rpartition("/")[2] == wanted)
        if not paths:
            raise self._failed("no_such_system", "The BMC knows no such system.", field="bmc.system")
        if len(paths) == 1:
            return self._only(self.system(paths[0]), "" if wanted else firmware_uuid)
        found = [system for system in map(self.system, paths) if system.is_host(firmware_uuid)]
        if len(found) == 1:
            return found[0]
        raise self._failed(
            "several_systems",
            f"The BMC serves {len(paths)} systems, and none can be told to be this node.",
            remedy=f"Name one as the system: {', '.join(paths[:8])}.",
            field="bmc.system",
        )

    def _only(self, system: System, firmware_uuid: str) -> System:
        if firmware_uuid and system.is_host(firmware_uuid) is False:
            raise self._failed(
                "other_system",
                f"The BMC belongs to another machine: it says the firmware UUID {system.uuid}, the node's "
                f"host says {firmware_uuid}.",
                remedy=f"Check the address. If it is right after all, name the system: {system.path}.",
                field="bmc.url",
            )
        return system

    def _members(self) -> tuple[str, ...]:
        root = self._get(ROOT)
        systems = root.get("Systems")
        collection = service_path(systems.get("@odata.id")) if isinstance(systems, Mapping) else None
        if collection is None:
            raise self._service.not_redfish("its service root has no systems")
        members = self._get(collection).get("Members")
        links = members if isinstance(members, list) else []
        found = (service_path(link.get("@odata.id")) for link in links if isinstance(link, Mapping))
        return tuple(path for path in found if path is not None)[:MAX_SYSTEMS]

    # -- power ------------------------------------------------------------------------------------

    def power_state(self) -> str | None:
        """The target's power state; None where the BMC does not know it."""
        return word(self._get(self.target.system_path).get("PowerState"))

    def switch_on(self, system: System) -> str:
        """Switch the machine on: ``On``, or ``ForceOn`` where only that is allowed. Gives which it was.

        "" means that the machine was found on without the BMC having confirmed a command. To be called for a
        machine that is off. Returns when the BMC has taken the command, not when it is done. The command is
        sent again only after the power state was read: see :mod:`nodes.hosts.bmc.reset`. Raises BmcFailed
        with the reason reset_refused and the BMC's words.
        """
        allowed = system.reset_types
        kind = "On" if allowed is None else next((name for name in ("On", "ForceOn") if name in allowed), "")
        if system.reset_target is None or not kind:
            offered = ", ".join(allowed or ()) or "none"
            raise self._failed(
                "reset_refused", f"The BMC offers no way to switch this system on; it offers: {offered}."
            )
        taken = SwitchOn(self._service, lambda clock: self._again(system, clock), system, kind).run()
        return kind if taken else ""

    def _again(self, system: System, clock: Clock) -> System:
        """The same system with the power state and the ETag that it has now."""
        answer = self._found(system.path, clock)
        return replace(system, power_state=word((answer.body or {}).get("PowerState")), etag=answer.etag)

    def _reset_types(self, action: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The values that Reset takes: named at the action, or in the ActionInfo that it links to."""
        named = _words(action.get("ResetType@Redfish.AllowableValues"))
        info = service_path(action.get("@Redfish.ActionInfo"))
        if named is not None or info is None:
            return named
        parameters = self._get(info).get("Parameters")
        for parameter in parameters if isinstance(parameters, list) else []:
            if isinstance(parameter, Mapping) and parameter.get("Name") == "ResetType":
                return _words(parameter.get("AllowableValues"))
        return None

    # -- requests ---------------------------------------------------------------------------------

    def _get(self, path: str) -> Mapping[str, Any]:
        return self._found(path).body or {}

    def _found(self, path: str, clock: Clock | None = None) -> Answer:
        """The answer at ``path``, which has a JSON object."""
        answer = self._service.get(self._checked(path), clock)
        if answer.status == 404 and path != ROOT:
            raise self._failed("no_such_system", f"The BMC has nothing at {path}.", field="bmc.system")
        if answer.status != 200:
            raise self._service.not_redfish(f"it answers {path} with HTTP {answer.status}")
        if answer.body is None:
            raise self._service.not_redfish(f"its answer at {path} is no JSON object")
        return answer

    def _checked(self, path: str) -> str:
        found = service_path(path)
        if found is None:
            raise self._failed("no_such_system", "A system's path begins with /redfish/.", field="bmc.system")
        return found

    def _failed(self, reason: str, message: str, *, remedy: str = "", field: str = "") -> BmcFailed:
        return self._service.failed(reason, message, remedy=remedy, field=field)


def require_redfish(target: BmcTarget, clock: Clock) -> None:
    """Raise BmcFailed or BmcUnreachable unless a Redfish service is there, by its root, which everybody may
    read (DSP0266, section 6.5). No credential is sent."""
    nameless = replace(target, user="", password="")
    service = RedfishService(nameless, timeout_s=max(clock.left, 0.1), clock=clock)
    try:
        answer = service.get(ROOT)
        if answer.status != 200 or not _ROOT_MARKS & set(answer.body or ()):
            raise service.not_redfish(f"it answers {ROOT} with HTTP {answer.status}")
    finally:
        service.close()


def is_redfish(target: BmcTarget, clock: Clock) -> bool:
    """Whether :func:`require_redfish` finds one."""
    try:
        require_redfish(target, clock)
    except HostError:
        return False
    return True


def _words(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(name for name in map(word, value[:50]) if name is not None)
