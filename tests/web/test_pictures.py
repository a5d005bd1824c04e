"""Geometry of the pictures: what is drawn lies where it should, whatever the host is."""

import itertools

import pytest

from nodes.inventory.build import build
from nodes.web.pictures import network, numa
from nodes.web.sections import summary
from tests.inventory.documents import host_document, host_names

GIB = 1 << 30


def cell(number, cpus, memory=64 * GIB, used=16 * GIB, distances=(10,), pages=()):
    return {
        "id": number,
        "cpus": list(cpus),
        "memory_total_bytes": memory,
        "memory_used_bytes": used,
        "distances": list(distances),
        "huge_pages": list(pages),
    }


def topology(count, remote=21, **fields):
    matrix = [[10 if i == j else remote for j in range(count)] for i in range(count)]
    cells = [cell(i, range(i * 8, i * 8 + 8), distances=matrix[i], **fields) for i in range(count)]
    return {"cells": cells, "distances": matrix}


NO_CPUS = {"offline": [], "isolated": []}


@pytest.mark.parametrize("count", range(1, 17))
def test_boxes_of_cells_do_not_overlap_and_hold_their_cpus(count):
    picture = numa.draw(topology(count), NO_CPUS)
    for a, b in itertools.combinations(picture.cells, 2):
        apart = a.x + a.width < b.x or b.x + b.width < a.x or a.y + a.height < b.y or b.y + b.height < a.y
        assert apart, (a.id, b.id)
    for box in picture.cells:
        for cpu in box.cpus:
            assert box.x < cpu.x < cpu.x + cpu.size < box.x + box.width
            assert box.y < cpu.y < cpu.y + cpu.size < box.bar_y
        assert box.x + box.width <= picture.width
        assert box.y + box.height <= picture.height


@pytest.mark.parametrize(("count", "lines"), [(1, 0), (2, 1), (3, 3), (4, 6), (5, 0), (8, 0)])
def test_a_line_joins_any_two_of_up_to_four_cells(count, lines):
    picture = numa.draw(topology(count), NO_CPUS)
    assert len(picture.links) == lines
    labels = [(link.label_x, link.label_y) for link in picture.links]
    for (x1, y1), (x2, y2) in itertools.combinations(labels, 2):
        assert abs(x1 - x2) > 30 or abs(y1 - y2) > 20


def test_a_distance_that_differs_by_direction_shows_the_larger_and_an_unknown_one_none():
    facts = topology(3)
    facts["distances"] = [[10, 21, None], [31, 10, None], [None, None, 10]]
    (link,) = numa.draw(facts, NO_CPUS).links
    assert link.distance == 31


def test_offline_and_isolated_cpus_are_told_apart():
    facts = topology(2)
    picture = numa.draw(facts, {"offline": [3, 99], "isolated": [4, 5]})
    states = {cpu.number: cpu.state for cpu in picture.cells[0].cpus}
    assert states[3] == "offline"
    assert states[4] == states[5] == "isolated"
    assert states[0] == "online"
    assert picture.stray_offline == (99,)


def test_an_offline_cpu_of_a_host_with_one_cell_is_in_that_cell():
    picture = numa.draw(topology(1), {"offline": [8], "isolated": []})
    assert [cpu.number for cpu in picture.cells[0].cpus] == list(range(9))
    assert picture.stray_offline == ()


def test_the_parts_of_memory_fill_the_bar_and_count_huge_pages_apart():
    pages = [{"size_bytes": GIB, "total": 16, "used": 10, "free": 6}]
    picture = numa.draw(topology(1, used=24 * GIB, pages=pages), NO_CPUS)
    (box,) = picture.cells
    assert {part.kind: part.size_bytes // GIB for part in box.parts} == {
        "used": 8,
        "huge": 10,
        "huge-free": 6,
        "free": 40,
    }
    assert sum(part.width for part in box.parts) == pytest.approx(box.bar_width)


