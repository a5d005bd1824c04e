"""The picture of the NUMA topology: a box a cell, its CPUs, its memory, and the distances between cells.

Takes the plain facts of the section ``summary`` (nodes/inventory/numa.py, cpu.py). Units are pixels of the
drawing; a browser shows it at its natural size, so that text stays readable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDEST = {1: 480.0, 2: 272.0, 3: 200.0}
"""The widest box by the number of columns: the picture then fits beside the page's other half."""
LEAST_SHARE = 0.66
PAD, GAP_X, GAP_Y = 16.0, 84.0, 64.0
HEAD, BAR, FOOT_LINE, CHAR = 46.0, 12.0, 17.0, 6.7
MOST_LINKED = 4
"""Up to four cells stand so that a line between any two can be drawn; more are told by the table alone."""
LOCAL_DISTANCE = 10


@dataclass(frozen=True, slots=True)
class Cpu:
    """One CPU as a small square; ``state`` is ``online``, ``offline`` or ``isolated``."""

    number: int
    state: str
    x: float
    y: float
    size: float

    @property
    def hatch(self) -> str:
        """The stroke across an isolated CPU: told apart without its colour."""
        inner = self.size - 6
        return f"M{self.x + 3:.1f} {self.y + self.size - 3:.1f}l{inner:.1f} {-inner:.1f}"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a stacked bar."""

    kind: str
    x: float
    width: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Cell:
    """A box. ``parts`` lie in the bar at ``bar_y``; ``devices`` are lines of names below it."""

    id: int
    x: float
    y: float
    width: float
    height: float
    cpus: tuple[Cpu, ...]
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    bar_y: float
    parts: tuple[Part, ...]
    devices: tuple[tuple[float, str], ...]

    @property
    def bar_width(self) -> float:
        return self.width - 2 * PAD

    @property
    def inner_x(self) -> float:
        return self.x + PAD

    @property
    def right_x(self) -> float:
        return self.x + self.width - PAD


@dataclass(frozen=True, slots=True)
class Link:
    """A line between two cells with their distance at ``label_x``, ``label_y``."""

    x1: float
    y1: float
    x2: float
    y2: float
    label_x: float
    label_y: float
    distance: int
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Picture:
    width: float
    height: float
    cells: tuple[Cell, ...]
    links: tuple[Link, ...]
    stray_offline: tuple[int, ...]
    """Offline CPUs of which the kernel does not tell the cell."""
    stray_y: float
    has_huge: bool
    has_isolated: bool
    has_offline: bool


def draw(
    numa: Mapping[str, Any], cpu: Mapping[str, Any], devices: Mapping[int, Sequence[str]] | None = None
) -> Picture | None:
    """The picture; None where no cell is known. ``devices`` are short names by cell."""
    cells = list(numa.get("cells") or ())
    if not cells:
        return None
    offline, isolated = set(cpu.get("offline") or ()), set(cpu.get("isolated") or ())
    if len(cells) == 1:
        cells[0] = {**cells[0], "cpus": sorted({*cells[0]["cpus"], *offline})}
    drawn = _place(cells, offline, isolated, devices or {})
    stray = tuple(sorted(offline.difference(*(cell["cpus"] for cell in cells))))
    width = max(cell.x + cell.width for cell in drawn)
    height = max(cell.y + cell.height for cell in drawn)
    return Picture(
        width=width + 2,
        height=height + (34 if stray else 2),
        cells=tuple(drawn),
        links=tuple(_links(drawn, numa)) if len(drawn) <= MOST_LINKED else (),
        stray_offline=stray,
        stray_y=height + 24,
        has_huge=any(part.kind.startswith("huge") for cell in drawn for part in cell.parts),
        has_isolated=bool(isolated),
        has_offline=bool(offline),
    )


def _place(
    cells: Sequence[Mapping[str, Any]],
    offline: set[int],
    isolated: set[int],
    devices: Mapping[int, Sequence[str]],
) -> list[Cell]:
    """Cells in rows: two beside each other, three as a triangle, four as a square, more in rows of three."""
    columns = {1: 1, 2: 2, 3: 2, 4: 2}.get(len(cells), 3)
    gap_x, gap_y = (GAP_X, GAP_Y) if len(cells) <= MOST_LINKED else (20.0, 20.0)
    most = max((cell.get("memory_total_bytes") or 0 for cell in cells), default=0)
    widths = [_width(cell.get("memory_total_bytes"), most, WIDEST[columns]) for cell in cells]
    column_width = max(widths)
    size, gap = _square(max(len(cell["cpus"]) for cell in cells))
    drawn: list[Cell] = []
    y = 1.0
    for start in range(0, len(cells), columns):
        row = cells[start : start + columns]
        made = []
        for column, cell in enumerate(row):
            width = widths[start + column]
            centred = len(cells) == 3 and start == 2
            x = 1 + (column_width + gap_x) * (0.5 if centred else column) + (column_width - width) / 2
            names = devices.get(cell["id"], ())
            made.append(_cell(cell, x, y, width, size, gap, offline, isolated, names))
        tallest = max(cell.height for cell in made)
        drawn += [_with_height(cell, tallest) for cell in made]
        y += tallest + gap_y
    return drawn


def _width(memory: int | None, most: int, widest: float) -> float:
    """A cell's width by its share of the largest cell's memory; one without memory is the narrowest."""
    share = (memory or 0) / most if most else 1.0
    return widest * (LEAST_SHARE + (1 - LEAST_SHARE) * share)


def _square(count: int) -> tuple[float, float]:
    """Side and gap of a CPU's square: smaller where there are many."""
    if count <= 48:
        return 17.0, 4.0
    return (13.0, 3.0) if count <= 160 else (9.0, 2.0)


