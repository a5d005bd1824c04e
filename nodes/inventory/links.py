"""The kernel's network interfaces as they were read, before anything is made of them.

Sources: /sys/class/net (Documentation/ABI/testing/sysfs-class-net), the links in it as ``ls`` shows them, and
``ip -j -d -s address`` (iproute2's JSON). Each is whole without the others; where two tell the same, sysfs is
asked first, as it says the same on every kernel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nodes.inventory.counters import Counters, counters_of_ip, counters_of_proc
from nodes.inventory.document import HostDocument
from nodes.inventory.forms import FILES_OF_EVERY_HOST, LISTING_OF_EVERY_HOST, json_of
from nodes.inventory.jsontext import Tree, read_values, subtree, words
from nodes.inventory.parsing.numbers import capped, integer
from nodes.inventory.procfiles import Files
from nodes.inventory.source import Source

_ALWAYS = (
    "uevent type flags address addr_assign_type mtu operstate carrier speed duplex iflink ifalias tun_flags"
    " phys_port_name phys_switch_id dev_port device/vendor device/device device/numa_node"
    " device/sriov_totalvfs device/sriov_numvfs device/../product"
)
_BRIDGE = (
    "bridge_id root_id root_port root_path_cost stp_state hello_time forward_delay max_age ageing_time"
    " priority topology_change topology_change_detected vlan_filtering vlan_protocol default_pvid"
    " multicast_snooping"
)
_PORT = "state port_no path_cost priority hairpin_mode isolated learning bpdu_guard root_block"


def _patterns() -> str:
    names = [*_ALWAYS.split(), "bonding/*", "bonding_slave/*"]
    names += [f"bridge/{name}" for name in _BRIDGE.split()]
    names += [f"brport/{name}" for name in _PORT.split()]
    return " ".join(f"*/{name}" for name in names)


NET_FILES = Source(
    name="net-files",
    # grep ends with 2 where a file cannot be read, and asking an interface without a link for its speed is
    # such a read; that the directory is there is what counts.
    command=f"cd /sys/class/net && {{ grep -as . {_patterns()} \\\n"
    "  /proc/net/dev /proc/net/bonding/* /proc/net/vlan/*; :; }",
    max_bytes=4 << 20,
    form=FILES_OF_EVERY_HOST,
)
"""Small files by one grep. /proc/net/vlan and the partner of LACP are for root alone; ``ip`` tells them
too.
"""

NET_LINKS = Source(
    name="net-links",
    command="cd /sys/class/net && { ls -ld -- * */device */device/subsystem */device/driver */master"
    " */device/physfn \\\n  */device/virtfn* */device/virtfn*/driver 2>/dev/null; :; }",
    max_bytes=2 << 20,
    form=LISTING_OF_EVERY_HOST,
)

IP_ADDRESS = Source(
    name="ip-address",
    needs="ip",
    # Which VLANs a port of a bridge carries is told by `bridge` alone, and matters only where one filters.
    command="""ip -j -d -s address show || exit
