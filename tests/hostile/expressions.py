"""The regular expressions of a package, and texts that make the bad ones of them slow.

Python's ``re`` tries again and again: an expression with two repetitions that may take the same characters
is quadratic in the length of a line, and one that is looked for anywhere is so with one of them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

METHODS = ("match", "fullmatch", "search", "finditer", "findall", "sub", "split")


@dataclass(frozen=True)
class Expression:
    """A pattern with the method that it is used by, and where it stands."""

    pattern: str | bytes
    flags: int
    method: str
    place: str

    def compiled(self) -> re.Pattern[Any]:
        return re.compile(self.pattern, self.flags)


def expressions(package: ModuleType) -> Iterator[Expression]:
    """All that the files of ``package`` write, once for each method that they call on it."""
    root = Path(package.__path__[0])
    for file in sorted(root.rglob("*.py")):
        tree, text = ast.parse(file.read_text()), file.read_text()
        names: dict[int, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                for inner in ast.walk(node.value):
                    names[id(inner)] = node.targets[0].id
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = ast.unparse(node.func)
            pattern = _literal(node.args[0])
            if pattern is None:
                continue
            place = f"{file.relative_to(root)}:{node.lineno}"
            if called == "lines_like":
                yield Expression(pattern, re.MULTILINE, "search", place)
            elif called == "re.compile":
                name = names.get(id(node), "")
                used = re.findall(rf"\b{name}\.({'|'.join(METHODS)})\(", text) if name else []
                for method in sorted(set(used or ["search"])):
                    yield Expression(pattern, _flags(node), method, place)
            elif called.startswith("re.") and called[3:] in METHODS:
                yield Expression(pattern, _flags(node), called[3:], place)


def _literal(node: ast.expr) -> str | bytes | None:
    try:
        found = ast.literal_eval(node)
    except ValueError:
        return None
    return found if isinstance(found, str | bytes) else None


def _flags(node: ast.Call) -> int:
    words = [ast.unparse(argument) for argument in (*node.args[1:], *(k.value for k in node.keywords))]
    found = 0
    for word in re.findall(r"re\.([A-Z]+)", " ".join(words)):
        found |= getattr(re, word)
    return found


def attacks(expression: Expression, length: int) -> Iterator[str | bytes]:
    """Texts of about ``length``: what the expression fits, with one repetition drawn out, and no end."""
    for text in _texts(expression, length):
        yield text.encode("latin-1", "replace") if isinstance(expression.pattern, bytes) else text


def _texts(expression: Expression, length: int) -> Iterator[str]:
    pattern = expression.pattern
    text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
    tree = parser.parse(text, expression.flags & ~re.LOCALE)
    repeats = _count(tree)
    # The beginning of a fit again and again: every one of them is a place to begin at.
    short, _ = _example(tree, -1, 1, 0, 0)
    for stop in sorted({*range(1, min(len(short), 24) + 1), len(short)} - {0}):
        yield (short[:stop] + "\n" * (stop == len(short))) * (length // stop) + "\0"
    seen: set[str] = set()
    for pumped in range(repeats):
        for variant in (0, 1):
            made, _ = _example(tree, pumped, length, 0, variant)
            if made not in seen and len(made) > length // 4:
                seen.add(made)
                yield made + "\0"
                yield made[: length * 9 // 10] + "\0"


def _count(tree: Any) -> int:
    total = 0
    for op, args in tree:
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            total += 1 + _count(args[2])
        elif op is sre.SUBPATTERN:
            total += _count(args[3])
        elif op is sre.BRANCH:
            total += sum(_count(branch) for branch in args[1])
        elif op in (sre.ASSERT, sre.ASSERT_NOT):
            total += _count(args[1])
        elif op is sre.ATOMIC_GROUP:
            total += _count(args)
    return total


def _example(tree: Any, pumped: int, length: int, number: int, variant: int) -> tuple[str, int]:
    """A text that fits ``tree``, its repetition of the number ``pumped`` drawn out to ``length``."""
    made = []
    for op, args in tree:
        if op is sre.LITERAL:
            made.append(chr(args))
        elif op is sre.NOT_LITERAL:
            made.append("a" if args != ord("a") else "b")
        elif op is sre.ANY:
            made.append("a1"[variant])
        elif op is sre.IN:
            made.append(_member(args, variant))
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            low, high, inner = args
            own = number
            part, number = _example(inner, pumped, length, number + 1, variant)
            times = max(low, 1)
            if own == pumped and part:
                times = min(length // len(part), high if isinstance(high, int) else length) or 1
            made.append(part * times)
        elif op is sre.SUBPATTERN:
            part, number = _example(args[3], pumped, length, number, variant)
            made.append(part)
        elif op is sre.ATOMIC_GROUP:
            part, number = _example(args, pumped, length, number, variant)
            made.append(part)
        elif op is sre.BRANCH:
            chosen = ""
            for place, branch in enumerate(args[1]):
                before = number
                part, number = _example(branch, pumped, length, number, variant)
                if place == 0 or before <= pumped < number:
                    chosen = part
            made.append(chosen)
        elif op in (sre.ASSERT, sre.ASSERT_NOT):
            _part, number = _example(args[1], pumped, length, number, variant)
    return "".join(made), number


def _member(args: Any, variant: int) -> str:
    negated = args and args[0][0] is sre.NEGATE
    preferred = ["a", "1"] if variant == 0 else ["1", "a"]
    candidates = [*preferred, " ", "A", "/", "-", ".", ":", "0", "f", "_", "x", ",", "\t", "=", '"', "b"]
    for char in candidates:
        if _is_in(args, char) != bool(negated):
            return char
    return chr(args[0][1]) if args and args[0][0] is sre.LITERAL else "a"


def _is_in(args: Any, char: str) -> bool:
    code = ord(char)
    for op, value in args:
        if op is sre.LITERAL and code == value:
            return True
        if op is sre.RANGE and value[0] <= code <= value[1]:
            return True
        if op is sre.CATEGORY:
            kind = str(value)
            hit = (
                char.isdigit()
                if "DIGIT" in kind
                else char.isspace()
                if "SPACE" in kind
                else (char.isalnum() or char == "_")
            )
            if hit != ("NOT" in kind):
                return True
    return False
