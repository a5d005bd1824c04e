"""The machines that QEMU emulates: one with everything that the inventory reads, and plain ones."""

import uuid
from dataclasses import dataclass

from tests.lab.recipe import NEWER, SUITE

SPARE_DISKS = {"nvme": "256M", "hdd": "256M", "ssd": "128M", "sas": "128M", "usb": "64M"}


@dataclass(frozen=True)
class HostSpec:
    """A host of the lab: `number` ends its addresses, `rich` says whether it has the full hardware.

    `parallel` gives each of its processors a thread, for what measures time: such a host has no /dev/kvm.
    `suite` is the release of Debian that it runs.
    """

    name: str
    number: int
    rich: bool
    memory_mib: int
    cpus: int
    parallel: bool = False
    suite: str = SUITE

    @property
    def lan_address(self) -> str:
        """Its address on the switch that joins the lab's hosts, for migrations."""
        return f"10.99.0.{self.number}"

    @property
    def cables(self) -> tuple[str, ...]:
        """The names of its links, as `LabHost.set_link` takes them."""
        return ("management", "bond_first", "bond_second") if self.rich else ("management", "lan")


RICH = HostSpec("rich", 1, rich=True, memory_mib=2048, cpus=4)
PLAIN = HostSpec("plain", 2, rich=False, memory_mib=1024, cpus=2)
SPARE = HostSpec("spare", 3, rich=False, memory_mib=1024, cpus=2)
TRIXIE = HostSpec("trixie", 4, rich=False, memory_mib=1024, cpus=2, suite=NEWER)
SPECS = {spec.name: spec for spec in (RICH, PLAIN, SPARE, TRIXIE)}


@dataclass(frozen=True)
class Wiring:
    """What of a host is of this run only."""

    identity: uuid.UUID
    ssh_port: int


# Names inside the host's own directory, which QEMU runs in: socket paths stay short, and blanks in the path
# of the cache need no quoting. `image` is a link to the image's directory, `lan` one to the switch's.
DISK = "root.qcow2"
MONITOR = "qmp"
CONSOLE = "console.log"
IMAGE = "image"
LAN = "lan"


def command(spec: HostSpec, wiring: Wiring) -> list[str]:
    """The QEMU command line. Emulated throughout: guests hang under a /dev/kvm that is itself nested."""
    parts = [
        "qemu-system-x86_64 -nodefaults -no-user-config -display none",
        f"-name lab-{spec.name} -uuid {wiring.identity}",
        f"-machine {'q35,kernel-irqchip=split' if spec.rich else 'q35'}",
        # One thread for all processors: with one each, QEMU before 8.1 may keep running code that the kernel
        # has just patched on another processor (it locks a page only after having translated it). Opening
        # /dev/kvm patches the scheduler, and every few times the host then hung for good. Costs no CPU time,
        # and a second one only while nothing else wants it. Five-level page tables, which `max` brings along,
        # slow every TLB miss down.
        f"-accel tcg,thread={'multi' if spec.parallel else 'single'} -cpu max,la57=off",
        f"-m {spec.memory_mib} -rtc base=utc",
        f"-kernel {IMAGE}/vmlinuz -initrd {IMAGE}/initrd.img",
        f"-qmp unix:{MONITOR},server=on,wait=off",
        f"-serial file:{CONSOLE}",
        "-device virtio-rng-pci",
        *(_rich_topology(spec) if spec.rich else [f"-smp {spec.cpus}"]),
        *_drive("root", DISK, "qcow2"),
        "-device virtio-blk-pci,drive=root,serial=LABROOT",
        f"-netdev user,id=management,restrict=on,hostfwd=tcp:127.0.0.1:{wiring.ssh_port}-:22",
        f"-device virtio-net-pci,id=management_nic,netdev=management,mac=52:54:00:4c:00:{spec.number:02x}",
        *(_rich_devices() if spec.rich else _plain_devices(spec)),
    ]
    words = [word for part in parts for word in part.split(" ")]
    return [*words, "-append", _kernel_parameters(spec)]


