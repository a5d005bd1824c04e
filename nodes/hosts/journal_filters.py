"""What to read of a journal, typed; and the journalctl command line that reads it.

Nothing that a user wrote becomes an option: every value stands behind ``--option=`` or ``FIELD=`` in one
argument, is of a form that is checked here, and is quoted by shlex where a shell reads it.

Sources: journalctl(1), systemd.unit(5), systemd.journal-fields(7), sd_journal_add_match(3).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from nodes.errors import InvalidInput
from nodes.hosts.journal_entries import FIELDS
from nodes.hosts.journal_terms import ALIASES, Terms, unit_terms
from nodes.inventory.parsing.numbers import capped

LEVELS: Final[Mapping[str, int]] = {
    "emergency": 0, "emerg": 0, "alert": 1, "critical": 2, "crit": 2, "error": 3, "err": 3,
    "warning": 4, "warn": 4, "notice": 5, "info": 6, "debug": 7,
}  # fmt: skip
MAX_SERVICES = 32
MAX_KEYWORD = 256
MAX_LAST_S = 3650 * 86400
VM_LOG = "vm-log"
"""The name of the files under /var/log/libvirt/qemu among the services."""

IDENTIFIER = "identifier:"
"""Before the name that a program gives itself (SYSLOG_IDENTIFIER), where it is not a unit's."""

_UNIT = re.compile(r"[A-Za-z0-9:_\\-][A-Za-z0-9:_.\\@-]*")
_SUFFIXES = (
    ".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer",
    ".slice", ".scope",
)  # fmt: skip
_IDENTIFIER = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_VM_NAME = re.compile(r"[^\x00-\x1f\x7f/]{1,200}")
_BOOT = re.compile(r"0|-[1-9][0-9]{0,3}|[0-9a-f]{32}")
_BOOT_AS_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_LAST = re.compile(r"([0-9]{1,9})\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, slots=True)
class JournalFilters:
    """A checked query. Made by :func:`read_filters`.

    ``levels`` is the lowest and the highest number of syslog's levels; ``last_s`` counts back from the host's
    own clock. ``vm`` keeps what names that VM.
    """

    services: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    last_s: int | None = None
    levels: tuple[int, int] | None = None
    keyword: str = ""
    regex: bool = False
    boot: str = ""
    vm: str = ""

    @property
    def reads_journal(self) -> bool:
        return self.services != (VM_LOG,)

    @property
    def reads_vm_logs(self) -> bool:
        """Whether the VMs' own log files belong to the answer. They have neither level nor boot."""
        if self.levels is not None or self.boot:
            return VM_LOG in self.services
        asked = VM_LOG in self.services or "qemu" in self.services
        return asked or bool(self.vm and not self.services)

    def to_json(self) -> dict[str, object]:
        """As :func:`read_filters` takes it again; what is not set is left out."""
        found: dict[str, object] = {
            "services": list(self.services),
            "since": self.since.isoformat() if self.since else None,
            "until": self.until.isoformat() if self.until else None,
            "last": f"{self.last_s}s" if self.last_s is not None else None,
            "level": f"{self.levels[0]}..{self.levels[1]}" if self.levels else None,
            "keyword": self.keyword,
            "regex": self.regex,
            "boot": self.boot,
            "vm": self.vm,
        }
        return {name: value for name, value in found.items() if value}


def read_filters(values: Mapping[str, object]) -> JournalFilters:
    """Check a query as a person or a cursor wrote it. Raises InvalidInput that names the field."""
    services = values.get("services") or ()
    if isinstance(services, str) or not isinstance(services, Iterable):
        raise InvalidInput("services is a list of names.", field="services")
    names = tuple(dict.fromkeys(_service(name) for name in services))
    if len(names) > MAX_SERVICES:
        raise InvalidInput(f"At most {MAX_SERVICES} services at once.", field="services")
    since, until = _moment(values, "since"), _moment(values, "until")
    last = _text(values, "last")
    if last and (since or until):
        raise InvalidInput("last goes with neither since nor until.", field="last")
    if since and until and since > until:
        raise InvalidInput("until is before since.", field="until")
    keyword = _text(values, "keyword")
    if len(keyword) > MAX_KEYWORD or "\0" in keyword:
        raise InvalidInput(
            f"A keyword has at most {MAX_KEYWORD} characters, none of them NUL.", field="keyword"
        )
    level = values.get("level")
    return JournalFilters(
        services=names,
        since=since,
        until=until,
        last_s=_last(last) if last else None,
        levels=_levels(level) if level not in (None, "") else None,
        keyword=keyword,
        regex=_truth(values, "regex"),
        boot=_matching(_BOOT, _boot(values), "boot", "0, -1, -2 … or a boot ID of 32 hex digits"),
        vm=_matching(_VM_NAME, _text(values, "vm"), "vm", "a VM's name"),
    )


def _text(values: Mapping[str, object], name: str) -> str:
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or not _is_unicode(value):
        raise InvalidInput(f"{name} is text.", field=name)
    return value


def _truth(values: Mapping[str, object], name: str) -> bool:
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"{name} is true or false.", field=name)
    return bool(value)


