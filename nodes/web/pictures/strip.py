"""The heat strip: one small square a node, which still reads at a thousand nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nodes.models import Node
from nodes.web import figures, tones

WIDTH = 1120.0
LARGEST, SMALLEST, GAP = 26.0, 8.0, 3.0
MOST_ROWS = 14


@dataclass(frozen=True, slots=True)
class Square:
    """``level`` from 0 to 3 is how loaded the node is, by the larger of CPU and memory use."""

    x: float
    y: float
    name: str
    words: str
    tone: str
    level: int


@dataclass(frozen=True, slots=True)
class Strip:
    width: float
    height: float
    size: float
    squares: tuple[Square, ...]


def draw(nodes: Sequence[Node]) -> Strip | None:
    """Squares as large as fit into :data:`MOST_ROWS` rows; None without nodes."""
    if not nodes:
        return None
    size = LARGEST
    while size > SMALLEST and math.ceil(len(nodes) / _columns(size)) * size > MOST_ROWS * SMALLEST * 1.5:
        size -= 1
    columns = _columns(size)
    squares = tuple(
        _square(node, (i % columns) * (size + GAP), (i // columns) * (size + GAP))
        for i, node in enumerate(nodes)
    )
    rows = math.ceil(len(nodes) / columns)
    used = min(len(nodes), columns)
    return Strip(used * (size + GAP) - GAP, rows * (size + GAP) - GAP, size, squares)


def _columns(size: float) -> int:
    return int((WIDTH + GAP) // (size + GAP))


def _square(node: Node, x: float, y: float) -> Square:
    shown = tones.of_node(node)
    words = [shown.words] + ([shown.reason] if shown.reason else [])
    cpu, memory = node.cpu_used_percent, node.memory_used_percent
    if cpu is not None:
        words.append(f"CPU {figures.percent_text(cpu)}")
    if memory is not None:
        words.append(f"RAM {figures.percent_text(memory)}")
    load = max((value for value in (cpu, memory) if value is not None), default=0.0)
    level = 3 if load >= tones.FULL_PERCENT else 2 if load >= tones.WARN_PERCENT else 1 if load >= 40 else 0
    return Square(x, y, node.name, " · ".join(words), shown.tone, level)
