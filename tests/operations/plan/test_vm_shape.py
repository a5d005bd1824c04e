"""What of a VM is compared right before it moves: what differs is named, what changes by itself is not."""

from __future__ import annotations

import pytest

from nodes.inventory.xmltext import parse_xml
from nodes.operations.plan.vm_shape import LONGEST, VmShape

DOMAIN = """
<domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web</name>
  <memory unit='KiB'>4194304</memory>
  <currentMemory unit='KiB'>4194304</currentMemory>
  <memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages></memoryBacking>
  <vcpu placement='static' current='2'>4</vcpu>
  <cputune><vcpupin vcpu='0' cpuset='1'/><shares>1024</shares></cputune>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/OVMF.fd</loader>
    <nvram>/var/lib/nvram/web.fd</nvram></os>
  <cpu mode='custom' match='exact' check='full'><model fallback='forbid'>Skylake-Server</model>
    <feature policy='require' name='vmx'/></cpu>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='/srv/web.qcow2' index='1'/>
      <backingStore type='file' index='2'><format type='raw'/><source file='/srv/base.img'/></backingStore>
      <target dev='vda' bus='virtio'/><alias name='virtio-disk0'/>
      <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata' tray='open'/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0' portid='1-2'/>
      <target dev='vnet3'/><model type='virtio'/><link state='up'/></interface>
    <serial type='pty'><source path='/dev/pts/4'/><target type='isa-serial' port='0'/></serial>
    <console type='pty' tty='/dev/pts/4'><source path='/dev/pts/4'/><target type='serial' port='0'/></console>
    <serial type='file'><source path='/srv/log/web.log'/><target port='1'/></serial>
    <channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-3-web/a.0'/>
      <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
    <hostdev mode='subsystem' type='pci' managed='yes'><source>
      <address domain='0x0000' bus='0x65' slot='0x00' function='0x0'/></source></hostdev>
    <graphics type='vnc' port='5903' autoport='yes' listen='127.0.0.1'><listen type='address'/></graphics>
    <memballoon model='virtio'><stats period='5'/></memballoon>
  </devices>
  <seclabel type='dynamic' model='apparmor'/>
  <qemu:commandline><qemu:arg value='-password=x'/></qemu:commandline>
</domain>
"""


def shape(text: str = DOMAIN) -> VmShape:
    root = parse_xml(text)
    assert root is not None
    return VmShape.of(root)


def changed(old: str, new: str) -> tuple[str, ...]:
    assert old in DOMAIN
    return shape().differences(shape(DOMAIN.replace(old, new)))


DIFFERENT = {
    "memory": (
        ">4194304</memory>",
        ">8388608</memory>",
        "memory: memory unit=KiB 4194304 → memory unit=KiB 8388608",
    ),
    "huge pages": ("page size='2048'", "page size='1048576'", "memory: "),
    "vCPUs": ("current='2'>4<", "current='4'>4<", "cpu: vcpu current=2 placement=static 4 → vcpu current=4"),
    "pinning": ("cpuset='1'", "cpuset='2'", "cpu: vcpupin cpuset=1 vcpu=0 → vcpupin cpuset=2 vcpu=0"),
    "CPU model": ("Skylake-Server", "Haswell", "cpu: "),
    "CPU feature": ("name='vmx'", "name='pku'", "cpu: "),
    "machine": ("pc-q35-7.2", "pc-q35-6.2", "boot: os type arch=x86_64 machine=pc-q35-7.2"),
    "firmware": (
        "/usr/OVMF.fd",
        "/srv/OVMF.fd",
        "boot: os loader readonly=yes type=pflash /usr/OVMF.fd → os loader",
    ),
    "nvram": ("/var/lib/nvram/web.fd", "/srv/web.fd", "boot: os nvram"),
    "emulator": ("qemu-system-x86_64", "qemu-kvm", "emulator: "),
    "disk": (
        "/srv/web.qcow2",
        "/srv/snap.qcow2",
        "disk vda: source file=/srv/web.qcow2 → source file=/srv/snap",
    ),
    "backing file": ("/srv/base.img", "/srv/other.img", "disk vda: backingStore source file=/srv/base.img"),
    "medium": (
        "<target dev='sda' bus='sata' tray='open'/>",
        "<source file='/srv/cd.iso'/><target dev='sda' bus='sata'/>",
        "disk sda: – → source file=/srv/cd.iso",
    ),
    "bridge": ("bridge='br0'", "bridge='br1'", "interface 52:54:00:00:00:01: source bridge=br0"),
    "network card": ("52:54:00:00:00:01", "52:54:00:00:00:02", "interface 52:54:00:00:00:01: gone"),
    "serial file": ("/srv/log/web.log", "/srv/log/2.log", "serial 1: source path=/srv/log/web.log"),
    "host device": ("bus='0x65'", "bus='0x66'", "hostdev pci: source address bus=0x65"),
    "listening": ("listen='127.0.0.1'", "listen='0.0.0.0'", "graphics vnc: autoport=yes listen=127.0.0.1"),
    "command line": ("-password=x", "-password=y", "command line: "),
    "new device": ("</devices>", "<rng model='virtio'/></devices>", "rng virtio: new (model=virtio)"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_matters_to_a_target_is_a_difference_and_is_named(what: str) -> None:
    old, new, words = DIFFERENT[what]
    found = changed(old, new)
    assert any(difference.startswith(words) for difference in found), found
    assert "password" not in str(found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<currentMemory unit='KiB'>4194304<", "<currentMemory unit='KiB'>2097152<"),
        ("state='connected'", "state='disconnected'"),
        ("tray='open'", "tray='closed'"),
        ("vnet3", "vnet9"),
        ("/dev/pts/4", "/dev/pts/5"),
        ("domain-3-web", "domain-4-web"),
        ("id='3'", "id='4'"),
        ("port='5903'", "port='5907'"),
        ("index='1'", "index='7'"),
        ("bus='0x04' slot", "bus='0x05' slot"),
        ("portid='1-2'", "portid='3-4'"),
        ("<link state='up'/>", "<link state='down'/>"),
        ("<shares>1024</shares>", "<shares>2048</shares>"),
        ("period='5'", "period='10'"),
        ("<seclabel type='dynamic' model='apparmor'/>", ""),
    ],
)
def test_what_changes_by_itself_or_does_no_harm_is_none(old: str, new: str) -> None:
    assert changed(old, new) == ()


def test_equal_shapes_have_one_digest_and_differing_ones_have_not() -> None:
    assert shape().digest == shape().digest
    assert shape().digest != shape(DOMAIN.replace("br0", "br1")).digest


def test_two_devices_of_one_name_are_both_compared() -> None:
    twice = DOMAIN.replace("</devices>", "<rng model='virtio'/><rng model='virtio'/></devices>")
    names = [name for name, _text in shape(twice).parts]
    assert {"rng virtio", "rng virtio 2"} <= set(names)


def test_a_part_of_any_length_is_kept_short_and_still_told_apart() -> None:
    features = "".join(f"<feature policy='require' name='f{number}'/>" for number in range(200))
    long = DOMAIN.replace("<feature policy='require' name='vmx'/>", features)
    other = long.replace("name='f199'", "name='f200'")
    assert max(len(text) for _name, text in shape(long).parts) < LONGEST + 40
    assert shape(long).differences(shape(other))


def test_many_differences_are_told_by_the_first_of_them() -> None:
    many = DOMAIN.replace("</devices>", "<rng model='a'/>" * 9 + "</devices>")
    found = shape().differences(shape(many))
    assert (len(found), found[-1]) == (6, "4 more")
