"""What a VM is tied to, out of its description: huge pages, CPUs and NUMA cells."""

from __future__ import annotations

import pytest

from nodes.operations.plan.host_resources import HostResources
from nodes.operations.plan.vm_needs import (
    MemoryNeed,
    demands_of,
    huge_page_bytes,
    ids_in,
    memory_needs,
    pinned_cpus,
    supplies_of,
)
from tests.operations.plan.constraints.states import vm

MIB = 1 << 20
TWO_CELLS = """<cpu><numa><cell id='0' cpus='0' memory='256' unit='MiB'/>
  <cell id='1' cpus='1' memory='256' unit='MiB'/></numa></cpu>"""


def pages(inner: str = "") -> str:
    return f"<memoryBacking><hugepages>{inner}</hugepages></memoryBacking>"


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ("", [MemoryNeed(512 * MIB)]),
        (pages(), [MemoryNeed(512 * MIB, None)]),
        (pages("<page size='1' unit='GiB'/>"), [MemoryNeed(512 * MIB, 1 << 20)]),
        (pages("<page size='2048' nodeset='0'/>"), [MemoryNeed(512 * MIB, 2048)]),
        (
            pages("<page size='2' unit='MiB' nodeset='1'/>") + TWO_CELLS,
            [MemoryNeed(256 * MIB), MemoryNeed(256 * MIB, 2048)],
        ),
        (
            pages("<page size='2' unit='MiB' nodeset='1'/><page size='1' unit='GiB'/>") + TWO_CELLS,
            [MemoryNeed(256 * MIB, 1 << 20), MemoryNeed(256 * MIB, 2048)],
        ),
        (
            "<numatune><memory mode='strict' nodeset='0-1,^0'/></numatune>",
            [MemoryNeed(512 * MIB, 0, frozenset({1}))],
        ),
        ("<numatune><memory mode='preferred' nodeset='1'/></numatune>", [MemoryNeed(512 * MIB)]),
        (
            "<numatune><memnode cellid='1' mode='strict' nodeset='3'/></numatune>" + TWO_CELLS,
            [MemoryNeed(256 * MIB), MemoryNeed(256 * MIB, 0, frozenset({3}))],
        ),
    ],
)
def test_memory_is_told_in_parts_with_the_same_needs(more: str, needs: list[MemoryNeed]) -> None:
    assert list(memory_needs(vm(more=more))) == needs


def test_pins_of_cpus_emulator_and_io_threads_count_alike() -> None:
    tuning = "<vcpupin vcpu='0' cpuset='4'/><emulatorpin cpuset='2-3'/><iothreadpin iothread='1' cpuset='9'/>"
    assert pinned_cpus(vm(more=f"<cputune>{tuning}</cputune>")) == {2, 3, 4, 9}
    assert pinned_cpus(vm()) == frozenset()


def test_libvirts_lists_take_out_what_has_a_caret() -> None:
    assert ids_in("0-4,^2,^3") == {0, 1, 4}
    assert ids_in(None) == frozenset()


def test_what_vms_share_is_counted_in_one_name_for_demand_and_supply() -> None:
    bound = "<numatune><memory mode='strict' nodeset='1'/></numatune>"
    demands = demands_of(vm(more=pages("<page size='2' unit='MiB'/>") + bound), 2048)
    assert demands == {"pages/2048": 256, "pages/2048/1": 256}
    resources = HostResources(free_pages={(0, 2048): 300, (1, 2048): 10}, cells_free_bytes={1: 5 * MIB})
    assert supplies_of(resources, demands) == {"pages/2048": 310, "pages/2048/1": 10}
    assert supplies_of(resources, demands_of(vm(more=bound), 2048)) == {"memory/0/1": 5 * MIB}
    assert demands_of(vm(more=pages()), None) == {}


def test_huge_pages_are_no_part_of_ordinary_memory() -> None:
    assert huge_page_bytes(vm(more=pages())) == 512 * MIB
    assert huge_page_bytes(vm()) == 0
