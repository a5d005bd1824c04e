"""The addresses and fixed ports on which the VM's displays and consoles listen are the target's, and free.

libvirt starts the incoming half of a migration with the same ones, and refuses it where QEMU cannot have them
(https://libvirt.org/formatdomain.html#graphical-framebuffers). A port that libvirt chooses is chosen again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from django.utils.translation import gettext as _
from lxml import etree

from nodes.inventory.parsing.numbers import integer
from nodes.operations.plan.host_resources import Address, HostResources
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that QEMU opens: ``address`` None where it is a name or the default of libvirt's settings."""

    device: str
    address: Address | None
    port: int | None


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    wanted = tuple(dict.fromkeys(_listening(vm)))
    if wanted and target.resources is None:
        yield Note(_("Not verified: the ports and addresses of %s could not be read.") % target.name)
    elif target.resources is not None:
        for listening in wanted:
            yield from _taken(listening, target.resources)


def _taken(wanted: Listening, there: HostResources) -> Iterable[Reason]:
    address = wanted.address
    if (
        address is not None
        and not (address.is_unspecified or address.is_loopback)
        and there.addresses is not None
        and address not in there.addresses
    ):
        text = _("does not have the address %(address)s, on which the VM's %(device)s listens")
        words = {"address": address, "device": wanted.device}
        remedy = _("Let it listen on 0.0.0.0 or on a libvirt network, or stop the VM.")
        yield Reason("listen_address_not_on_target", text % words, remedy)
    elif wanted.port is not None and there.takes_port(wanted.port, address):
        text = _("has port %(port)d taken, on which the VM's %(device)s listens")
        ports: dict[str, object] = {"port": wanted.port, "device": wanted.device}
        remedy = _("Let libvirt choose the port (autoport), or free it on the target.")
        yield Reason("port_taken_on_target", text % ports, remedy)


def _listening(vm: VmState) -> Iterator[Listening]:
    if vm.element is None:
        return
    for graphics in vm.element.iterfind("devices/graphics"):
        yield from _display(graphics)
    for tag in ("serial", "parallel", "console", "channel"):
        for element in vm.element.iterfind(f"devices/{tag}[@type='tcp']/source[@mode='bind']"):
            port = integer(element.get("service"))
            yield Listening(tag, _address(element.get("host")), port)


def _display(graphics: etree._Element) -> Iterator[Listening]:
    device = (graphics.get("type") or "display").upper()
    listen = graphics.find("listen")
    kind = listen.get("type") if listen is not None else "address"
    if kind in ("socket", "none") or graphics.get("socket"):
        return
    # The address of a network is looked up anew on each host.
    text = (listen.get("address") if listen is not None else None) or graphics.get("listen")
    address = _address(text) if kind == "address" else None
    ports = [_fixed(graphics.get("websocket"))]
    if graphics.get("autoport") != "yes":
        ports += [_fixed(graphics.get("port")), _fixed(graphics.get("tlsPort"))]
    fixed = [port for port in ports if port is not None]
    for port in fixed:
        yield Listening(device, address, port)
    if not fixed and address is not None:
        yield Listening(device, address, None)


def _fixed(text: str | None) -> int | None:
    port = integer(text)
    return port if port is not None and 0 < port < 65536 else None


def _address(text: str | None) -> Address | None:
    try:
        return ip_address((text or "").strip())
    except ValueError:
        return None
