"""The section ``usb`` on whole hosts, on the kernel's formats one by one, and on garbage."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.inventory import pci
from nodes.inventory.build import build
from nodes.inventory.changes import compare
from nodes.inventory.document import HostDocument, SourceStatus
from nodes.inventory.passthrough import Effect, Verdict
from nodes.inventory.plain import to_plain
from nodes.inventory.usb import SECTION, parent_of, parse, place_of, speed_mbps
from nodes.inventory.usb_facts import UsbDevice, UsbFacts
from tests.inventory.documents import host_document
from tests.inventory.pci_hosts import document, domain


def find(facts: UsbFacts, name: str) -> UsbDevice:
    [found] = [device for device in facts.devices if device.name == name]
    return found


def codes(found: UsbDevice) -> dict[str, Effect]:
    return {reason.code: reason.effect for reason in found.passthrough.reasons}


def files(name: str, **values: object) -> str:
    return "".join(f"{name}/{file}:{value}\n" for file, value in values.items())


def link(name: str, path: str) -> str:
    return f"lrwxrwxrwx 1 0  {name} -> ../../../devices/{path}\n"


_FILES = ["idVendor", "speed", "devnum", "maxchild", "bDeviceClass", "bInterfaceNumber", "bMaxPower"]
_FILES += ["bcdDevice", "usb1-port1/connect_type", "../numa_node"]
STICK = files(
    "1-2", idVendor="0781", idProduct="5583", busnum=1, devnum=7, speed=480, bDeviceClass="00", authorized=1
)


class TestLargeHost:
    facts = parse(host_document("large")).facts

    def test_controllers_name_their_pci_device_and_buses(self) -> None:
        first, second = self.facts.controllers
        assert (first.pci_address, first.driver, first.buses, first.numa_cell) == (
            "0000:00:14.0",
            "xhci_hcd",
            (1, 2),
            0,
        )
        assert (second.pci_address, second.buses, second.numa_cell) == ("0000:7f:00.0", (3, 4), 1)

    def test_buses_count_ports_and_devices(self) -> None:
        found = [(bus.number, bus.speed_mbps, bus.port_count, bus.device_count) for bus in self.facts.buses]
        assert found == [(1, 480, 16, 4), (2, 10000, 10, 1), (3, 480, 2, 2), (4, 10000, 2, 0)]

    def test_the_tree_is_listed_from_the_root_down_in_the_order_of_ports(self) -> None:
        names = [(device.name, device.parent, device.depth) for device in self.facts.devices]
        assert names[:6] == [
            ("usb1", None, 0),
            ("1-7", "usb1", 1),
            ("1-7.1", "1-7", 2),
            ("1-7.2", "1-7", 2),
            ("1-9", "usb1", 1),
            ("1-10", "usb1", 1),
        ]

    def test_a_hub_shows_its_ports(self) -> None:
        hub = find(self.facts, "3-1")
        assert hub.is_hub
        assert [(port.number, port.device) for port in hub.ports] == [
            (1, "3-1.1"),
            (2, None),
            (3, None),
            (4, "3-1.4"),
        ]
        root = find(self.facts, "usb1")
        assert root.is_root_hub
        kinds = {port.number: port.connect_type for port in root.ports}
        assert (kinds[7], kinds[9], kinds[16]) == ("hardwired", "hotplug", "not used")

    def test_speed_is_a_number_also_where_it_has_a_fraction(self) -> None:
        assert find(self.facts, "1-10").speed_mbps == 1.5
        assert find(self.facts, "1-9").speed_mbps == 12

    def test_a_composite_device_shows_each_interface(self) -> None:
        keyboard = find(self.facts, "1-7.1")
        assert [(i.number, i.class_id, i.driver) for i in keyboard.interfaces] == [
            (0, "030101", "usbhid"),
            (1, "030102", "usbhid"),
        ]
        assert [i.protocol_name for i in keyboard.interfaces] == ["Keyboard", "Mouse"]
        assert keyboard.class_name == "Human Interface Device"

    def test_own_words_and_the_databases_stand_side_by_side(self) -> None:
        stick = find(self.facts, "2-3")
        assert (stick.manufacturer, stick.product) == ("SanDisk", "Ultra Fit")
        assert (stick.vendor_name, stick.product_name) == ("SanDisk Corp.", "Ultra Fit")
        assert stick.serial == "4C530001230722114433"

    def test_hubs_and_root_hubs_are_blocked(self) -> None:
        assert codes(find(self.facts, "usb1")) == {"root_hub": Effect.BLOCKS}
        assert codes(find(self.facts, "1-7")) == {"hub": Effect.BLOCKS}
        assert find(self.facts, "usb1").selector is None

    def test_a_mounted_stick_is_blocked(self) -> None:
        stick = find(self.facts, "2-3")
        assert stick.passthrough.verdict is Verdict.BLOCKED
        assert stick.current_use[0].names == ("/media/backup stick",)

    def test_the_consoles_keyboard_is_possible_with_its_reason(self) -> None:
        keyboard = find(self.facts, "1-7.1")
        assert keyboard.passthrough.verdict is Verdict.POSSIBLE
        assert codes(keyboard) == {"input": Effect.COSTS}

    def test_the_vm_that_holds_a_device_is_named(self) -> None:
        dongle = find(self.facts, "1-9")
        assert [holder.vm_name for holder in dongle.held_by or ()] == ["render"]
        assert codes(dongle) == {"held_by_vm": Effect.BLOCKS}

    def test_twins_are_told_apart_by_port(self) -> None:
        one, other = find(self.facts, "3-1.1"), find(self.facts, "3-1.4")
        assert one.alike == ("3-1.4",)
        assert other.alike == ("3-1.1",)
        assert codes(one)["ambiguous_ids"] is Effect.NOTE
        assert one.selector is not None
        assert one.selector.unique is False
        assert (one.selector.bus, one.selector.device_number, one.selector.port) == (3, 3, "3-1.1")

    def test_a_stopped_vm_that_names_ids_may_take_either_twin(self) -> None:
        for name in ("3-1.1", "3-1.4"):
            assert codes(find(self.facts, name))["assigned_to_stopped_vm"] is Effect.COSTS


class TestLabHost:
    """A real kernel's words, recorded."""

    facts = parse(host_document("lab-rich")).facts

    def test_the_tablet_hangs_on_the_hub_and_the_stick_on_the_fast_bus(self) -> None:
        tablet, stick = find(self.facts, "1-1.1"), find(self.facts, "2-2")
        assert (tablet.serial, tablet.parent, tablet.speed_mbps) == ("LABTABLET1", "1-1", 12)
        assert (stick.serial, stick.parent, stick.speed_mbps) == ("LABSTICK1", "usb2", 5000)
        assert [(i.class_name, i.driver) for i in stick.interfaces] == [("Mass Storage", "usb-storage")]

    def test_the_vm_named_it_by_its_ids_and_holds_it(self) -> None:
        tablet = find(self.facts, "1-1.1")
        assert [holder.vm_name for holder in tablet.held_by or ()] == ["holder"]
        assert tablet.passthrough.verdict is Verdict.BLOCKED


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "place", "parent"),
        [
            ("usb3", (3, ()), None),
            ("3-1", (3, (1,)), "usb3"),
            ("3-1.4", (3, (1, 4)), "3-1"),
            ("12-10.2.3", (12, (10, 2, 3)), "12-10.2"),
        ],
    )
    def test_names_tell_the_place(self, name: str, place: tuple[int, tuple[int, ...]], parent: str) -> None:
        assert place_of(name) == place
        assert parent_of(name) == parent

    @pytest.mark.parametrize(
        ("text", "speed"),
        [("1.5", 1.5), ("480", 480), ("20000", 20000), ("unknown", None), (None, None), ("-1", None)],
    )
    def test_speed(self, text: str | None, speed: float | None) -> None:
        found = speed_mbps(text)
        assert found == speed
        assert isinstance(found, type(speed))

    def test_a_free_stick_is_ready(self) -> None:
        stick = find(parse(document({"usb-files": STICK})).facts, "1-2")
        assert stick.passthrough.verdict is Verdict.READY
        assert stick.selector is not None
        assert stick.selector.unique is True

    def test_ports_are_ordered_by_number(self) -> None:
        text = "".join(files(f"1-{port}", idVendor="0781", idProduct="5583") for port in (10, 2, 1))
        names = [device.name for device in parse(document({"usb-files": text})).facts.devices]
        assert names == ["1-1", "1-2", "1-10"]

    def test_a_controller_that_is_none_of_pci_is_named_by_its_platform_device(self) -> None:
        text = files("usb1", speed=480, maxchild=1, bDeviceClass="09")
        listed = link("usb1", "platform/soc/fd500000.xhci/xhci-hcd.0.auto/usb1")
        [controller] = parse(document({"usb-files": text, "usb-links": listed})).facts.controllers
        assert (controller.id, controller.pci_address) == ("xhci-hcd.0.auto", None)

    def test_what_a_program_has_open_is_said(self) -> None:
        text = STICK + files("1-2:1.0", bInterfaceNumber="00", bInterfaceClass="ff")
        listed = "lrwxrwxrwx 1 0  1-2:1.0/driver -> ../../../bus/usb/drivers/usbfs\n"
        stick = find(parse(document({"usb-files": text, "usb-links": listed})).facts, "1-2")
        assert codes(stick) == {"claimed_by_program": Effect.COSTS}

    def test_the_live_description_names_one_of_two_twins(self) -> None:
        twin = STICK.replace("1-2/", "1-3/").replace("devnum:7", "devnum:8")
        hostdev = (
            "<hostdev mode='subsystem' type='usb' managed='yes'><source><vendor id='0x0781'/>"
            "<product id='0x5583'/><address bus='1' device='8'/></source></hostdev>"
        )
        facts = parse(document({"usb-files": STICK + twin} | domain(hostdev))).facts
        assert find(facts, "1-2").held_by == ()
        assert [holder.vm_name for holder in find(facts, "1-3").held_by or ()] == ["guest"]

    def test_a_device_that_was_missing_at_the_start_is_not_held(self) -> None:
        hostdev = (
            "<hostdev mode='subsystem' type='usb'><source startupPolicy='optional' missing='yes'>"
            "<vendor id='0x0781'/><product id='0x5583'/></source></hostdev>"
        )
        facts = parse(document({"usb-files": STICK} | domain(hostdev))).facts
        assert find(facts, "1-2").held_by == ()

    def test_a_device_that_is_not_authorized_says_so(self) -> None:
        text = STICK.replace("authorized:1", "authorized:0")
        stick = find(parse(document({"usb-files": text})).facts, "1-2")
        assert codes(stick) == {"not_authorized": Effect.COSTS}

    def test_a_silent_libvirt_leaves_the_holder_unknown(self) -> None:
        silent = document({"usb-files": STICK}, **{"libvirt:domains": SourceStatus.FAILED})
        assert find(parse(silent).facts, "1-2").held_by is None

    def test_unread_uses_never_read_as_free(self) -> None:
        cut = document({"usb-files": STICK}, use_links=SourceStatus.TRUNCATED)
        assert codes(find(parse(cut).facts, "1-2")) == {"use_unknown": Effect.COSTS}

    def test_a_host_without_usb_has_none(self) -> None:
        assert parse(document({"usb-files": "", "usb-links": ""})).facts == UsbFacts()