def test_a_box_is_sized_by_its_memory_and_one_of_unknown_memory_has_no_bar():
    facts = topology(2)
    facts["cells"][1] |= {"memory_total_bytes": None, "memory_used_bytes": None}
    large, unknown = numa.draw(facts, NO_CPUS).cells
    assert unknown.width < large.width
    assert unknown.parts == ()


def test_a_host_without_known_cells_has_no_picture():
    assert numa.draw({"cells": [], "distances": []}, NO_CPUS) is None


def test_many_devices_are_counted_and_none_is_cut_short():
    names = [f"nvme{number}n1" for number in range(40)]
    (box,) = numa.draw(topology(1), NO_CPUS, {0: names}).cells
    shown = ", ".join(line for _y, line in box.devices)
    kept, _comma, rest = shown.rpartition(", +")
    assert kept.split(", ") == names[: len(names) - int(rest)]


def test_distances_are_graded_from_near_to_far():
    facts = {"cells": topology(3)["cells"], "distances": [[10, 12, 32], [12, 10, 21], [32, 21, None]]}
    levels = [[level for _value, level in row.values] for row in summary.distance_rows(facts)]
    assert levels == [[0, 1, 3], [1, 0, 2], [3, 2, 0]]


@pytest.mark.parametrize("host", host_names())
def test_lines_of_the_network_join_boxes_and_pass_beside_all_others(host):
    facts = build(host_document(host)).results["net"].plain
    picture = network.draw(facts)
    if picture is None:
        assert not facts["nics"]
        return
    for a, b in itertools.combinations(picture.boxes, 2):
        apart = a.right < b.x or b.right < a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
        assert apart, (a.name, b.name)
    for line in picture.lines:
        for y, left, right in level_parts(line.path):
            for box in picture.boxes:
                crosses = box.x < right and box.right > left and box.y < y < box.y + box.height
                assert not crosses, (line.words, box.name)


def level_parts(path):
    """The horizontal parts of a path: (y, from x, to x)."""
    point = (0.0, 0.0)
    for part in path.replace("C", "|C").replace("H", "|H").split("|"):
        if part.startswith("H"):
            yield point[1], point[0], float(part[1:])
            point = (float(part[1:]), point[1])
        else:
            point = tuple(float(number) for number in part.strip("MC").split()[-2:])


def test_the_wiring_of_a_large_host():
    facts = build(host_document("large")).results["net"].plain
    picture = network.draw(facts)
    lines = {line.words: line for line in picture.lines}
    assert lines["eno1 → bond0"].up
    assert lines["eno1 → bond0"].active
    assert not lines["eno2 → bond0"].up
    assert not lines["eno2 → bond0"].active
    assert "bond0 → br0" in lines
    assert "br1 → vm01" in lines
    assert "ens1f1 → ovsbr0" in lines
    assert "ovsbr0 → vm21" in lines
    assert "ens1f0 → router" in lines


def test_what_was_switched_off_and_what_has_no_port_are_no_alarm():
    facts = build(host_document("large")).results["net"].plain
    boxes = {box.name: box for box in network.draw(facts).boxes}
    assert (boxes["ens6f0"].tone, boxes["ens6f0"].note) == ("off", "off")
    assert (boxes["ens5f1np1"].tone, boxes["ens5f1np1"].note) == ("down", "down")
    assert boxes["virbr0"].tone == "off"
    assert boxes["br0"].tone == "up"


def test_more_vms_than_fit_are_counted():
    facts = build(host_document("large")).results["net"].plain
    port = next(port for port in facts["vm_ports"] if port["bridge"] == "br1")
    facts["vm_ports"] = [
        {**port, "name": f"vnet{n}", "vm": {"vm_uuid": str(n), "vm_name": f"vm{n}", "running": n > 20}}
        for n in range(90)
    ]
    picture = network.draw(facts)
    drawn = [box for box in picture.boxes if box.column == "vm"]
    assert len(drawn) == network.MOST_VMS
    assert picture.vms_left_out == 90 - network.MOST_VMS
    assert all(box.tone == "up" for box in drawn)
