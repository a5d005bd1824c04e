"""A document becomes an inventory: every section parsed, none able to break its neighbours."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nodes.inventory.document import HostDocument, Problem, SourceOutput, SourceStatus
from nodes.inventory.forms import Form
from nodes.inventory.parsing.bounds import bounded
from nodes.inventory.parsing.effort import TooMuchWork, limited
from nodes.inventory.plain import Plain, clean_text, to_plain
from nodes.inventory.registry import SECTIONS
from nodes.inventory.section import Section
from nodes.inventory.source import LibvirtSource, Source

logger = logging.getLogger(__name__)

ITEMS_ONLY = frozenset({"libvirt:domain", "libvirt:pool", "libvirt:network"})
"""Sources that have outputs for their items alone; a host without domains has none, and lacks nothing."""

CPU_S = 12.0
SECTION_CPU_S = 5.0
"""Seconds of processor time for all sections, and for one of them: ten times what a thousand disks take."""
_TOO_LARGE = (
    "This section could not be read: what the host printed takes more processor time than a host's hardware "
    "can account for."
)
_PACKAGES = {
    "dmidecode": "dmidecode",
    "ethtool": "ethtool",
    "findmnt": "util-linux",
    "ip": "iproute2",
    "lsblk": "util-linux",
    "lspci": "pciutils",
    "lsusb": "usbutils",
    "lvs": "lvm2",
    "mdadm": "mdadm",
    "multipath": "multipath-tools",
    "nvme": "nvme-cli",
    "pvs": "lvm2",
    "smartctl": "smartmontools",
    "vgs": "lvm2",
    "zpool": "zfsutils-linux",
}


@dataclass(frozen=True, slots=True)
class SectionResult:
    """One section of one host: the typed facts, the same as plain JSON, and what could not be read.

    ``facts`` and ``plain`` are None where the parser failed. ``unread`` has the sources (of many items: the
    items, ``ethtool:eth0``) that did not come whole, with their status: what such a section does not show may
    be there all the same.
    """

    slug: str
    facts: Any
    plain: dict[str, Plain] | None
    problems: tuple[Problem, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All sections of one document, by slug, in the registry's order."""

    observed_at: str
    results: Mapping[str, SectionResult]

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(problem for result in self.results.values() for problem in result.problems)

    def plain(self) -> dict[str, Plain]:
        """The facts of every section that has some, as plain JSON by slug."""
        return {slug: result.plain for slug, result in self.results.items() if result.plain is not None}


def build(document: HostDocument, sections: Sequence[Section[Any]] = SECTIONS) -> Inventory:
    """Parse ``document`` with every one of ``sections``. Never raises for what a host may print."""
    begin = time.thread_time()
    document = _with_unreadable(bounded(document), sections)
    results = {
        section.slug: _build_section(section, document, CPU_S - (time.thread_time() - begin))
        for section in sections
    }
    return Inventory(document.observed_at, results)


def _with_unreadable(document: HostDocument, sections: Sequence[Section[Any]]) -> HostDocument:
    """``document`` with the status of each output that does not look like its source's: to a parser it would
    read as a host that has nothing."""
    sources: dict[str, Source | LibvirtSource] = {}
    for section in sections:
        sources |= {source.name: source for source in section.sources}
        sources |= {source.name: source for source in section.libvirt}
    unlike: dict[str, SourceOutput] = {}
    for name, output in document.sources.items():
        form = _form_of(name, sources) if output.status is SourceStatus.OK else None
        if form is not None and not form.knows(output.stdout):
            unlike[name] = replace(output, status=SourceStatus.UNREADABLE)
    return document.with_sources(unlike) if unlike else document


def _form_of(name: str, sources: Mapping[str, Source | LibvirtSource]) -> Form | None:
    if name in sources:
        return sources[name].form
    source = sources.get(_item_source(name))
    return source.item_form if isinstance(source, Source) else source.form if source else None


def _item_source(name: str) -> str:
    """The source of an item: ``ethtool`` of ``ethtool:eth0``, ``libvirt:pool`` of ``libvirt:pool:UUID``."""
    parts = name.split(":", 2)
    return ":".join(parts[:2]) if parts[0] == "libvirt" else parts[0]


