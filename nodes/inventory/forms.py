"""What the output of a source looks like, so that something else in its place is told from a host without.

A form is lenient: it knows a text by one line of it, and leaves what is wrong with the rest to the parser. A
tool that was replaced by a wrapper, prints its usage, an error page or noise, and exits well all the same, is
then a problem of its source, where it would read as a host that has nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from nodes.inventory.jsontext import read_values
from nodes.inventory.xmltext import parse_xml


@dataclass(frozen=True, slots=True)
class Form:
    """``fits`` is asked of a text that is not blank. ``always``: every host has something to print."""

    fits: Callable[[str], bool]
    always: bool = False

    def knows(self, text: str) -> bool:
        """Whether ``text`` may be output of the source."""
        return self.fits(text) if text.strip() else not self.always


def lines_like(pattern: str, *, always: bool = False) -> Form:
    """A text in which some line begins with ``pattern``."""
    found = re.compile(pattern, re.MULTILINE)
    return Form(lambda text: found.search(text) is not None, always)


def json_of(kind: type, *, always: bool = False) -> Form:
    """JSON whose first value is of ``kind`` (list or dict)."""

    def fits(text: str) -> bool:
        values = read_values(text)
        return bool(values) and isinstance(values[0], kind)

    return Form(fits, always)


def xml_of(tag: str) -> Form:
    """An XML document whose root is ``tag``."""

    def fits(text: str) -> bool:
        root = parse_xml(text)
        return root is not None and root.tag == tag

    return Form(fits, always=True)


FILES = lines_like(r"^\S*/[^\s/:]+:")
"""``grep -as . FILE…``: ``path:line``."""
FILES_OF_EVERY_HOST = Form(FILES.fits, always=True)
LISTING = lines_like(r"^[-bcdlps][-rwxsStT]{9}")
"""``ls -ld``."""
LISTING_OF_EVERY_HOST = Form(LISTING.fits, always=True)