def _kernel_parameters(spec: HostSpec) -> str:
    parameters = [
        "root=/dev/vda rw console=ttyS0 quiet mitigations=off audit=0 apparmor=0 fsck.mode=skip",
        "random.trust_cpu=on cryptomgr.notests systemd.show_status=false",
        # Loaded for what the machine seems to have, used by nobody: a tenth of the time that starting takes.
        "module_blacklist=cfg80211,pcspkr,ipmi_ssif,i2c_i801,powernow_k8"
        + (",kvm,kvm_intel,kvm_amd" if spec.parallel else ""),
        f"systemd.hostname=lab-{spec.name}",
    ]
    if spec.rich:
        # Named cell by cell, so that 32 huge pages lie in each whatever else has been allocated by then. The
        # e1000e that QEMU emulates forgets to report a lost link where its driver has an interrupt for that
        # alone.
        parameters.append("e1000e.IntMode=0,0")
        # Further processors join when the host is up (lab-hardware in the image): booting with all takes
        # longer.
        parameters.append(
            "lab.hardware=rich maxcpus=2 intel_iommu=on iommu=pt hugepagesz=2M hugepages=0:32,1:32"
        )
    return " ".join(parameters)


def _rich_topology(spec: HostSpec) -> list[str]:
    half = spec.memory_mib // 2
    return [
        f"-smp {spec.cpus},sockets=2,cores={spec.cpus // 2},threads=1",
        f"-object memory-backend-ram,id=cell0,size={half}M",
        f"-object memory-backend-ram,id=cell1,size={half}M",
        f"-numa node,nodeid=0,cpus=0-{spec.cpus // 2 - 1},memdev=cell0",
        f"-numa node,nodeid=1,cpus={spec.cpus // 2}-{spec.cpus - 1},memdev=cell1",
        "-numa dist,src=0,dst=1,val=21 -numa dist,src=1,dst=0,val=21",
        # Before all other devices, which otherwise are not behind it.
        "-device intel-iommu,intremap=on",
        "-smbios type=1,manufacturer=Nodeadmin,product=Lab-Rich,serial=LAB-0001",
    ]


def _plain_devices(spec: HostSpec) -> list[str]:
    # An empty slot, as the rich host has two.
    return [*_lan_nic("virtio-net-pci", "lan", spec.number), *_pcie_port("slot0", 1)]


def _rich_devices() -> list[str]:
    return [
        *_pcie_port("nvme_port", 1),
        "-device nvme-subsys,id=sub0,nqn=lab-sub0",
        "-device nvme,id=nvme0,bus=nvme_port,serial=LABNVME1,subsys=sub0,sriov_max_vfs=4,max_ioqpairs=26,"
        "msix_qsize=26,sriov_vq_flexible=8,sriov_vi_flexible=4",
        *_drive("nvme", "nvme.img"),
        "-device nvme-ns,drive=nvme,bus=nvme0,nsid=1",
        *_drive("hdd", "hdd.img"),
        "-device ide-hd,bus=ide.0,drive=hdd,model=LAB_HDD,serial=LABHDD1,rotation_rate=7200",
        *_drive("ssd", "ssd.img"),
        "-device ide-hd,bus=ide.1,drive=ssd,model=LAB_SSD,serial=LABSSD1,rotation_rate=1",
        *_pcie_port("sas_port", 2),
        "-device megasas-gen2,id=sas,bus=sas_port",
        *_drive("sas", "sas.img"),
        "-device scsi-hd,bus=sas.0,scsi-id=0,drive=sas,vendor=LAB,product=SASDISK,serial=LABSAS1,"
        "wwn=0x5000c50000000001,rotation_rate=10000",
        "-device qemu-xhci,id=usb -device usb-hub,id=hub,bus=usb.0,port=1",
        "-device usb-tablet,id=tablet,bus=usb.0,port=1.1,serial=LABTABLET1",
        *_drive("usb", "usb.img"),
        "-device usb-storage,id=stick,bus=usb.0,port=2,drive=usb,serial=LABSTICK1",
        "-device VGA",
        "-device ipmi-bmc-sim,id=bmc -device isa-ipmi-kcs,bmc=bmc",
        *_lan_nic("e1000e", "bond_first", 0x01),
        *_lan_nic("e1000e", "bond_second", 0x11),
        # Left empty, for what a test plugs in while the host runs.
        *_pcie_port("slot0", 3),
        *_pcie_port("slot1", 4),
    ]


def _drive(name: str, path: str, form: str = "raw") -> list[str]:
    return [f"-drive if=none,id={name},file={path},format={form},discard=unmap"]


def _pcie_port(name: str, slot: int) -> list[str]:
    return [f"-device pcie-root-port,id={name},chassis={slot},slot={slot}"]


def _lan_nic(driver: str, name: str, address: int) -> list[str]:
    return [
        f"-netdev vde,id={name},sock={LAN}",
        f"-device {driver},id={name}_nic,netdev={name},mac=52:54:00:4c:01:{address:02x}",
    ]
