"""Who uses a device: the VMs that libvirt describes, and the host's own volumes, routes and consoles."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.inventory.document import SourceStatus
from nodes.inventory.holders import HeldBy, read_holdings
from nodes.inventory.hostuse import HostUse, pci_address_of, read_host_uses
from nodes.inventory.sysfiles import read_links, read_values, resolve_links, whole_number
from tests.inventory.pci_hosts import VM, document, domain, pci_hostdev

HBA = "0000:02:00.0"
NIC = "0000:03:00.0"


def uses(use_files: str, use_links: str, address: str = HBA, **more: str) -> list[HostUse]:
    texts = {"use-files": use_files, "use-links": use_links} | {
        k.replace("__", ":"): v for k, v in more.items()
    }
    made = document(texts)
    return list(read_host_uses(made, read_holdings(made)).of(address))


def block(name: str, parent: str = "", number: str = "8:0") -> tuple[str, str]:
    """Lines of ``use-files`` and ``use-links`` for one disk behind the HBA, or a partition of it."""
    path = f"pci0000:00/0000:00:01.0/{HBA}/host0/block/{parent + '/' if parent else ''}{name}"
    return (
        f"/sys/class/block/{name}/dev:{number}\n",
        f"lrwxrwxrwx 1 0  /sys/class/block/{name} -> ../../devices/{path}\n",
    )


def virtual(name: str, number: str, dm: tuple[str, str] | None = None) -> tuple[str, str]:
    files = f"/sys/class/block/{name}/dev:{number}\n"
    if dm is not None:
        files += f"/sys/class/block/{name}/dm/name:{dm[0]}\n/sys/class/block/{name}/dm/uuid:{dm[1]}\n"
    return files, f"lrwxrwxrwx 1 0  /sys/class/block/{name} -> ../../devices/virtual/block/{name}\n"


def holder(lower: str, upper: str) -> str:
    return f"lrwxrwxrwx 1 0  /sys/class/block/{lower}/holders/{upper} -> ../../../x/{upper}\n"


def mount(number: str, point: str, source: str = "/dev/x", root: str = "/", kind: str = "ext4") -> str:
    return f"/proc/self/mountinfo:20 1 {number} {root} {point} rw,relatime shared:1 - {kind} {source} rw\n"


class TestDisks:
    files, links = block("sda")

    def test_a_mount_point_with_a_blank(self) -> None:
        [use] = uses(self.files + mount("8:0", "/mnt/my\\040disk"), self.links)
        assert (use.kind, use.names, use.system) == ("mount", ("/mnt/my disk",), False)

    def test_bind_mounts_of_parts_are_left_out(self) -> None:
        text = self.files + mount("8:0", "/srv") + mount("8:0", "/var/lib/x", root="/x")
        assert uses(text, self.links)[0].names == ("/srv",)
        only_part = self.files + mount("8:0", "/var/lib/x", root="/@x")
        assert uses(only_part, self.links)[0].names == ("/var/lib/x",)

    def test_a_mount_of_an_anonymous_device_is_found_by_its_source(self) -> None:
        [use] = uses(self.files + mount("0:44", "/srv", "/dev/sda", "/@srv", "btrfs"), self.links)
        assert use.names == ("/srv",)

    def test_swap_belongs_to_the_system(self) -> None:
        [use] = uses(self.files + "/proc/swaps:/dev/sda  partition\t8388604\t0\t-2\n", self.links)
        assert (use.kind, use.system) == ("swap", True)

    @pytest.mark.parametrize(
        ("uuid", "kind"),
        [
            ("LVM-abc", "lvm"),
            ("CRYPT-LUKS2-abc", "encrypted"),
            ("mpath-3600", "multipath"),
            ("part1-mpath-3600", "multipath"),
            ("stratis-1-private", "stratis"),
            ("DMRAID-x", "volume"),
            ("", "volume"),
        ],
    )
    def test_an_unused_volume_still_uses_its_disk(self, uuid: str, kind: str) -> None:
        files, links = virtual("dm-0", "253:0", ("name", uuid))
        [use] = uses(self.files + files, self.links + links + holder("sda", "dm-0"))
        assert (use.kind, use.names) == (kind, ("name",))

    def test_a_ring_of_holders_ends(self) -> None:
        files, links = virtual("dm-0", "253:0", ("a", "LVM-a"))
        ring = links + holder("sda", "dm-0") + holder("dm-0", "sda")
        assert [use.kind for use in uses(self.files + files, self.links + ring)] == ["volume"]

    def test_slashes_of_old_controllers_are_put_back(self) -> None:
        files, links = block("cciss!c0d0p1", "cciss!c0d0", "104:1")
        [use] = uses(files + mount("104:1", "/", "/dev/cciss/c0d0p1"), links)
        assert (use.device, use.names) == ("cciss/c0d0p1", ("/",))

    def test_a_zfs_member_is_in_use_only_while_its_pool_is_imported(self) -> None:
        udev = "/run/udev/data/b8:0:E:ID_FS_LABEL=tank\n/run/udev/data/b8:0:E:ID_FS_TYPE=zfs_member\n"
        assert [use.kind for use in uses(self.files + udev, self.links)] == ["carries_data"]
        imported = self.links + "dr-xr-xr-x 2 0  /proc/spl/kstat/zfs/tank\n"
        assert [(u.kind, u.names) for u in uses(self.files + udev, imported)] == [("zfs", ("tank",))]

    def test_an_active_storage_pool_uses_its_disk_and_a_stopped_one_does_not(self) -> None:
        pool = "<pool type='disk'><name>bulk</name><source><device path='/dev/sda'/></source></pool>"
        for state, kinds in ((2, ["storage_pool"]), (0, [])):
            listed = f'[{{"uuid": "u", "name": "bulk", "state": {state}}}]'
            found = uses(self.files, self.links, libvirt__pools=listed, libvirt__pool__u=pool)
            assert [use.kind for use in found] == kinds

    def test_a_vms_disk_on_a_volume_counts_for_the_disk_below(self) -> None:
        files, links = virtual("dm-0", "253:0", ("vg-guest", "LVM-a"))
        disk = "<disk type='block'><source dev='/dev/mapper/vg-guest'/></disk>"
        texts = {"use-files": self.files + files, "use-links": self.links + links + holder("sda", "dm-0")}
        made = document(texts | domain(disk))
        found = read_host_uses(made, read_holdings(made)).of(HBA)
        assert {(use.kind, use.names) for use in found} == {("lvm", ("vg-guest",)), ("vm_disk", ("guest",))}

    def test_a_vms_disk_is_found_by_its_group_and_volume_and_by_its_scsi_address(self) -> None:
        files, links = virtual("dm-0", "253:0", ("my--vg-guest", "LVM-a"))
        disk = "<disk type='block'><source dev='/dev/my-vg/guest'/></disk>"
        texts = {"use-files": self.files + files, "use-links": self.links + links + holder("sda", "dm-0")}
        made = document(texts | domain(disk))
        assert ("vm_disk", ("guest",)) in {
            (use.kind, use.names) for use in read_host_uses(made, read_holdings(made)).of(HBA)
        }
        whole = (
            "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>"
            "<address bus='0' target='{}' unit='0'/></source></hostdev>"
        )
        links = self.links.replace("/host0/block/", "/host0/target0:0:2/0:0:2:0/block/")
        for target, kinds in (("2", ["vm_disk"]), ("3", [])):
            texts = {"use-files": self.files, "use-links": links}
            made = document(texts | domain(whole.format(target)))
            assert [use.kind for use in read_host_uses(made, read_holdings(made)).of(HBA)] == kinds


class TestVolumesOfPools:
    """A VM's disk that its description names by pool and volume."""

    @pytest.mark.parametrize(
        ("kind", "volume", "pool"),
        [
            ("disk", "sda", "<target><path>/dev</path></target>"),
            ("disk", "sda", "<target><path>/dev/disk/by-path</path></target>"),
            ("scsi", "unit:0:3:0", "<source><adapter type='scsi_host' name='scsi_host0'/></source>"),
            ("scsi", "unit:0:0:3:0", "<source><adapter name='host0'/></source>"),
            ("iscsi", "unit:0:0:4", "<source><device path='iqn.2024-01.org.example:a'/></source>"),
            ("logical", "web", "<source><name>vms</name></source><target><path>/dev/vms</path></target>"),
            ("logical", "web", "<target><path>/dev/vms</path></target>"),
            ("mpath", "dm-3", "<target><path>/dev/mapper</path></target>"),
        ],
    )
    def test_is_traced_to_the_device(self, kind: str, volume: str, pool: str) -> None:
        place = f"pci0000:00/0000:00:01.0/{HBA}/host0/target0:0:3/0:0:3:0/block/sda"
        files = "/sys/class/block/sda/dev:8:0\n"
        lines = f"lrwxrwxrwx 1 0  /sys/class/block/sda -> ../../devices/{place}\n"
        by_path = "/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-iqn.2024-01.org.example:a-lun-4"
        lines += f"lrwxrwxrwx 1 0  {by_path} -> ../../sda\n"
        more_files, more_lines = virtual("dm-3", "253:3", ("vms-web", "LVM-abc"))
        name = "vms" if kind == "logical" else "one"
        sources = {
            "use-files": files + more_files,
            "use-links": lines + more_lines + holder("sda", "dm-3"),
            "libvirt:pool:p-1": f"<pool type='{kind}'><name>{name}</name>{pool}</pool>",
        }
        xml = f"<disk type='volume' device='disk'><source pool='{name}' volume='{volume}'/></disk>"
        made = document(sources | domain(xml))
        found = read_host_uses(made, read_holdings(made)).of(HBA)
        assert ("vm_disk", ("guest",)) in [(use.kind, use.names) for use in found]

    @pytest.mark.parametrize("pool", ["<pool type='dir'><name>one</name></pool>", "<pool", "<x/>", ""])
    def test_files_and_unknown_pools_hold_no_device(self, pool: str) -> None:
        files, lines = block("sda")
        xml = (
            "<disk type='volume'><source pool='one' volume='sda'/></disk><disk type='volume'><source/></disk>"
        )
        sources = {"use-files": files, "use-links": lines, "libvirt:pool:p-1": pool}
        made = document(sources | domain(xml))
        assert read_host_uses(made, read_holdings(made)).of(HBA) == ()


