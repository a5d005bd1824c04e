"""What a host has left of huge pages, NUMA memory, CPUs, ports and addresses, and files that VMs name."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from nodes.hosts.local import LocalShell
from nodes.operations.plan import host_resources
from nodes.operations.plan.host_files import HostFile, read_files
from nodes.operations.plan.host_resources import HostResources, parse_resources

TWO_CELLS = """node0/hugepages/hugepages-1048576kB/free_hugepages:4
node0/hugepages/hugepages-2048kB/free_hugepages:512
node1/hugepages/hugepages-2048kB/free_hugepages:3
node0/meminfo:Node 0 MemFree:        1048576 kB
node0/meminfo:Node 0 Active(file):      1024 kB
node0/meminfo:Node 0 Inactive(file):    1024 kB
node1/meminfo:Node 1 MemFree:           2048 kB
/proc/meminfo:Hugepagesize:       2048 kB
/sys/devices/system/cpu/online:0-3,6
/proc/net/tcp:   0: 0100007F:170C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
/proc/net/tcp6:   1: 00000000000000000000000000000000:170D 00000000000000000000000000000000:0000 0A 0 0 0
address:1: lo    inet 127.0.0.1/8 scope host lo
address:2: eth0    inet 192.0.2.7/24 brd 192.0.2.255 scope global eth0
address:2: eth0    inet6 fe80::1/64 scope link
addresses:
tool:/usr/bin/swtpm
hook:/etc/libvirt/hooks/qemu
end:
"""


def known() -> HostResources:
    found = parse_resources(TWO_CELLS)
    assert found is not None
    return found


def test_pages_and_memory_are_told_by_cell():
    found = known()
    assert (found.free_pages_of(2048), found.free_pages_of(2048, {1}), found.free_pages_of(65536)) == (
        515,
        3,
        0,
    )
    assert found.free_pages_of(1 << 20) == 4
    assert found.cells_free_bytes == {0: 1050624 << 10, 1: 2048 << 10}
    assert found.default_page_kib == 2048
    assert found.cpus_online == {0, 1, 2, 3, 6}
    assert (found.tools, found.hooks) == ({"swtpm"}, ("/etc/libvirt/hooks/qemu",))


def test_a_port_is_taken_on_its_own_address_and_by_a_wildcard_on_every_one():
    found = known()
    assert found.takes_port(5900, ip_address("127.0.0.1"))
    assert not found.takes_port(5900, ip_address("192.0.2.7"))
    assert found.takes_port(5900, None) and found.takes_port(5900, ip_address("0.0.0.0"))
    assert found.takes_port(5901, ip_address("192.0.2.7"))
    assert not found.takes_port(5902, None)


def test_an_output_that_ends_early_says_nothing_at_all():
    assert parse_resources(TWO_CELLS.removesuffix("end:\n")) is None
    assert parse_resources("") is None


def test_addresses_that_could_not_be_asked_for_are_unknown_and_not_none_at_all():
    without = "".join(line + "\n" for line in TWO_CELLS.splitlines() if not line.startswith("address"))
    found = parse_resources(without)
    assert found is not None and found.addresses is None
    assert known().addresses == {ip_address(text) for text in ("127.0.0.1", "192.0.2.7", "fe80::1")}


def test_garbage_between_the_lines_is_passed_over():
    pages = "node0/hugepages/hugepages-2048kB/free_hugepages:many"
    odd = (pages, "/proc/net/tcp:   0: XYZ:1 ", "address:2: e inet no/24", "", ":")
    found = parse_resources("\n".join((*odd, TWO_CELLS)))
    assert found is not None and found.free_pages_of(2048) == 515


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_this_machine_tells_its_own_resources(taken_port):
    answer = LocalShell().run(host_resources.COMMAND, timeout_s=10)
    found = parse_resources(answer.stdout.decode())
    assert found is not None
    assert found.cpus_online >= os.sched_getaffinity(0)
    assert found.takes_port(taken_port, ip_address("127.0.0.1"))
    assert not found.takes_port(taken_port, ip_address("192.0.2.1"))
    assert found.addresses is not None and ip_address("127.0.0.1") in found.addresses


def test_files_are_told_apart_from_folders_and_from_what_is_missing(tmp_path: Path):
    image = tmp_path / "it's an image; $(touch broken)"
    image.write_bytes(b"x" * 7)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    paths = (str(image), str(tmp_path), f"{tmp_path}/gone", f"{image}/below", str(loop))
    found = read_files(LocalShell(), paths, 10)
    assert found[paths[0]] == HostFile(True, 7)
    assert found[paths[1]].is_directory
    assert [found[path].exists for path in paths[2:]] == [False, False, None]
    assert not (tmp_path / "broken").exists()
