"""Redfish: what a BMC says of the machine it belongs to, and the switch for its power.

DMTF DSP0266 (the protocol) and DSP0268 (the schemas ServiceRoot, ComputerSystemCollection, ComputerSystem,
ActionInfo). Every request carries HTTP Basic authentication, which section 13.3 of DSP0266 requires services
to take; a session would leave something behind on BMCs that allow few of them.
"""

from __future__ import annotations

import json
import re
import ssl
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from nodes.errors import BmcFailed, BmcUnreachable, HostTimeout
from nodes.hosts.bmc_line import AnswerTooLong, BmcLine
from nodes.hosts.bmc_target import BmcTarget
from nodes.hosts.certificates import COMPARE, show_certificate, unreachable
from nodes.hosts.deadlines import Clock

ROOT = "/redfish/v1/"
RESET = "#ComputerSystem.Reset"
MAX_SYSTEMS = 64
_PATH = re.compile(r"/redfish/[\x21-\x7e]{1,500}")


@dataclass(frozen=True, slots=True)
class System:
    """A machine as its BMC has it.

    ``power_state`` is the standard's word (On, Off, PoweringOn, PoweringOff, Paused), None where the BMC does
    not know. ``reset_types`` are those that it allows, None where it names none. ``uuid`` is the firmware's.
    """

    path: str
    name: str
    uuid: str | None
    power_state: str | None
    reset_target: str | None
    reset_types: tuple[str, ...] | None

    def is_host(self, firmware_uuid: str) -> bool | None:
        """Whether this is the machine with that firmware UUID; None where one of them is not known.

        SMBIOS writes the first three fields in little-endian order, which some BMCs take over as they are.
        """
        try:
            mine, other = uuid.UUID(self.uuid or ""), uuid.UUID(firmware_uuid)
        except ValueError:
            return None
        return mine in (other, uuid.UUID(bytes=other.bytes_le))