for file in /sys/class/net/*/bridge/vlan_filtering; do
  if read -r on 2>/dev/null <"$file" && [ "$on" = 1 ] && command -v bridge >/dev/null; then
    bridge -j vlan show
    break
  fi
done""",
    max_bytes=4 << 20,
    form=json_of(list, always=True),
)

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]")
_USB = re.compile(r"/(\d+-\d+(?:\.\d+)*)(?=/|\Z)")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5,31}\Z")


@dataclass(frozen=True, slots=True)
class Link:
    """One interface. ``files``: first lines by path below its directory; ``links``: targets likewise;
    ``ip``: its object of ``ip -j``.
    """

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    ip: Tree = field(default_factory=dict)
    uevent: Mapping[str, str] = field(default_factory=dict)
    counters: Counters | None = None
    pci_address: str | None = None
    """The PCI function it stands on (of a virtio card too); None for one on USB or without hardware."""

    def text(self, path: str) -> str | None:
        return self.files.get(path)

    def number(self, path: str) -> int | None:
        return integer(self.files.get(path))

    @property
    def info(self) -> Tree:
        """What ``ip -d`` says of its kind: ``info_kind``, ``info_data``; ``info_slave_data`` of a port."""
        return subtree(self.ip, "linkinfo")

    @property
    def data(self) -> Tree:
        return subtree(self.ip, "linkinfo", "info_data")

    @property
    def port_data(self) -> Tree:
        return subtree(self.ip, "linkinfo", "info_slave_data")

    @property
    def usb_path(self) -> str | None:
        """The USB device it is: its port as ``bus-port.port``."""
        path = self.links.get("", "")
        found = _USB.findall(path) if "device" in self.links and "/usb" in path else []
        return found[-1] if found else None


@dataclass(frozen=True, slots=True)
class Links:
    """All interfaces by name, whether ``ip`` was read, and what has no interface of its own to hang on."""

    by_name: Mapping[str, Link]
    files: Files
    has_ip: bool
    has_sysfs: bool
    vlans: tuple[Tree, ...] = ()
    """Objects of ``bridge -j vlan``."""

    def named(self, index: int | None) -> str | None:
        """The name of the interface with the kernel's number ``index``."""
        for link in self.by_name.values():
            if index is not None and link_index(link) == index:
                return link.name
        return None


def read_links(document: HostDocument) -> Links:
    """Every interface that one of the sources names, in the order of their names."""
    files = Files(document.text(NET_FILES.name))
    own = _files_by_name(document.text(NET_FILES.name))
    targets = _targets(document.text(NET_LINKS.name))
    values = read_values(document.text(IP_ADDRESS.name))
    first = values[0] if values and isinstance(values[0], list) else []
    told = {name: item for item in first if (name := words(item, "ifname"))}
    counted = counters_of_proc(files.lines("/proc/net/dev"))
    vlans = values[1] if len(values) > 1 and isinstance(values[1], list) else []
    linked = {name for name, links in targets.items() if "" in links}
    names = sorted({*own, *linked, *told, *counted}, key=_natural)
    by_name = {
        name: Link(
            name,
            {path: lines[0] for path, lines in own.get(name, {}).items()},
            targets.get(name, {}),
            told.get(name, {}),
            _uevent(own.get(name, {}).get("uevent", [])),
            counters_of_ip(told.get(name, {})) or counted.get(name),
            _pci_address(targets.get(name, {})),
        )
        for name in names
    }
    return Links(
        by_name, files, bool(told), bool(own), tuple(vlan for vlan in vlans if isinstance(vlan, dict))
    )


def link_index(link: Link) -> int | None:
    """The kernel's number of the interface."""
    found = integer(link.uevent.get("IFINDEX"))
    if found is None:
        told = link.ip.get("ifindex")
        found = told if isinstance(told, int) and not isinstance(told, bool) else None
    return found


def read_mac(text: str | None) -> str | None:
    """A hardware address in small letters (20 bytes on InfiniBand). All zeros is none."""
    mac = (text or "").strip().lower()
    return mac if _MAC.match(mac) and mac.strip("0:") else None


def base_name(path: str | None) -> str | None:
    """The last part of a link's target."""
    return (path or "").rstrip("/").rpartition("/")[2] or None


def _files_by_name(text: str) -> dict[str, dict[str, list[str]]]:
    """The files below each interface's directory: lines by path, without those of /proc."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in text.split("\n"):
        path, colon, value = line.partition(":")
        name, slash, below = path.partition("/")
        if colon and slash and name:
            found.setdefault(name, {}).setdefault(below, []).append(value.strip(" \t\r\0"))
    return found


def _targets(text: str) -> dict[str, dict[str, str]]:
    """Targets of the links by interface and path below it; ``""`` is the interface's own."""
    found: dict[str, dict[str, str]] = {}
    for line in text.split("\n"):
        left, arrow, target = line.partition(" -> ")
        name, _, below = left.rpartition(" ")[2].partition("/")
        if arrow and name:
            found.setdefault(name, {})[below] = target.strip()
    return found


def _pci_address(links: Mapping[str, str]) -> str | None:
    path = links.get("", "")
    found = _ADDRESS.findall(path) if "device" in links and "/usb" not in path else []
    return found[-1] if found else None


def _uevent(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition("=") for line in lines)
    return {key: value for key, equals, value in pairs if equals}


def _natural(name: str) -> tuple[tuple[str, int], ...]:
    """eth2 before eth10."""
    parts = re.findall(r"(\D*)(\d{0,18})", name)
    return tuple((text, capped(digits) if digits else -1) for text, digits in parts)