class TestInterfaces:
    links = f"lrwxrwxrwx 1 0  /sys/class/net/eth0 -> ../../devices/pci0000:00/{NIC}/net/eth0\n"

    def of(self, files: str, links: str = "") -> list[tuple[str, tuple[str, ...]]]:
        return [(use.kind, use.names) for use in uses(files, self.links + links, NIC)]

    def master(self, name: str, kind: str = "") -> str:
        target = f"../../../../virtual/net/{name}"
        lines = f"lrwxrwxrwx 1 0  /sys/class/net/eth0/master -> {target}\n"
        lines += f"lrwxrwxrwx 1 0  /sys/class/net/eth0/upper_{name} -> {target}\n"
        return lines + (f"drwxr-xr-x 2 0  /sys/class/net/{name}/{kind}\n" if kind else "")

    def test_down_without_anything_is_no_use(self) -> None:
        assert self.of("/sys/class/net/eth0/flags:0x1002\n") == []

    def test_up_without_anything_is_a_small_use(self) -> None:
        assert self.of("/sys/class/net/eth0/flags:0x1003\n") == [("interface_up", ("eth0",))]

    def test_a_link_local_address_is_none_and_a_global_one_is(self) -> None:
        local = "/proc/net/if_inet6:fe80000000000000505400fffe123456 02 40 20 80     eth0\n"
        assert self.of(local) == []
        world = "/proc/net/if_inet6:20010db8000000000000000000000002 02 40 00 80     eth0\n"
        assert self.of(world) == [("address", ("eth0",))]

    @pytest.mark.parametrize(
        ("family", "local", "prefix", "scope", "expected"),
        [
            ("inet", "203.0.113.7", 32, "global", [("address", ("eth0",))]),
            ("inet6", "2001:db8::7", 128, "global", [("address", ("eth0",))]),
            ("inet", "169.254.3.1", 32, "link", []),
            ("inet6", "fe80::1", 64, "link", []),
            ("inet", "127.0.0.2", 32, "host", []),
        ],
    )
    def test_an_address_without_a_subnet_is_the_hosts_all_the_same(
        self, family: str, local: str, prefix: int, scope: str, expected: list[tuple[str, tuple[str, ...]]]
    ) -> None:
        address = {"family": family, "local": local, "prefixlen": prefix, "scope": scope}
        told = json.dumps([{"ifname": "eth0", "addr_info": [address]}])
        found = uses("/sys/class/net/eth0/flags:0x1002\n", self.links, NIC, **{"ip-address": told})
        assert [(use.kind, use.names) for use in found] == expected

    def test_the_default_route_of_ipv6_counts_and_the_one_to_nowhere_does_not(self) -> None:
        zeros = "0" * 32
        route = (
            f"/proc/net/ipv6_route:{zeros} 00 {zeros} 00 fe80{zeros[4:]} 00000400 00000001 00000000 00000003"
        )
        assert self.of(f"{route}     eth0\n") == [("default_route", ("eth0",))]
        assert self.of(f"{route.replace('00000003', '00200200')}     eth0\n") == []

    @pytest.mark.parametrize(
        ("name", "kind", "expected"),
        [
            ("br0", "bridge", "bridge_port"),
            ("bond0", "bonding", "bond_slave"),
            ("ovs-system", "", "vswitch_port"),
            ("team0", "", "member"),
        ],
    )
    def test_membership(self, name: str, kind: str, expected: str) -> None:
        found = self.of("/sys/class/net/eth0/flags:0x1003\n", self.master(name, kind))
        assert found == [(expected, (name,))]

    def test_a_macvtap_vm_holds_the_interface(self) -> None:
        made = document(
            {"use-links": self.links}
            | domain("<interface type='direct'><source dev='eth0' mode='vepa'/></interface>")
        )
        [use] = read_host_uses(made, read_holdings(made)).of(NIC)
        assert (use.kind, use.names) == ("vm_interface", ("guest",))

    @pytest.mark.parametrize("text", ["-1", "65535", "4294967295", "0", "", "x"])
    def test_no_speed_is_none(self, text: str) -> None:
        made = document({"use-files": f"/sys/class/net/eth0/speed:{text}\n"})
        assert read_host_uses(made, read_holdings(made)).interfaces.speed_mbps("eth0") is None


