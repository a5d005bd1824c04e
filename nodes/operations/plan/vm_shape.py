"""What of a VM a plan was made for: its memory, processor, host paths, disks and other devices.

libvirt's description of a running VM, taken apart into named parts of canonical text, so that the description
read right before a migration can be compared with the confirmed one and what differs be named. Left out is
what changes by itself while a VM runs (balloon, agent's state, addresses and names that libvirt gives out,
tray of a drive) and what can be changed on the fly and does no harm (bandwidth, link state).

Format: https://libvirt.org/formatdomain.html.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from lxml import etree

LONGEST = 400
"""Characters of a part that are kept as they are; of what is longer the rest is told apart by a digest."""
MOST_NAMED = 5
"""Differences that a message names."""

_LEFT_OUT = frozenset(
    {"alias", "address", "seclabel", "bandwidth", "iotune", "link", "stats", "protocol", "mirror", "listen"}
)
_LEFT_OUT_ATTRIBUTES = frozenset(
    # state: of a guest agent's channel; tty and index: libvirt's own counting.
    {
        "index",
        "tty",
        "state",
        "tray",
        "portid",
        "websocket",
        "websocketGenerated",
        "passwdValidTo",
        "connected",
    }
)
_OWN_PATHS = ("/dev/pts/", "/var/lib/libvirt/qemu/", "/run/libvirt/qemu/", "/var/run/libvirt/qemu/")
"""Where libvirt makes files for each run of a VM by itself."""
_CUT = "…"
_CONTEXT = ("memory", "cpu", "boot")


@dataclass(frozen=True, slots=True)
class VmShape:
    """``parts`` are pairs of a name ("disk vda", "memory") and its text, ordered by name."""

    parts: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, domain: etree._Element) -> Self:
        """The shape of a ``<domain>`` as libvirt describes it while it runs."""
        found: dict[str, str] = {}
        for name, text in (*_basics(domain), *_devices(domain)):
            found[_unused(name, found)] = _bounded(text)
        return cls(tuple(sorted(found.items())))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits: two VMs of one shape have the same."""
        text = "\n".join(f"{name}\t{value}" for name, value in self.parts)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def differences(self, now: VmShape) -> tuple[str, ...]:
        """What is another in ``now``, in words, by part: ``disk vda: file /a.img → file /b.img``."""
        before, after = dict(self.parts), dict(now.parts)
        words = []
        for name in sorted(before.keys() | after.keys()):
            old, new = before.get(name), after.get(name)
            if old is None:
                words.append(f"{name}: new ({new})")
            elif new is None:
                words.append(f"{name}: gone ({old})")
            elif old != new:
                words.append(f"{name}: {_what_differs(old, new)}")
        more = len(words) - MOST_NAMED
        return (*words[:MOST_NAMED], f"{more} more") if more > 0 else tuple(words)


def _what_differs(old: str, new: str) -> str:
    """The words that only one of the two has; whole where they are not made of words."""
    before, after = old.split("; "), new.split("; ")
    gone = [word for word in before if word not in after]
    come = [word for word in after if word not in before]
    if len(gone) > 1 or len(come) > 1:
        # The digest of what was cut off tells nobody anything beside words that do.
        gone = [word for word in gone if not word.startswith(_CUT)]
        come = [word for word in come if not word.startswith(_CUT)]
    if not gone and not come:
        return "in another order"
    return f"{'; '.join(gone) or '–'} → {'; '.join(come) or '–'}"


def _unused(name: str, taken: Mapping[str, str]) -> str:
    number = 2
    unused = name
    while unused in taken:
        unused, number = f"{name} {number}", number + 1
    return unused


def _bounded(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    end = max(text.rfind("; ", 0, LONGEST), 0)
    kept, rest = (text[:end], text[end:]) if end else (text[:LONGEST], text[LONGEST:])
    return f"{kept}; {_CUT} {hashlib.sha256(rest.encode()).hexdigest()[:16]}"


# -- memory, processor, boot ------------------------------------------------------------------------


def _basics(domain: etree._Element) -> Iterator[tuple[str, str]]:
    groups = {
        "memory": ("memory", "maxMemory", "memoryBacking", "numatune"),
        "cpu": ("vcpu", "vcpus", "cpu", "cputune/vcpupin", "cputune/emulatorpin", "cputune/iothreadpin"),
        "boot": ("os",),
    }
    for name in _CONTEXT:
        elements = [element for path in groups[name] for element in domain.iterfind(path)]
        yield name, "; ".join(word for element in elements for word in _words(element, str(element.tag)))
    # The rest of the command line may hold what nobody should read here: its digest alone.
    for element in domain.iterfind("{*}commandline"):
        text = etree.tostring(element, method="c14n").decode("utf-8", "replace")
        yield "command line", hashlib.sha256(text.encode()).hexdigest()[:16]


# -- devices ---------------------------------------------------------------------------------------


def _devices(domain: etree._Element) -> Iterator[tuple[str, str]]:
    devices = domain.find("devices")
    for device in devices if devices is not None else ():
        if not isinstance(device.tag, str):
            continue
        if device.tag == "emulator":
            yield "emulator", (device.text or "").strip()
        elif device.tag != "console" or device.get("type") != "pty":
            # A console of that kind is the first serial port once more.
            yield _name(device), "; ".join(_words(device, ""))


def _name(device: etree._Element) -> str:
    tag = str(device.tag)
    if tag == "interface":
        mac = device.find("mac")
        return f"{tag} {mac.get('address')}" if mac is not None else tag
    target = device.find("target")
    told = None
    if target is not None:
        told = target.get("dev") or target.get("name") or target.get("dir") or target.get("port")
    return " ".join(word for word in (tag, told or device.get("type") or device.get("model")) if word)


def _words(element: etree._Element, path: str) -> Iterator[str]:
    """``source file=/srv/web.qcow2`` and the like: what each element within has, in document order."""
    parent = element.getparent()
    context = str(parent.tag) if parent is not None else ""
    told = [
        f"{name}={value}"
        for name, value in sorted(element.attrib.items())
        if name not in _LEFT_OUT_ATTRIBUTES and not _is_given_out(element, context, str(name), str(value))
    ]
    text = (element.text or "").strip()
    if text and not text.startswith(_OWN_PATHS):
        told.append(text)
    if told:
        yield " ".join(word for word in (path, *told) if word)
    for child in element:
        if not isinstance(child.tag, str) or (child.tag in _LEFT_OUT and element.tag != "source"):
            continue
        yield from _words(child, f"{path} {child.tag}".strip())


def _is_given_out(element: etree._Element, context: str, name: str, value: str) -> bool:
    """Whether libvirt chose the attribute's value by itself, and another at the next start."""
    if name in ("path", "file", "dir", "socket") and value.startswith(_OWN_PATHS):
        return True
    if context == "interface" and element.tag == "target" and name == "dev":
        return value.startswith(("vnet", "macvtap", "tap"))
    automatic = element.get("autoport") == "yes"
    return element.tag == "graphics" and name in ("port", "tlsPort") and automatic
