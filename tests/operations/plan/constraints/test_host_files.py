"""Firmware, channels and consoles, and displays: what they name of a host is on the target, or is named."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from nodes.operations.plan.constraints import display, firmware, named_files
from nodes.operations.plan.host_files import HostFile, paths_of
from nodes.operations.plan.host_resources import HostResources, Listener
from tests.operations.plan.constraints.states import codes, found, source, target, vm

CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
NVRAM = "/srv/nvram/web.fd"
UEFI = f"<loader readonly='yes' type='pflash'>{CODE}</loader><nvram template='{VARS}'>{NVRAM}</nvram>"
BIG, SMALL, GONE, FOLDER = (
    HostFile(True, 4 << 20),
    HostFile(True, 2 << 20),
    HostFile(False),
    HostFile(True, 0, True),
)
WELL = {CODE: BIG, VARS: SMALL, NVRAM: GONE, "/srv/nvram": FOLDER}


def uefi(**there: HostFile):
    files = WELL | {
        {"code": CODE, "vars": VARS, "nvram": NVRAM, "folder": "/srv/nvram"}[k]: v for k, v in there.items()
    }
    return found(firmware.check, vm(os=UEFI), source(files=WELL | {NVRAM: SMALL}), target(files=files))


def test_the_same_image_and_a_template_for_the_variables_fit():
    assert uefi() == uefi(nvram=SMALL)
    assert codes(uefi()) == [] and uefi().notes == ()


@pytest.mark.parametrize(
    ("there", "word"),
    [
        ({"code": GONE}, CODE),
        ({"code": SMALL}, "its size differs"),
        ({"vars": GONE}, VARS),
        ({"folder": GONE}, "no folder /srv/nvram"),
        ({"nvram": BIG}, "of another size"),
    ],
)
def test_firmware_that_is_missing_or_of_another_size_keeps_the_vm_away(there, word):
    assert codes(uefi(**there)) == ["firmware_not_on_target"]
    assert word in uefi(**there).reasons[0].message


def test_what_a_user_may_not_look_at_is_said_as_not_verified():
    findings = uefi(code=HostFile(None))
    assert codes(findings) == [] and CODE in findings.notes[0]


def test_a_vm_without_firmware_of_its_own_names_no_file():
    assert paths_of([vm()]) == ()
    assert found(firmware.check, vm(), source(), target()).notes == ()


SERIAL_LOG = "<serial type='file'><source path='/srv/log/web.log'/></serial>"


@pytest.mark.parametrize(
    ("devices", "os", "needed"),
    [
        (SERIAL_LOG, "", "/srv/log"),
        ("<serial type='dev'><source path='/dev/ttyS1'/></serial>", "", "/dev/ttyS1"),
        ("<channel type='unix'><source mode='bind' path='/run/agents/web'/></channel>", "", "/run/agents"),
        (
            "<channel type='unix'><source mode='connect' path='/run/agents/web'/></channel>",
            "",
            "/run/agents/web",
        ),
        ("<console type='pty'><log file='/srv/log/c.log'/></console>", "", "/srv/log"),
        (
            "<interface type='vhostuser'><source type='unix' path='/run/vhu' mode='client'/></interface>",
            "",
            "/run/vhu",
        ),
        ("<rng model='virtio'><backend model='random'>/dev/hwrng</backend></rng>", "", "/dev/hwrng"),
        ("", "<kernel>/boot/guest</kernel>", "/boot/guest"),
    ],
)
def test_a_file_or_folder_that_a_device_names_has_to_be_on_the_target(devices, os, needed):
    machine = vm(devices, os=os)
    assert needed in paths_of([machine])
    there = HostFile(True, 0, is_directory=True)
    assert codes(found(named_files.check, machine, source(), target(files={needed: there}))) == []
    missing = found(named_files.check, machine, source(), target(files={needed: GONE}))
    assert codes(missing) == ["host_file_not_on_target"] and needed in missing.reasons[0].message
    unknown = found(named_files.check, machine, source(), target())
    assert codes(unknown) == [] and needed in unknown.notes[0]


def test_what_libvirt_makes_itself_is_not_asked_for():
    own = "/var/lib/libvirt/qemu/channel/target/domain-1-web/agent"
    channel = f"<channel type='unix'><source mode='bind' path='{own}'/></channel>"
    assert paths_of([vm(channel)]) == ()
    assert paths_of([vm("<serial type='pty'><source path='/dev/pts/3'/></serial>")]) == ()
    assert paths_of([vm("<serial type='file'><source path='/a/b&#10;c'/></serial>")]) == ()


HERE = HostResources(
    listeners=(Listener((ip_address("192.0.2.2"),), 5900), Listener((ip_address("::"),), 5910)),
    addresses=frozenset({ip_address("192.0.2.2")}),
)


def shown(devices: str, resources: HostResources | None = HERE):
    return found(display.check, vm(devices), source(), target(resources=resources))


TAKEN, ELSEWHERE = ["port_taken_on_target"], ["listen_address_not_on_target"]
ON_ADDRESS = "<listen type='address' address='192.0.2.2'/>"
ON_NETWORK = "<listen type='network' network='n' address='192.0.2.1'/>"


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ("<graphics type='vnc' port='5900' autoport='yes' listen='0.0.0.0'/>", []),
        ("<graphics type='vnc' port='5900' autoport='no' listen='0.0.0.0'/>", TAKEN),
        ("<graphics type='vnc' port='5900' autoport='no' listen='127.0.0.1'/>", []),
        (f"<graphics type='spice' tlsPort='5910' autoport='no'>{ON_ADDRESS}</graphics>", TAKEN),
        ("<graphics type='vnc' port='5901' autoport='no' listen='192.0.2.2'/>", []),
        ("<graphics type='vnc' port='5901' autoport='yes' listen='192.0.2.1'/>", ELSEWHERE),
        ("<graphics type='vnc' autoport='yes' websocket='5910'/>", TAKEN),
        (f"<graphics type='spice' autoport='yes'>{ON_NETWORK}</graphics>", []),
        ("<graphics type='vnc'><listen type='socket' socket='/run/x'/></graphics>", []),
        ("<serial type='tcp'><source mode='bind' host='192.0.2.2' service='5900'/></serial>", TAKEN),
    ],
)
def test_fixed_ports_and_addresses_have_to_be_free_on_the_target(devices, expected):
    assert codes(shown(devices)) == expected


def test_ports_that_cannot_be_read_are_said_as_not_verified():
    findings = shown("<graphics type='vnc' port='5900' autoport='no'/>", None)
    assert codes(findings) == [] and "Not verified" in findings.notes[0]
    assert shown("", None).notes == ()
