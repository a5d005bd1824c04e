"""The PCI and USB sections of a real host: beside what lspci and lsusb say, and with devices taken."""

import re
from collections.abc import Callable, Iterator

import pytest

from nodes.inventory import pci, usb
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.passthrough import Verdict
from nodes.inventory.pci_facts import PciDevice, PciFacts
from nodes.inventory.registry import all_sources
from nodes.inventory.script import build_script, parse_output
from nodes.inventory.usb_facts import UsbDevice, UsbFacts
from tests.lab import vm
from tests.lab.host import LabHost
from tests.lab.record import patient

_SECTIONS = (pci.SECTION, usb.SECTION)
_XML_MARK = "=====8<====="


def _document(host: LabHost) -> HostDocument:
    """The probe of both sections, and what virsh says instead of libvirt's calls."""
    sources = all_sources(patient(_SECTIONS))
    printed = host.run("sh -s", stdin=build_script(sources), timeout_s=120).stdout
    outputs = dict(parse_output(printed.encode("utf-8", "surrogateescape"), sources))
    script = f"for u in $(virsh list --all --uuid); do virsh dumpxml $u; echo '{_XML_MARK}'; done"
    listed = [text for text in host.run(script).stdout.split(_XML_MARK) if text.strip()]
    for text in listed:
        found = re.search(r"<uuid>(.*?)</uuid>", text)
        assert found is not None
        name = f"libvirt:domain:{found.group(1)}"
        outputs[name] = SourceOutput(name, SourceStatus.OK, text.strip())
    outputs["libvirt:domains"] = SourceOutput("libvirt:domains", SourceStatus.OK, "[]")
    return HostDocument("", outputs, "ssh", "root")


def _pci(host: LabHost) -> PciFacts:
    return pci.parse(_document(host)).facts


def _usb(host: LabHost) -> UsbFacts:
    return usb.parse(_document(host)).facts


def _device(facts: PciFacts, address: str) -> PciDevice:
    [found] = [device for device in facts.devices if device.address == address]
    return found


def _by_serial(facts: UsbFacts, serial: str) -> UsbDevice:
    [found] = [device for device in facts.devices if device.serial == serial]
    return found


def _reasons(device: PciDevice | UsbDevice) -> set[str]:
    return {reason.code for reason in device.passthrough.reasons}


def _records(text: str) -> Iterator[dict[str, list[str]]]:
    """The blocks of ``lspci -vmm``."""
    for block in text.strip().split("\n\n"):
        fields: dict[str, list[str]] = {}
        for line in block.splitlines():
            key, _, value = line.partition(":\t")
            fields.setdefault(key, []).append(value)
        yield fields


def test_ids_drivers_modules_and_groups_are_those_of_lspci(lab_rich: LabHost) -> None:
    expected = {
        fields["Slot"][0]: (
            fields["Vendor"][0],
            fields["Device"][0],
            fields["Class"][0],
            fields.get("Driver", [None])[0],
            tuple(fields.get("Module", [])),
            fields.get("IOMMUGroup", [None])[0],
        )
        for fields in _records(lab_rich.run("lspci -Dvmmnk").stdout)
    }
    found = {
        device.address: (
            device.vendor_id,
            device.device_id,
            (device.class_id or "")[:4],
            device.driver,
            device.modules,
            None if device.iommu_group is None else str(device.iommu_group),
        )
        for device in _pci(lab_rich).devices
    }
    assert found == expected


def test_both_virtual_functions_stand_under_their_physical_one_in_groups_of_their_own(
    lab_rich: LabHost,
) -> None:
    facts = _pci(lab_rich)
    [owner] = [device for device in facts.devices if device.physical_function]
    assert owner.physical_function is not None
    assert (owner.physical_function.total_vfs, owner.physical_function.configured_vfs) == (4, 2)
    functions = [_device(facts, address) for address in owner.physical_function.virtual_functions]
    assert [f.virtual_function and f.virtual_function.index for f in functions] == [0, 1]
    groups = {device.iommu_group for device in (owner, *functions)}
    assert len(groups) == 3
    isolated = {group.number for group in facts.iommu_groups if group.isolated}
    assert groups <= isolated
    assert all(function.passthrough.verdict is Verdict.READY for function in functions)


def test_what_the_host_uses_is_blocked_and_says_why(lab_rich: LabHost) -> None:
    facts = _pci(lab_rich)
    root = next(device for device in facts.devices if any(disk.name == "vda" for disk in device.disks))
    assert any(use.kind == "mount" and use.names == ("/",) and use.system for use in root.current_use)
    bonded = [device for device in facts.devices if "bond_slave" in _reasons(device)]
    assert len(bonded) == 2
    assert all(device.passthrough.verdict is Verdict.BLOCKED for device in bonded)
    assert all(port.speed_mbps == 1000 for device in bonded for port in device.interfaces)
    [managed] = [device for device in facts.devices if "default_route" in _reasons(device)]
    assert managed.interfaces[0].mac == "52:54:00:4c:00:01"
    [graphics] = [device for device in facts.devices if device.boot_vga]
    assert {"boot_vga", "host_driver"} <= _reasons(graphics)


