"""A machine as its BMC has it (DSP0268, schema ComputerSystem)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

ON, OFF = "On", "Off"
POWERING_ON, POWERING_OFF = "PoweringOn", "PoweringOff"


@dataclass(frozen=True, slots=True)
class System:
    """A machine, as it was when it was read.

    ``power_state`` is the standard's word (On, Off, PoweringOn, PoweringOff, Paused), None where the BMC does
    not know. ``reset_types`` are those that it allows, None where it names none. ``uuid`` is the firmware's.
    ``etag`` names this state of the resource.
    """

    path: str
    name: str
    uuid: str | None
    power_state: str | None
    reset_target: str | None
    reset_types: tuple[str, ...] | None
    etag: str | None = None

    @property
    def is_on(self) -> bool:
        """Whether the power is on, or just being switched on."""
        return self.power_state in (ON, POWERING_ON)

    def is_host(self, firmware_uuid: str) -> bool | None:
        """Whether this is the machine with that firmware UUID; None where one of them is not known.

        SMBIOS writes the first three fields in little-endian order, which some BMCs take over as they are.
        """
        try:
            mine, other = uuid.UUID(self.uuid or ""), uuid.UUID(firmware_uuid)
        except ValueError:
            return None
        return mine in (other, uuid.UUID(bytes=other.bytes_le))
