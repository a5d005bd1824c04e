"""How big the host's block devices are, by every path that a VM's description may name one by.

Source: the sizes and device-mapper names in sysfs that the section ``disks`` reads; sizes there are in
sectors of 512 bytes on every device (Documentation/ABI/stable/sysfs-block).
"""

from __future__ import annotations

import re

from nodes.inventory.disk_sources import DISK_FILES
from nodes.inventory.document import HostDocument
from nodes.inventory.parsing.numbers import integer

_SECTOR_BYTES = 512
_LINE = re.compile(r"/sys/class/block/([^/:]+)/(size|dm/name):(.*)")
_VOLUME = re.compile(r"/dev/([^/]+)/([^/]+)\Z")


class BlockSizes:
    """Sizes in bytes of what ``document`` knows; a path that it does not know has None."""

    def __init__(self, document: HostDocument) -> None:
        sizes: dict[str, int] = {}
        mapped: dict[str, str] = {}
        for name, what, value in _LINE.findall(document.text(DISK_FILES.name)):
            sectors = integer(value)
            if what == "dm/name":
                mapped[value.strip()] = name
            elif sectors is not None and sectors > 0:
                sizes[name] = sectors * _SECTOR_BYTES
        self._sizes, self._mapped = sizes, mapped

    def get(self, path: str | None) -> int | None:
        """The size of the device at ``path``: ``/dev/sda``, ``/dev/mapper/NAME`` or ``/dev/GROUP/VOLUME``."""
        if path is None or not path.startswith("/dev/"):
            return None
        name = self._mapped.get(path.removeprefix("/dev/mapper/"))
        volume = _VOLUME.match(path)
        if name is None and volume is not None:
            # LVM doubles the hyphens within the names, so that the one between them stands out.
            group, logical = (part.replace("-", "--") for part in volume.groups())
            name = self._mapped.get(f"{group}-{logical}")
        return self._sizes.get(name or path.removeprefix("/dev/").replace("/", "!"))
