"""What ``ethtool`` adds to a network card: firmware, negotiation, its permanent address, what it could do.

Format: ethtool(8); its texts stem from ethtool's source (``ethtool``, ``-i`` and ``-P``, one after the
other).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodes.inventory.forms import lines_like
from nodes.inventory.interface import read_duplex, read_speed
from nodes.inventory.links import read_mac
from nodes.inventory.parsing.numbers import capped
from nodes.inventory.source import Source

ETHTOOL = Source(
    name="ethtool",
    needs="ethtool",
    # Virtual functions are left out: there may be hundreds, and they say what their card says.
    items="""cd /sys/class/net || exit
for device in */device; do
  name=${device%/device}
  case $name in -*) continue ;; esac
  [ -e "$device" ] && ! [ -e "$device/physfn" ] && printf '%s\\n' "$name"
done
:""",
    # Where the address in use is the card's own, or a bond says which one is, nobody need be asked.
    command="""ethtool "$1"; ethtool -i "$1"
cd "/sys/class/net/$1" || exit
{ read -r assigned <addr_assign_type; } 2>/dev/null || assigned=
[ "$assigned" = 0 ] || [ -e bonding_slave/perm_hwaddr ] || ethtool -P "$1"
:""",
    ok_statuses=None,
    max_bytes=1 << 16,
    form=lines_like(r"^\S{1,64}$"),
    item_form=lines_like(r"^(?:Settings for |driver: |Permanent address: )"),
)

_MODE = re.compile(r"\b(\d{2,7})base", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ethtool:
    """Facts of one card. Speeds in Mbit/s. ``port`` as ethtool words it (``Twisted Pair``, ``FIBRE``,
    ``Direct Attach Copper`` …), ``wake_on`` its letters (``g``: by a magic packet; ``d``: off)."""

    driver: str | None = None
    firmware: str | None = None
    permanent_mac: str | None = None
    autoneg: bool | None = None
    speed_mbps: int | None = None
    duplex: str | None = None
    port: str | None = None
    supported_max_speed_mbps: int | None = None
    wake_on: str | None = None


def read_ethtool(text: str) -> Ethtool:
    """Facts in what the three commands printed. What a driver does not support is None."""
    values: dict[str, str] = {}
    modes: list[int] = []
    section = ""
    for line in text.splitlines():
        name, colon, value = line.partition(": ")
        if not colon and line.endswith(":"):
            name, colon = line[:-1], ":"
        if colon:
            section = name.strip().lower()
            values.setdefault(section, value.strip())
        if section == "supported link modes":
            modes += [capped(speed) for speed in _MODE.findall(line)]
    autoneg = values.get("auto-negotiation")
    return Ethtool(
        driver=_said(values.get("driver")),
        firmware=_said(values.get("firmware-version")),
        permanent_mac=read_mac(values.get("permanent address")),
        autoneg=autoneg == "on" if autoneg in ("on", "off") else None,
        speed_mbps=read_speed((values.get("speed") or "").removesuffix("Mb/s")),
        duplex=read_duplex(values.get("duplex")),
        port=_said(values.get("port")),
        supported_max_speed_mbps=max(modes, default=None),
        wake_on=_said(values.get("wake-on")),
    )


def _said(text: str | None) -> str | None:
    return None if text in (None, "", "N/A", "n/a", "Unknown!", "Other", "None") else text