class TestChanges:
    before = host_document("lab-rich")

    def changes(self, **texts: str) -> list[tuple[str, str, str, str]]:
        outputs = {
            name: replace(self.before.get(name), stdout=text)
            for name, text in ((key.replace("_", "-"), text) for key, text in texts.items())
        }
        return self.between(self.before.with_sources(outputs))

    def between(self, after: HostDocument) -> list[tuple[str, str, str, str]]:
        sections = (pci.SECTION, SECTION)
        found = compare(build(self.before, sections), build(after, sections), sections)
        return [(change.section, change.kind.value, change.path, change.subject) for change in found]

    def test_a_stick_that_was_pulled_out_is_one_change(self) -> None:
        texts = {name: self.before.text(name) for name in ("usb-files", "usb-links")}
        without = {
            name.replace("-", "_"): "\n".join(line for line in text.split("\n") if "2-2" not in line)
            for name, text in texts.items()
        }
        assert self.changes(**without) == [("usb", "removed", "devices", "2-2")]

    def test_the_same_stick_plugged_in_again_is_none(self) -> None:
        text = self.before.text("usb-files").replace("2-2/devnum:2", "2-2/devnum:9")
        assert text != self.before.text("usb-files")
        assert self.changes(usb_files=text) == []

    def test_a_libvirt_that_falls_silent_is_none(self) -> None:
        name = "libvirt:domains"
        silent = replace(self.before.get(name), status=SourceStatus.FAILED, stdout="")
        assert self.between(self.before.with_sources({name: silent})) == []

    def test_a_device_that_changes_its_driver_is_one(self) -> None:
        text = self.before.text("pci-links").replace("drivers/megaraid_sas", "drivers/vfio-pci")
        assert self.changes(pci_links=text) == [("pci", "changed", "devices.driver", "0000:02:00.0")]


