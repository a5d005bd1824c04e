"""The raw document: what every source on a host printed, with its exit status, time and what failed.

A document holds text as it came: bytes that are not UTF-8 stay as lone surrogates (PEP 383), and JSON
written with ASCII escapes carries them back and forth unharmed. It is what gets stored beside a
snapshot, parsed again by later versions, and sent in with a bug report.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from nodes.errors import shown
from nodes.inventory.parsing.effort import stepped

FORMAT_VERSION = 1
"""Version of the stored form; readers accept this and older ones."""
_PIECE = 256 << 10
"""Characters of an output that are written at a time."""


class SourceStatus(StrEnum):
    """How a source ended. Everything but OK becomes a problem of the sections that read it."""

    OK = "ok"
    FAILED = "failed"
    """It ran and exited with a status that its source does not accept."""
    MISSING = "missing"
    """The tool or the files are not on the host."""
    DENIED = "denied"
    """The user may not run or read it, neither directly nor through ``sudo -n``."""
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    """Longer than the bound: the beginning is there, the end is cut."""
    UNREADABLE = "unreadable"
    """It ended well, but what it printed is no output of its kind (see forms.py)."""
    NOT_RUN = "not_run"
    """The document was cut off before this source, or it does not apply to the host."""


@dataclass(frozen=True, slots=True)
class SourceOutput:
    """One source's output. ``stdout`` and ``stderr`` are surrogate-escaped text, ``duration_s`` seconds."""

    name: str
    status: SourceStatus
    stdout: str = ""
    stderr: str = ""
    exit_status: int | None = None
    duration_s: float | None = None
    cached: bool = False
    """True where the text was kept from an earlier answer because the host was too slow to give a new one."""

    @property
    def usable(self) -> bool:
        """Whether there is text worth parsing (a truncated output's beginning is)."""
        return bool(self.stdout) and self.status in (
            SourceStatus.OK,
            SourceStatus.TRUNCATED,
            SourceStatus.FAILED,
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be read: part of every describe answer. ``message`` may quote the host."""

    section: str
    source: str
    code: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", shown(self.message))


@dataclass(frozen=True, slots=True)
class HostDocument:
    """All outputs of one probe.

    ``observed_at`` is RFC 3339 in UTC by our clock, at the start of the probe. ``transport`` says how it was
    taken (``local``, ``ssh``, ``test`` or ``file``). Sources of many items (one smartctl a disk) are named
    ``source:item``.
    """

    observed_at: str
    sources: Mapping[str, SourceOutput] = field(default_factory=dict)
    transport: str = ""
    user: str = ""

    def get(self, name: str) -> SourceOutput:
        """The output of ``name``; one of status NOT_RUN where the document has none."""
        found = self.sources.get(name)
        return found if found is not None else SourceOutput(name, SourceStatus.NOT_RUN)

    def text(self, name: str) -> str:
        """Standard output of ``name`` where usable, else an empty string."""
        output = self.get(name)
        return output.stdout if output.usable else ""

    def items(self, name: str) -> Iterator[tuple[str, SourceOutput]]:
        """Outputs of the many-item source ``name`` as pairs of item and output, in the order recorded."""
        prefix = f"{name}:"
        for key, output in stepped(self.sources.items()):
            if key.startswith(prefix):
                yield key.removeprefix(prefix), output

    def with_sources(self, outputs: Mapping[str, SourceOutput]) -> HostDocument:
        """A copy with further outputs (those of libvirt beside those of the shell)."""
        merged = {**self.sources, **outputs}
        return HostDocument(self.observed_at, merged, self.transport, self.user)

    def to_json(self) -> str:
        """ASCII JSON of the whole document, one source a line, so that two documents can be diffed."""
        return "".join(self._json_pieces())

    def to_bytes(self) -> bytes:
        """The stored form: zlib over the JSON. Made in pieces: the JSON of bytes that are no text takes six
        times their size."""
        deflating = zlib.compressobj(6)
        parts = [deflating.compress(piece.encode("ascii")) for piece in self._json_pieces()]
        return b"".join([*parts, deflating.flush()])

    def _json_pieces(self) -> Iterator[str]:
        head = {"format": FORMAT_VERSION, "observed_at": self.observed_at}
        head |= {"transport": self.transport, "user": self.user}
        yield f'{json.dumps(head)[:-1]}, "sources": {{\n'
        between = ""
        for name, output in self.sources.items():
            yield f"{between}{json.dumps(name)}: "
            yield from _source_pieces(output)
            between = ",\n"
        yield "\n}}\n"

    @classmethod
    def from_json(cls, text: str) -> HostDocument:
        """Read what :meth:`to_json` wrote.

        Raises ValueError where it is not such a document.
        """
        try:
            data = json.loads(text)
            if data["format"] > FORMAT_VERSION:
                raise ValueError(f"document format {data['format']} is newer than {FORMAT_VERSION}")
            sources = {name: _read_source(name, raw) for name, raw in data["sources"].items()}
            return cls(
                str(data["observed_at"]), sources, str(data.get("transport", "")), str(data.get("user", ""))
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a host document: {error!r}") from error

    @classmethod
    def from_bytes(cls, blob: bytes) -> HostDocument:
        """Read the stored form. Raises ValueError where it is damaged."""
        try:
            return cls.from_json(zlib.decompress(blob).decode("ascii"))
        except zlib.error as error:
            raise ValueError(f"damaged document: {error}") from error


def _source_pieces(output: SourceOutput) -> Iterator[str]:
    data: dict[str, Any] = {"status": output.status.value, "exit_status": output.exit_status}
    data |= {"duration_s": output.duration_s, "stdout": ""}
    yield json.dumps(data)[:-2]
    for start in range(0, len(output.stdout), _PIECE):
        yield json.dumps(output.stdout[start : start + _PIECE])[1:-1]
    if output.stderr:
        yield f'", "stderr": {json.dumps(output.stderr)[:-1]}'
    yield '", "cached": true}' if output.cached else '"}'


def _read_source(name: str, raw: Mapping[str, Any]) -> SourceOutput:
    return SourceOutput(
        name=name,
        status=SourceStatus(raw["status"]),
        stdout=str(raw.get("stdout", "")),
        stderr=str(raw.get("stderr", "")),
        exit_status=raw.get("exit_status"),
        duration_s=raw.get("duration_s"),
        cached=bool(raw.get("cached", False)),
    )