def _boot(values: Mapping[str, object]) -> str:
    """As journalctl lists it, where it was copied from the kernel's boot_id or from a page."""
    text = _text(values, "boot")
    return text.replace("-", "").lower() if _BOOT_AS_UUID.fullmatch(text) else text


def _is_unicode(text: str) -> bool:
    """Whether it can be sent at all: half a surrogate pair, which JSON can carry, is no character."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _matching(pattern: re.Pattern[str], value: str, name: str, what: str) -> str:
    if value and not pattern.fullmatch(value):
        raise InvalidInput(f"{name} takes {what}.", field=name)
    return value


def _service(name: object) -> str:
    if not isinstance(name, str) or not _is_unicode(name):
        raise InvalidInput("A service is a name.", field="services")
    if name in ALIASES or name == VM_LOG:
        return name
    if name.startswith(IDENTIFIER):
        if not _IDENTIFIER.fullmatch(name.removeprefix(IDENTIFIER)):
            raise InvalidInput("An identifier has 1 to 128 printable characters.", field="services")
        return name
    return unit_name(name)


def unit_name(name: str) -> str:
    """A unit's full name; ``.service`` where no type is given. Raises InvalidInput by systemd.unit(5)."""
    full = name if name.endswith(_SUFFIXES) else f"{name}.service"
    if not _UNIT.fullmatch(name) or len(full) > 255 or not full.rpartition(".")[0]:
        raise InvalidInput(
            "A service is the name of a systemd unit, identifier:NAME, or one of "
            f"{', '.join((*ALIASES, VM_LOG))}.",
            field="services",
        )
    return full


def _moment(values: Mapping[str, object], name: str) -> datetime | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime) or value.tzinfo is None or not 1970 < value.year < 9999:
        raise InvalidInput(f"{name} is a time with its zone, as RFC 3339 has it.", field=name)
    return value.astimezone(UTC)


def _last(text: str) -> int:
    found = _LAST.fullmatch(text.strip())
    seconds = capped(found[1]) * _SECONDS[found[2]] if found and found[1].isascii() else 0
    if not 0 < seconds <= MAX_LAST_S:
        raise InvalidInput("last is a number with s, m, h, d or w: 90s, 2h, 3d.", field="last")
    return seconds