def test_the_usb_tree_is_that_of_lsusb(lab_rich: LabHost) -> None:
    facts = _usb(lab_rich)
    listed = re.findall(r"Bus (\d+) Device (\d+): ID (\w{4}):(\w{4})", lab_rich.run("lsusb").stdout)
    expected = {(int(bus), int(number), vendor, product) for bus, number, vendor, product in listed}
    found = {(d.bus, d.device_number, d.vendor_id, d.product_id) for d in facts.devices}
    assert found == expected
    tablet, stick = _by_serial(facts, "LABTABLET1"), _by_serial(facts, "LABSTICK1")
    [hub] = [device for device in facts.devices if device.name == tablet.parent]
    assert hub.is_hub
    assert not hub.is_root_hub
    assert (tablet.depth, tablet.speed_mbps, stick.speed_mbps) == (2, 12, 5000)
    assert [interface.driver for interface in stick.interfaces] == ["usb-storage"]
    [controller] = facts.controllers
    assert controller.pci_address == stick.controller


@pytest.fixture
def holder(lab_rich: LabHost) -> Iterator[Callable[[str], None]]:
    """Runs a VM named ``holder`` with these devices in its description."""

    def start(devices: str) -> None:
        spec = vm.VmSpec("holder", pci_device="0000:00:00.0")
        xml = re.sub(r"<hostdev.*</hostdev>", devices, spec.xml(), flags=re.DOTALL)
        lab_rich.run("virsh -q define /dev/stdin", stdin=xml)
        lab_rich.run(["virsh", "-q", "start", "holder"], timeout_s=180)

    yield start
    vm.remove(lab_rich, "holder")


def test_a_vm_that_holds_a_usb_device_is_named(lab_rich: LabHost, holder: Callable[[str], None]) -> None:
    ids = "<vendor id='0x0627'/><product id='0x0001'/>"
    bus = "<controller type='usb' model='qemu-xhci'/>"
    holder(f"{bus}<hostdev mode='subsystem' type='usb' managed='yes'><source>{ids}</source></hostdev>")
    document = _document(lab_rich)
    tablet = _by_serial(usb.parse(document).facts, "LABTABLET1")
    assert [(held.vm_name, held.running) for held in tablet.held_by or ()] == [("holder", True)]
    assert tablet.passthrough.verdict is Verdict.BLOCKED
    assert "held_by_vm" in _reasons(tablet)
    assert tablet.controller is not None
    assert "usb_device_held" in _reasons(_device(pci.parse(document).facts, tablet.controller))


def test_a_vm_that_holds_a_virtual_function_is_named_until_it_ends(
    lab_rich: LabHost, holder: Callable[[str], None]
) -> None:
    [owner] = [device for device in _pci(lab_rich).devices if device.physical_function]
    assert owner.physical_function is not None
    address = owner.physical_function.virtual_functions[0]
    holder(vm.VmSpec("holder", pci_device=address)._passthrough())
    facts = _pci(lab_rich)
    function = _device(facts, address)
    assert function.driver == "vfio-pci"
    assert [(held.vm_name, held.running) for held in function.held_by or ()] == [("holder", True)]
    assert "virtual_functions_held" in _reasons(_device(facts, owner.address))
    lab_rich.run(["virsh", "-q", "destroy", "holder"])
    assert "assigned_to_stopped_vm" in _reasons(_device(_pci(lab_rich), address))


def test_a_device_that_is_plugged_in_appears_at_its_port_and_goes_again(lab_rich: LabHost) -> None:
    before = {device.name for device in _usb(lab_rich).devices}
    lab_rich.plug("usb-mouse", "late_mouse", bus="usb.0", port="3")
    try:
        lab_rich.run("udevadm settle; sleep 2; udevadm settle")
        [mouse] = [device for device in _usb(lab_rich).devices if device.name not in before]
        assert (mouse.port, mouse.depth) == (3, 1)
        assert "input" in _reasons(mouse)
    finally:
        lab_rich.unplug("late_mouse")
    assert {device.name for device in _usb(lab_rich).devices} == before


def test_an_ordinary_user_sees_the_same_devices(lab_rich: LabHost) -> None:
    sources = all_sources(patient(_SECTIONS))
    printed = lab_rich.run("sh -s", user="limited", stdin=build_script(sources), timeout_s=120).stdout
    outputs = parse_output(printed.encode("utf-8", "surrogateescape"), sources)
    failed = {name for name, output in outputs.items() if output.status is not SourceStatus.OK}
    assert failed == set()  # vital product data alone needs root, and no emulated card has any
    theirs = pci.parse(HostDocument("", outputs, "ssh", "limited")).facts
    assert [device.address for device in theirs.devices] == [
        device.address for device in _pci(lab_rich).devices
    ]