def _cell(
    facts: Mapping[str, Any],
    x: float,
    y: float,
    width: float,
    size: float,
    gap: float,
    offline: set[int],
    isolated: set[int],
    names: Sequence[str],
) -> Cell:
    columns = max(1, int((width - 2 * PAD + gap) // (size + gap)))
    squares = tuple(
        Cpu(
            number,
            "offline" if number in offline else "isolated" if number in isolated else "online",
            x + PAD + (index % columns) * (size + gap),
            y + HEAD + (index // columns) * (size + gap),
            size,
        )
        for index, number in enumerate(facts["cpus"])
    )
    rows = math.ceil(len(squares) / columns)
    bar_y = y + HEAD + rows * (size + gap) + (8 if rows else 0)
    lines = _wrap(names, int((width - 2 * PAD) / CHAR))
    first_line = bar_y + BAR + 20 + FOOT_LINE
    height = bar_y + BAR + 20 + len(lines) * FOOT_LINE + PAD - y - (0 if lines else 4)
    return Cell(
        id=facts["id"],
        x=x,
        y=y,
        width=width,
        height=height,
        cpus=squares,
        memory_total_bytes=facts.get("memory_total_bytes"),
        memory_used_bytes=facts.get("memory_used_bytes"),
        bar_y=bar_y,
        parts=_parts(facts, x + PAD, width - 2 * PAD),
        devices=tuple((first_line + number * FOOT_LINE, line) for number, line in enumerate(lines)),
    )


def _with_height(cell: Cell, height: float) -> Cell:
    """The same box, as tall as its neighbours."""
    values = {name: getattr(cell, name) for name in Cell.__slots__}
    return Cell(**values | {"height": height})


def _parts(facts: Mapping[str, Any], x: float, width: float) -> tuple[Part, ...]:
    """Memory of a cell: in use, huge pages in use and free, free. The kernel counts whole pools as used."""
    total, used = facts.get("memory_total_bytes"), facts.get("memory_used_bytes")
    if not total or used is None:
        return ()
    pages = facts.get("huge_pages") or ()
    huge_used = sum(page["size_bytes"] * (page["used"] or 0) for page in pages)
    huge_free = sum(page["size_bytes"] * (page["free"] or 0) for page in pages)
    plain = max(0, used - huge_used - huge_free)
    free = max(0, total - plain - huge_used - huge_free)
    parts = []
    for kind, size in (("used", plain), ("huge", huge_used), ("huge-free", huge_free), ("free", free)):
        if size:
            share = width * size / total
            parts.append(Part(kind, x, share, size))
            x += share
    return tuple(parts)


def _wrap(names: Sequence[str], columns: int, most: int = 3) -> list[str]:
    """Names in at most ``most`` lines of ``columns`` characters; those that do not fit are counted."""
    lines: list[str] = []
    for position, name in enumerate(names):
        joined = f"{lines[-1]}, {name}" if lines else name
        # The last line keeps room for the count of what is left out.
        room = columns - 5 if len(lines) == most and position < len(names) - 1 else columns
        if lines and len(joined) <= room:
            lines[-1] = joined
        elif len(lines) < most:
            lines.append(name[:columns])
        else:
            lines[-1] += f", +{len(names) - position}"
            break
    return lines


def _links(cells: Sequence[Cell], numa: Mapping[str, Any]) -> list[Link]:
    """A line between any two cells whose distance is known."""
    matrix = numa.get("distances") or ()
    links = []
    for i, first in enumerate(cells):
        for j in range(i + 1, len(cells)):
            distance = _distance(matrix, i, j)
            if distance is not None:
                links.append(_link(first, cells[j], distance))
    return links


def _distance(matrix: Sequence[Sequence[Any]], i: int, j: int) -> int | None:
    """The distance from cell i to j; firmware that gives another one back makes the larger count."""
    try:
        there, back = matrix[i][j], matrix[j][i]
    except IndexError:
        return None
    known = [value for value in (there, back) if value is not None]
    return max(known) if known else None


def _link(a: Cell, b: Cell, distance: int) -> Link:
    """From the border of ``a`` to the border of ``b``, along the line between their centres."""
    ax, ay = a.x + a.width / 2, a.y + a.height / 2
    bx, by = b.x + b.width / 2, b.y + b.height / 2
    x1, y1 = _border(a, bx - ax, by - ay)
    x2, y2 = _border(b, ax - bx, ay - by)
    # Crossing diagonals would put both labels on one spot: theirs stand nearer to one end.
    share = 0.5 if abs(ax - bx) < 1 or abs(ay - by) < 1 or a.width + b.width == 0 else 0.3
    return Link(x1, y1, x2, y2, x1 + (x2 - x1) * share, y1 + (y2 - y1) * share, distance, a.id, b.id)


def _border(cell: Cell, dx: float, dy: float) -> tuple[float, float]:
    """Where a ray from the centre of the box in the direction (dx, dy) leaves it."""
    x, y = cell.x + cell.width / 2, cell.y + cell.height / 2
    reach = min(
        cell.width / 2 / abs(dx) if abs(dx) > 1e-6 else math.inf,
        cell.height / 2 / abs(dy) if abs(dy) > 1e-6 else math.inf,
    )
    return x + dx * reach, y + dy * reach
