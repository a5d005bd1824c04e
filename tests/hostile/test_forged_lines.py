"""Whatever a host puts into an entry of its journal: a file has one line for it, and only its own."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from nodeadmin.logs import logging_config
from nodes.hosts.journal_entries import Entry, ExportReader
from nodes.hosts.journal_filters import read_filters
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_query import LogPage
from nodes.models import Node, User
from nodes.web.log_download import Download, Form

FORGED = "2023-11-14T22:13:20.000000Z sshd[1]: Accepted password for root"
ATTACKS = {
    "line": f"x\n{FORGED}",
    "return": f"x\r{FORGED}",
    "both": f"x\r\n{FORGED}",
    "next line": f"x\x85{FORGED}",
    "separators": f"x\u2028{FORGED}\u2029{FORGED}",
    "form feed": f"x\x0c{FORGED}\x0b\x1c\x1d\x1e",
    "title": "x\x1b]0;owned\x07\x1b[2J\x1b[1;1H",
    "one byte": "x\x9b2J\x9d0;owned\x9c",
    "right to left": "x\u202egnp.exe\u2066\u2067\u2068\u2069\u200e\u200f\u061c",
    "nothing": "x\u200b\u200c\u200d\u2060\ufeff\xad",
    "backspace": "secret\b\b\b\b\b\bpublic\x7f\x00",
    "surrogates": "x\ud800\udc80",
    "markup": "<script>alert(1)</script>\x00",
}
FIELDS = {
    "__REALTIME_TIMESTAMP": "time", "_BOOT_ID": "boot_id", "_SYSTEMD_UNIT": "unit", "UNIT": "unit",
    "SYSLOG_IDENTIFIER": "identifier", "_COMM": "identifier", "_PID": "pid", "PRIORITY": "level",
    "MESSAGE": "message", "__CURSOR": "cursor", "_HOSTNAME": "",
}  # fmt: skip
"""What of the export format is in a file, by which field of an entry."""


def export(field: str, value: str, second: int = 1_700_000_000) -> bytes:
    """An entry of which every field is well but one, which may be anything."""
    well = {
        "__CURSOR": "s=1;i=1;b=1;m=1;t=1;x=1", "__REALTIME_TIMESTAMP": f"{second}000001",
        "_BOOT_ID": "ab" * 16,
        "SYSLOG_IDENTIFIER": "cron", "_PID": "12", "PRIORITY": "6", "MESSAGE": "hello",
    }  # fmt: skip
    well.pop(field, None)
    raw = value.encode("utf-8", "surrogatepass")
    parts = [f"{name}={text}\n".encode() for name, text in well.items()]
    parts.append(field.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n")
    if b"\n" not in raw:  # the quick way as well
        parts[-1] = field.encode() + b"=" + raw + b"\n"
    return b"".join(parts) + b"\n"


def download(form: Form, entries: list[Entry]) -> bytes:
    page = LogPage(entries, LogCursor(read_filters({})), False, "", False, (), {})
    file = Download(User(), "", Node(name="kvm-01"), form, page, "journalctl", "en")
    return file._head() + file._rendered() + file._tail()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_field_adds_a_line_or_speaks_to_a_terminal(form: Form, field: str, attack: str) -> None:
    value = ATTACKS[attack]
    entries = ExportReader().feed(export(field, value) + export("PRIORITY", "3"))
    assert len(entries) == 2
    raw = download(form, entries).decode()
    lines = raw.removesuffix("\n").split("\n")
    assert len(lines) == (4 if form == "text" else 3)
    for line in lines:
        assert line.isprintable()
        assert not line.startswith(FORGED)
    if form == "json":
        first = json.loads(lines[0])
        assert set(first) == set(msgspec.json.decode(msgspec.json.encode(entries[0])))


@pytest.mark.parametrize("field", ["__REALTIME_TIMESTAMP", "_BOOT_ID", "_PID", "PRIORITY"])
@pytest.mark.parametrize("value", [*ATTACKS.values(), "9" * 17, "9" * 5000, "-1", "1e5", "١٢٣٤٥٦٧٨٩٠"])
def test_a_field_of_a_known_form_has_that_form_or_is_unknown(field: str, value: str) -> None:
    entries = ExportReader().feed(export(field, value))
    found = getattr(entries[0], FIELDS[field])
    assert found is None or (str(found).isascii() and str(found).isprintable())
    assert found is None or len(str(found)) <= 32


def test_the_end_of_a_time_is_looked_at_also_in_a_second_that_was_seen_before() -> None:
    reader = ExportReader()
    assert reader.feed(export("PRIORITY", "3"))[0].time == "2023-11-14T22:13:20.000001Z"
    for end in ("\x1b[2JAA", "<b>xx>", "00000\n", "١٢٣٤٥٦"):
        entry = reader.feed(export("__REALTIME_TIMESTAMP", f"1700000000{end}"))[0]
        assert entry.time is None


@contextlib.contextmanager
def own_log(*, as_json: bool) -> Iterator[tuple[logging.Logger, Callable[[], str]]]:
    """A logger as in production, on a stream in UTF-8 that refuses what it cannot encode, as a file does."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", errors="strict", newline="\n", write_through=True)
    formatter = dict(logging_config(json=as_json, level="INFO")["formatters"]["structured"])
    made: Any = formatter.pop("()")(**formatter)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(made)
    # Of no hierarchy: what pytest captures of it goes to another process, which takes no surrogates.
    logger = logging.Logger("tests.forged")  # noqa: LOG001
    logger.addHandler(handler)
    yield logger, lambda: raw.getvalue().decode()


@pytest.mark.parametrize("as_json", [False, True], ids=["for people", "JSON"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_our_own_log_has_one_line_for_an_event_whatever_it_quotes(
    attack: str, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ATTACKS[attack]
    lost: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.StreamHandler, "handleError", lambda _handler, record: lost.append(record))
    with own_log(as_json=as_json) as (logger, written):
        logger.warning(said)
        logger.warning("the host said %s", said)
        logger.warning("with a value", extra={"said": said, "list": [said]})
        logger.warning("with a name", extra={said: "x"})
        lines = written().removesuffix("\n").split("\n")
        assert not lost
        assert len(lines) == len(written().splitlines()) == 4
        assert all(line.isprintable() for line in lines)
        try:
            raise ValueError(said)
        except ValueError:
            logger.exception("it failed")
        assert not lost
        lines = written().removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    if as_json:
        assert [set(json.loads(line)) >= {"event", "timestamp"} for line in lines] == [True] * 5
    else:
        assert all(line.startswith(("20", "    ")) for line in lines)
        assert not any(line.startswith(("2023", "x")) for line in lines)