def _levels(value: object) -> tuple[int, int]:
    """``error``, ``3`` (that and worse), or a range as journalctl writes it: ``warning..err``, ``3..4``."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        low, dots, high = value.lower().partition("..")
        numbers = [_level(part.strip()) for part in ((low, high) if dots else ("0", low))]
        known = [number for number in numbers if number is not None]
        if len(known) == 2:
            return min(known), max(known)
    raise InvalidInput(
        "level is error, warning, info, debug, a number from 0 to 7, or two of them as LOW..HIGH.",
        field="level",
    )


def _level(text: str) -> int | None:
    if len(text) == 1 and text in "01234567":
        return capped(text)
    return LEVELS.get(text)


# -- the command line -------------------------------------------------------------------------------


def _terms(filters: JournalFilters) -> list[Terms]:
    services = filters.services
    if not services and filters.vm:
        # A VM may be called "test": only what has to do with VMs is searched for its name.
        return [*ALIASES["libvirtd"], *ALIASES["qemu"], {"SYSLOG_IDENTIFIER": ("systemd", "audit", "kernel")}]
    found: list[Terms] = []
    units: list[str] = []
    for name in services:
        if name in ALIASES:
            found += ALIASES[name]
        elif name.startswith(IDENTIFIER):
            found.append({"SYSLOG_IDENTIFIER": (name.removeprefix(IDENTIFIER),)})
        elif name != VM_LOG:
            units.append(name)
    return [*found, *unit_terms(*units)] if units else found


def match_arguments(filters: JournalFilters) -> list[str]:
    """Match terms: fields side by side must all match, values of one are alternatives, ``+`` means or."""
    arguments: list[str] = []
    for terms in _terms(filters):
        if arguments:
            arguments.append("+")
        arguments += [f"{field}={value}" for field, values in terms.items() for value in values]
    return arguments


def bounds(filters: JournalFilters, *, cursor: str, since: datetime | None) -> list[str]:
    """Where reading begins and ends. journalctl takes a cursor or a time to begin at, never both."""
    found = []
    if cursor:
        found.append(f"--cursor={cursor}")
    elif since is not None:
        found.append(f"--since=@{_epoch(since)}")
    elif filters.last_s is not None:
        found.append(f"--since=-{filters.last_s}s")
    if filters.until is not None:
        found.append(f"--until=@{_epoch(filters.until)}")
    return found


def _epoch(moment: datetime) -> str:
    # Not timestamp(): a float has no microseconds left in this century.
    seconds = int(moment.replace(microsecond=0).timestamp())
    return f"{seconds}.{moment.microsecond:06d}"


def search_pattern(filters: JournalFilters) -> str:
    """The pattern for keyword and VM together, "" where neither is asked for; PCRE2 and, but for a user's own
    expression, Python alike.
    """
    parts = []
    if filters.keyword:
        parts.append(filters.keyword if filters.regex else quoted(filters.keyword))
    if filters.vm:
        parts.append(vm_pattern(filters.vm))
    if len(parts) < 2:
        return "".join(parts)
    # In either order, and over several lines of one message.
    return f"(?s)^(?=.*(?:{parts[1]})).*(?:{parts[0]})"


def is_case_sensitive(filters: JournalFilters) -> bool:
    """A keyword never is; an expression is as soon as it has a capital letter, as journalctl(1) has it."""
    return filters.regex and any("A" <= char <= "Z" for char in filters.keyword)


_MACHINE_KEPT = 50
_SPECIAL = frozenset("\\.^$*+?{}[]|()")


def quoted(text: str) -> str:
    """``text`` as a pattern that means just itself, in PCRE2 and Python alike."""
    return "".join(_quoted(char) for char in text)


def _quoted(char: str) -> str:
    if char in _SPECIAL:
        return f"\\{char}"
    return char if char >= " " else f"\\x{ord(char):02x}"


def vm_pattern(name: str) -> str:
    """A VM's name as a word: alone, as machined has it (qemu-3-NAME), or escaped in a scope's name."""
    numbered = r"qemu(?:-|\\x2d)[0-9]+(?:-|\\x2d)"
    found = f"(?:{numbered})?(?:{_forms(name)})"
    machine = machine_name(name)
    if machine not in ("", name):
        # libvirt cuts it at 64 characters, its number among them.
        rest = "" if len(machine) <= _MACHINE_KEPT else r"[A-Za-z0-9.-]*"
        found = f"(?:{found}|{numbered}(?:{_forms(machine[:_MACHINE_KEPT])}){rest})"
    return rf"(?<![A-Za-z0-9_.-])(?:machine-)?{found}(?![A-Za-z0-9_-]|\.(?!scope)[A-Za-z0-9])"


def machine_name(name: str) -> str:
    """What libvirt makes of a VM's name for systemd-machined: its letters, digits, and single - and ."""
    kept = re.sub(r"[^A-Za-z0-9.-]", "", name)
    return re.sub(r"([.-])[.-]+", r"\1", kept).strip(".-")


def _forms(name: str) -> str:
    escaped = "".join(
        char if char.isascii() and (char.isalnum() or char in ":_.") else _unit_escape(char) for char in name
    )
    return quoted(name) if escaped == name else f"{quoted(name)}|{quoted(escaped)}"


def _unit_escape(char: str) -> str:
    """As systemd-escape(1) writes it."""
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


def command(arguments: Sequence[str]) -> str:
    """A command line for sh, in the form that may be run as root (nodes/inventory/privileged.py)."""
    words = (_without_spaces(word) for word in arguments if word != "--no-pager")
    return shlex.join(["journalctl", "--no-pager", *words])


def readable_command(arguments: Sequence[str]) -> str:
    """The same for people, who read and change it."""
    return shlex.join(["journalctl", *arguments])


def selection(filters: JournalFilters, *, with_grep: bool) -> list[str]:
    """The options and terms that say which entries, without where to begin."""
    found = []
    if filters.boot:
        found.append(f"--boot={filters.boot}")
    if filters.levels is not None:
        found.append(f"--priority={filters.levels[0]}..{filters.levels[1]}")
    pattern = search_pattern(filters)
    if pattern and with_grep:
        found += [
            f"--grep={pattern}",
            f"--case-sensitive={'yes' if is_case_sensitive(filters) else 'no'}",
        ]
    return [*found, *match_arguments(filters)]


def _without_spaces(word: str) -> str:
    """An expression to search for without a space in it: to sudo, which compares a command's words joined by
    spaces, a space and a hyphen would look like a further option."""
    if not word.startswith("--grep=") or "(?x" in word:
        return word
    return re.sub(r"\\(.)| ", lambda found: r"\x20" if found[1] in (None, " ") else found[0], word)


def export_options() -> list[str]:
    """The form in which entries are read."""
    return ["--quiet", "--no-pager", "--output=export", f"--output-fields={','.join(FIELDS)}"]