def _build_section(section: Section[Any], document: HostDocument, left_s: float) -> SectionResult:
    failures = tuple(_failures(section, document))
    problems = tuple(_problem(section, failure, document) for failure in failures)
    unread = {output.name: failure.status.value for failure in failures for output in failure.outputs}
    try:
        with limited(min(SECTION_CPU_S, left_s)):
            parsed = section.parse(document)
            plain = to_plain(parsed.facts)
    except (TooMuchWork, RecursionError):
        # No traceback: it would be one for every inventory of such a host.
        logger.warning("section %s takes too much work to read", section.slug)
        large = Problem(section.slug, "", "too_large", _TOO_LARGE)
        return SectionResult(section.slug, None, None, (*problems, large), unread)
    except Exception as error:  # a parser's mistake costs its own section, never the others
        logger.exception("section %s could not be parsed", section.slug)
        message = f"This section could not be read ({type(error).__name__})."
        broken = Problem(section.slug, "", "parser_failed", message)
        return SectionResult(section.slug, None, None, (*problems, broken), unread)
    if not isinstance(plain, dict):
        raise TypeError(f"the facts of section {section.slug} are no dataclass")
    return SectionResult(section.slug, parsed.facts, plain, (*problems, *parsed.problems), unread)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Outputs of one source that failed alike: itself, or some of its items."""

    source: Source | LibvirtSource
    status: SourceStatus
    outputs: tuple[SourceOutput, ...]


def _failures(section: Section[Any], document: HostDocument) -> Iterator[_Failure]:
    declared: tuple[Source | LibvirtSource, ...] = (*section.sources, *section.libvirt)
    names = {source.name for source in declared}
    for source in declared:
        outputs = [] if source.name in ITEMS_ONLY else [document.get(source.name)]
        outputs += [output for _, output in document.items(source.name) if output.name not in names]
        alike: dict[SourceStatus, list[SourceOutput]] = {}
        for output in outputs:
            alike.setdefault(output.status, []).append(output)
        for status, failed in alike.items():
            expected = status is SourceStatus.MISSING and source.name in section.optional
            if status is not SourceStatus.OK and not expected:
                yield _Failure(source, status, tuple(failed))


def _problem(section: Section[Any], failure: _Failure, document: HostDocument) -> Problem:
    message = _message(failure, document.user or "The user")
    if len(failure.outputs) > 1:
        message = f"{message} ({len(failure.outputs)} times)"
    return Problem(section.slug, failure.source.name, failure.status.value, message)


def _message(failure: _Failure, user: str) -> str:
    """What happened and what to do about it, in one or two sentences."""
    source, first = failure.source, failure.outputs[0]
    tool, command = (source.needs, source.command) if isinstance(source, Source) else ("", "")
    what = tool or first.name
    match failure.status:
        case SourceStatus.MISSING if tool:
            package = _PACKAGES.get(tool)
            return f"{tool} is not on the host. " + (f"Install the package {package}." if package else "")
        case SourceStatus.MISSING:
            return f"The host has no {what}. {_said(first)}".strip()
        case SourceStatus.DENIED:
            # Where no tool is named, these three go through sudo (probe_group.sh).
            allowed = tool or ("cat, grep, ls" if "\n" in command else command)
            remedy = f"Allow it in sudoers with NOPASSWD: {allowed}."
            return f"{user} may not read {what}. {remedy if command else _said(first)}"
        case SourceStatus.TIMEOUT:
            limit = f" within {source.timeout_s} s" if isinstance(source, Source) else " in time"
            return f"{what} gave no answer{limit}. {_said(first)}".strip()
        case SourceStatus.TRUNCATED:
            return (
                f"{what} printed more than is read, or its output was cut off: only its beginning is known."
            )
        case SourceStatus.UNREADABLE:
            printed = "nothing" if not first.stdout.strip() else "something that is no output of its kind"
            return f"{first.name} gave {printed}: what it would tell is unknown. {_said(first)}".strip()
        case SourceStatus.NOT_RUN:
            return f"{what} was not asked. {_said(first)}".strip()
        case _:
            ended = "" if first.exit_status is None else f" with status {first.exit_status}"
            return f"{what} failed{ended}. {_said(first)}".strip()


def _said(output: SourceOutput) -> str:
    """The first line of its error output, shortened."""
    lines = clean_text(output.stderr).strip().splitlines()
    return lines[0][:200] if lines else ""