class TestBrokenDocuments:
    large = host_document("large")

    @pytest.mark.parametrize("status", [s for s in SourceStatus if s is not SourceStatus.OK])
    @pytest.mark.parametrize("name", [source.name for source in SECTION.sources])
    def test_a_source_that_fails_is_named_and_the_rest_stays(self, name: str, status: SourceStatus) -> None:
        broken = replace(self.large.get(name), status=status, stdout="")
        result = build(self.large.with_sources({name: broken}), [SECTION]).results["usb"]
        assert result.plain is not None
        assert name in {problem.source for problem in result.problems}
        assert len(result.facts.devices) == 13

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_truncation_never_raises(self, data: st.DataObject) -> None:
        outputs = {
            name: replace(output, stdout=output.stdout[: data.draw(st.integers(0, len(output.stdout)))])
            for name, output in self.large.sources.items()
        }
        to_plain(parse(HostDocument("", outputs)).facts)

    @settings(max_examples=100, deadline=None)
    @given(
        st.dictionaries(st.sampled_from([source.name for source in SECTION.sources]), st.text(max_size=200))
    )
    def test_foreign_text_never_raises(self, texts: dict[str, str]) -> None:
        to_plain(parse(document(texts)).facts)

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["usb1", "1-2", "1-2.3.4", "1-2:1.0", "1-0:1.0", "99999999999-1", "usb٣"]),
                st.sampled_from(_FILES),
                st.text(max_size=30) | st.integers().map(str),
            ),
            max_size=15,
        )
    )
    def test_odd_values_never_raise(self, values: list[tuple[str, str, str]]) -> None:
        text = "".join(f"{name}/{file}:{value}\n" for name, file, value in values)
        facts = parse(document({"usb-files": text})).facts
        assert all(len(device.ports) <= 256 for device in facts.devices)
        to_plain(facts)
