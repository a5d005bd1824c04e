"""Who a host is: its machine ID together with its firmware UUID.

Neither is enough alone. Machines installed from one image share a machine ID until somebody empties it, and
vendors ship boards with one UUID for all. libvirt's own host UUID is of no use: without a firmware's it is
made up at each start.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from nodes.inventory.machine import MachineFacts

_MACHINE_ID = re.compile(r"[0-9a-f]{32}\Z")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

# UUIDs seen on many boards at once, in both byte orders in which they are written.
_SHARED_UUIDS = frozenset(
    {
        "03000200-0400-0500-0006-000700080009",
        "00020003-0004-0005-0006-000700080009",
        "12345678-1234-5678-90ab-cddeefaabbcc",
        "78563412-3412-7856-90ab-cddeefaabbcc",
        "12345678-1234-1234-1234-123456789012",
        "01234567-89ab-cdef-0123-456789abcdef",
        "00112233-4455-6677-8899-aabbccddeeff",
        "33221100-5544-7766-8899-aabbccddeeff",
    }
)


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """At least one of the two is known. ``digest`` is a SHA-256 over both in hexadecimal."""

    machine_id: str | None
    firmware_uuid: str | None
    digest: str

    def same_host(self, other: HostIdentity) -> bool:
        """Whether both are one host: what both know must agree, and there must be something that both know.

        A user without root sees no firmware UUID; such an identity still matches by its machine ID.
        """
        pairs = ((self.machine_id, other.machine_id), (self.firmware_uuid, other.firmware_uuid))
        known = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
        return bool(known) and all(ours == theirs for ours, theirs in known)


def host_identity(machine_id: str | None, machine: MachineFacts) -> HostIdentity | None:
    """The identity from /etc/machine-id and the machine's firmware UUID; None where both tell nothing."""
    first, second = clean_machine_id(machine_id), clean_firmware_uuid(machine.firmware_uuid)
    if first is None and second is None:
        return None
    digest = hashlib.sha256(f"{first or ''}\n{second or ''}".encode("ascii")).hexdigest()
    return HostIdentity(first, second, digest)


def clean_machine_id(text: str | None) -> str | None:
    """32 hexadecimal digits; None for ``uninitialized``, zeros and the like (machine-id(5))."""
    lowered = (text or "").strip().lower().replace("-", "")
    return lowered if _MACHINE_ID.match(lowered) and len(set(lowered)) > 1 else None


def clean_firmware_uuid(text: str | None) -> str | None:
    """A UUID in lower case; None for words such as "Not Settable" and for UUIDs known to be shared.

    As libvirt's virUUIDIsValid, it takes one whose bytes are all alike (zeros, ones) for none.
    """
    lowered = (text or "").strip().lower()
    if not _UUID.match(lowered) or lowered in _SHARED_UUIDS:
        return None
    digits = lowered.replace("-", "")
    return lowered if len({digits[index : index + 2] for index in range(0, 32, 2)}) > 1 else None