class TestHolders:
    def test_every_way_to_name_a_pci_device(self) -> None:
        address = "<address type='pci' domain='0x0000' bus='0x31' slot='0x01' function='0x2'/>"
        xml = (
            pci_hostdev("0xe1", "0x00", domain_number="0x10000")
            + f"<interface type='hostdev' managed='no'><source>{address}</source></interface>"
            + "<disk type='nvme' device='disk'><source type='pci' managed='yes' namespace='1'>"
            "<address domain='0' bus='75' slot='0' function='0'/></source></disk>"
        )
        held = read_holdings(document(domain(xml))).pci
        assert {key: [(h.through, h.managed) for h in holders] for key, holders in held.items()} == {
            "10000:e1:00.0": [(HeldBy.HOSTDEV, True)],
            "0000:31:01.2": [(HeldBy.INTERFACE, False)],
            "0000:4b:00.0": [(HeldBy.DISK, True)],
        }

    def test_a_mediated_device_by_its_uuid(self) -> None:
        uuid = "4B20D080-1B54-4048-85B3-A6A62D165C01"
        xml = f"<hostdev mode='subsystem' type='mdev'><source><address uuid='{uuid}'/></source></hostdev>"
        assert list(read_holdings(document(domain(xml))).mdevs) == [uuid.lower()]

    def test_two_vms_with_the_same_device_are_both_named(self) -> None:
        first = domain(pci_hostdev("0x03", "0x00"), name="one")
        second = domain(pci_hostdev("0x03", "0x00"), name="two", uuid="other", running=False)
        listed = first["libvirt:domains"][:-1] + ", " + second["libvirt:domains"][1:]
        held = read_holdings(document(first | second | {"libvirt:domains": listed})).pci["0000:03:00.0"]
        assert [(holder.vm_name, holder.running) for holder in held] == [("one", True), ("two", False)]

    def test_without_the_list_of_domains_the_description_tells_who_runs(self) -> None:
        texts = domain(pci_hostdev("0x03", "0x00")) | {"libvirt:domains": ""}
        running = {
            **texts,
            f"libvirt:domain:{VM}": texts[f"libvirt:domain:{VM}"].replace("'kvm'", "'kvm' id='4'"),
        }
        for given_texts, expected in ((texts, False), (running, True)):
            found = read_holdings(document(given_texts, **{"libvirt:domains": SourceStatus.FAILED}))
            assert found.pci["0000:03:00.0"][0].running is expected
            assert not found.complete

    def test_one_unreadable_description_leaves_others_unknown(self) -> None:
        found = read_holdings(document(domain("<broken")))
        assert not found.complete
        assert found.known(()) is None

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=200), st.text(max_size=100), st.text(max_size=20))
    def test_foreign_text_never_raises(self, xml: str, listed: str, value: str) -> None:
        read_holdings(document({"libvirt:domains": listed, f"libvirt:domain:{VM}": xml}))
        quoted = value.replace("&", "").replace("<", "").replace("'", "")
        odd = f"<hostdev type='usb'><source><address bus='{quoted}' device='{quoted}'/></source></hostdev>"
        read_holdings(document(domain(odd + pci_hostdev(quoted, quoted))))