class Redfish:
    """A BMC's Redfish service. A context manager; for one thread.

    Every call ends within ``timeout_s``, and all of them together within ``clock`` where one is given. All
    raise BmcUnreachable and BmcFailed, whose ``reason`` is one of: unreachable, not_tls,
    certificate_differs, certificate_unknown, authentication_failed, not_redfish, no_such_system,
    several_systems, other_system, reset_refused.
    """

    def __init__(self, target: BmcTarget, *, timeout_s: float = 15.0, clock: Clock | None = None) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._clock = clock
        self._line: BmcLine | None = None

    def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

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
        body = self._get(path)
        actions = body.get("Actions")
        action = actions.get(RESET) if isinstance(actions, Mapping) else None
        action = action if isinstance(action, Mapping) else {}
        return System(
            path=path,
            name=_word(body.get("Name")) or _word(body.get("Id")) or path,
            uuid=_word(body.get("UUID")),
            power_state=_word(body.get("PowerState")),
            reset_target=_path(action.get("target")),
            reset_types=self._reset_types(action),
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
        collection = _path(systems.get("@odata.id")) if isinstance(systems, Mapping) else None
        if collection is None:
            raise self._not_redfish("its service root has no systems")
        members = self._get(collection).get("Members")
        links = members if isinstance(members, list) else []
        found = (_path(link.get("@odata.id")) for link in links if isinstance(link, Mapping))
        return tuple(path for path in found if path is not None)[:MAX_SYSTEMS]

    # -- power ------------------------------------------------------------------------------------

    def power_state(self) -> str | None:
        """The target's power state; None where the BMC does not know it."""
        return _word(self._get(self.target.system_path).get("PowerState"))

    def switch_on(self, system: System) -> str:
        """Switch the machine on: ``On``, or ``ForceOn`` where only that is allowed. Gives which it was.

        To be called for a machine that is off. Returns when the BMC has taken the command, not when it is
        done. Raises BmcFailed with the reason reset_refused and the BMC's words.
        """
        allowed = system.reset_types
        kind = "On" if allowed is None else next((word for word in ("On", "ForceOn") if word in allowed), "")
        if system.reset_target is None or not kind:
            offered = ", ".join(allowed or ()) or "none"
            raise self._failed(
                "reset_refused", f"The BMC offers no way to switch this system on; it offers: {offered}."
            )
        status, body = self._call("POST", system.reset_target, {"ResetType": kind})
        if status not in (200, 202, 204):
            why = _said(body) or "without a reason"
            raise self._failed(
                "reset_refused", f"The BMC refused to switch the system on (HTTP {status}): {why}"
            )
        return kind

    def _reset_types(self, action: Mapping[str, Any]) -> tuple[str, ...] | None:
        """The values that Reset takes: named at the action, or in the ActionInfo that it links to."""
        named = _words(action.get("ResetType@Redfish.AllowableValues"))
        info = _path(action.get("@Redfish.ActionInfo"))
        if named is not None or info is None:
            return named
        parameters = self._get(info).get("Parameters")
        for parameter in parameters if isinstance(parameters, list) else []:
            if isinstance(parameter, Mapping) and parameter.get("Name") == "ResetType":
                return _words(parameter.get("AllowableValues"))
        return None

    # -- requests ---------------------------------------------------------------------------------

    def _get(self, path: str) -> Mapping[str, Any]:
        status, body = self._call("GET", self._checked(path))
        if status == 404 and path != ROOT:
            raise self._failed("no_such_system", f"The BMC has nothing at {path}.", field="bmc.system")
        if status != 200:
            raise self._not_redfish(f"it answers {path} with HTTP {status}")
        if body is None:
            raise self._not_redfish(f"its answer at {path} is no JSON object")
        return body

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, Mapping[str, Any] | None]:
        """The status and the JSON object of one request; None where the answer is none."""
        timeout_s = min(self._timeout_s, self._clock.left) if self._clock is not None else self._timeout_s
        if self._line is None or self._line.dead:
            self._line = BmcLine(self.target)
        try:
            status, raw = self._line.exchange(method, path, body, Clock(timeout_s))
        except (HostTimeout, httpx.TimeoutException):
            raise self._late(timeout_s) from None
        except AnswerTooLong:
            raise self._not_redfish("its answer is too long") from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self._translate(error) from error
        if status in (401, 403):
            raise self._failed(
                "authentication_failed",
                f"The BMC refused the user or the password (HTTP {status}).",
                remedy="The user needs the right to see the system and to switch its power.",
                field="bmc.password",
            )
        return status, _object(raw)

    def _translate(self, error: Exception) -> BmcFailed:
        causes = list(_causes(error))
        untrusted = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
        if untrusted is not None:
            return self._certificate_unknown(untrusted.verify_message)
        system = next((cause for cause in causes if isinstance(cause, OSError)), error)
        return unreachable(self.target.address.url, system)

    def _certificate_unknown(self, doubt: str) -> BmcFailed:
        address = self.target.address
        shown = show_certificate(address.host, address.port, timeout_s=self._timeout_s).fingerprint
        return self._failed(
            "certificate_unknown",
            f"Nobody vouches for the certificate of {address.url} ({doubt}). Its SHA-256 fingerprint is "
            f"{shown}.",
            remedy=f"{COMPARE}. If they are the same, send it as certificate_fingerprint.",
            field="bmc.certificate_fingerprint",
            shown=shown,
        )

    def _checked(self, path: str) -> str:
        found = _path(path)
        if found is None:
            raise self._failed("no_such_system", "A system's path begins with /redfish/.", field="bmc.system")
        return found

    def _late(self, timeout_s: float) -> BmcUnreachable:
        return BmcUnreachable(
            f"The BMC at {self.target.address.url} did not answer within {timeout_s:g} s.",
            field="bmc.url",
            extra={"reason": "unreachable"},
        )

    def _not_redfish(self, why: str) -> BmcFailed:
        address = self.target.address.url
        return self._failed(
            "not_redfish",
            f"What answers at {address} is not a Redfish service: {why}.",
            remedy="Give the address of the BMC, and see that Redfish is switched on there.",
            field="bmc.url",
        )

    def _failed(
        self, reason: str, message: str, *, remedy: str = "", field: str = "", **extra: str
    ) -> BmcFailed:
        return BmcFailed(message, remedy=remedy, field=field, extra={"reason": reason, **extra})


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _object(raw: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _word(value: Any) -> str | None:
    """A short text of the BMC's, printable; None for anything else."""
    if not isinstance(value, str) or not value:
        return None
    return "".join(c if c.isprintable() else "?" for c in value)[:200]


def _words(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(word for word in map(_word, value[:50]) if word is not None)


def _path(value: Any) -> str | None:
    """A path of the service's own: never another host's, whatever a BMC links to."""
    if not isinstance(value, str) or not _PATH.fullmatch(value) or "\\" in value:
        return None
    return value


def _said(body: Mapping[str, Any] | None) -> str:
    """The words of an error answer (DSP0266, section 8.6)."""
    error = body.get("error") if body is not None else None
    if not isinstance(error, Mapping):
        return ""
    details = error.get("@Message.ExtendedInfo")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, Mapping) and (text := _word(detail.get("Message"))):
            return text
    return _word(error.get("message")) or ""