class TestFiles:
    def test_the_path_ends_after_the_first_file_name_that_begins_with_a_letter(self) -> None:
        text = (
            "0000:00:1f.2/modalias:pci:v00008086\n1-2:1.0/bInterfaceClass:03\n"
            "/proc/driver/nvidia/gpus/0000:41:00.0/information:Model: \t NVIDIA A40\n"
            "/sys/class/net/br0/address:52:54:00:aa:bb:cc\n/proc/self/mountinfo:22 1 8:1 / /a/b:c rw\n"
            "garbage without a path\n"
        )
        assert {path: lines[0] for path, lines in read_values(text).items()} == {
            "0000:00:1f.2/modalias": "pci:v00008086",
            "1-2:1.0/bInterfaceClass": "03",
            "/proc/driver/nvidia/gpus/0000:41:00.0/information": "Model: \t NVIDIA A40",
            "/sys/class/net/br0/address": "52:54:00:aa:bb:cc",
            "/proc/self/mountinfo": "22 1 8:1 / /a/b:c rw",
        }

    def test_listings_of_links_directories_and_cut_lines(self) -> None:
        text = (
            "lrwxrwxrwx 1 0  a/driver -> ../bus/x\ndrwxr-xr-x. 2 0  /sys/class/net/br0/bridge\n"
            "ls: cannot access 'x': No such file or directory\nlrwxrwxrwx 1 0  cut/driv"
        )
        links = read_links(text)
        assert links["a/driver"] == "../bus/x"
        assert links["/sys/class/net/br0/bridge"] is None
        assert "cut/driv" not in links
        assert resolve_links(links, "/sys/bus/pci/devices")["a/driver"] == "/sys/bus/pci/devices/bus/x"

    @pytest.mark.parametrize(
        ("text", "number"),
        [("0x1f", 31), ("-1", -1), ("12", 12), ("", None), ("1e3", None), ("9" * 30, None)],
    )
    def test_numbers(self, text: str, number: int | None) -> None:
        assert whole_number(text) == number

    def test_the_deepest_pci_device_owns_a_path(self) -> None:
        path = "/sys/devices/pci0000:00/0000:00:0e.0/pci10000:00/10000:e1:00.0/nvme/nvme0"
        assert pci_address_of(path) == "10000:e1:00.0"
        assert pci_address_of("/sys/devices/virtual/net/br0") is None

    @given(st.text(max_size=300))
    def test_foreign_text_never_raises(self, text: str) -> None:
        read_values(text)
        resolve_links(read_links(text))
        whole_number(text)
