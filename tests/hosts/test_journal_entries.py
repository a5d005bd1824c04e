"""The export format is read whatever stands in it and wherever it is cut, and never kept beyond a bound."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.hosts.journal_entries import MAX_VALUE, ExportReader, rfc3339
from tests.journals import entry, export

MESSAGES = st.one_of(
    st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=80),
    st.binary(max_size=80),
    st.sampled_from([b"\n\n", b"a\n\nMESSAGE=b\n\n", "x" * 300, b"\0\n=\n\n", "=", "\t"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(MESSAGES, min_size=1, max_size=12), st.integers(1, 200))
def test_entries_come_whole_wherever_the_stream_is_cut(messages, size):
    stream = b"".join(export(entry(number, message)) for number, message in enumerate(messages))
    reader = ExportReader()
    found = [one for at in range(0, len(stream), size) for one in reader.feed(stream[at : at + size])]
    assert [row.pid for row in found] == [100 + number % 50 for number in range(len(messages))]
    for row, message in zip(found, messages, strict=True):
        raw = message if isinstance(message, bytes) else message.encode()
        assert row.unit == "cron.service"
        if not row.binary:
            assert row.message is not None
            assert row.message.encode() == raw
        else:
            with pytest.raises(UnicodeDecodeError):
                raw.replace(b"\0", b"\xff").decode()


def test_a_huge_message_is_cut_and_what_follows_is_not_lost():
    big = b"x" * (40 * MAX_VALUE)
    for message in (big, big + b"\xff"):
        stream = export(entry(1, message)) + export(entry(2, "after"))
        reader = ExportReader()
        found = []
        for at in range(0, len(stream), 65536):
            found += reader.feed(stream[at : at + 65536])
            assert len(reader._rest) + len(reader._value) <= 2 * MAX_VALUE
        assert [row.cut for row in found] == [True, False]
        assert len(found[0].message or "") == MAX_VALUE
        assert found[1].message == "after"


def test_a_huge_line_of_text_is_bounded_too():
    stream = b"__CURSOR=a\nMESSAGE=" + b"y" * (20 * MAX_VALUE) + b"\n\n" + export(entry(2, "after"))
    reader = ExportReader()
    found = [row for at in range(0, len(stream), 4096) for row in reader.feed(stream[at : at + 4096])]
    assert [(row.cut, (row.message or "")[:5]) for row in found] == [(True, "yyyyy"), (False, "after")]


def test_missing_fields_are_none_and_a_senders_nonsense_is_no_number():
    block = b"__REALTIME_TIMESTAMP=x\nPRIORITY=loud\n_PID=12a\nMESSAGE=m\n\n"
    (row,) = ExportReader().feed(block)
    assert (row.time, row.level, row.pid, row.unit, row.boot_id, row.message) == (
        None,
        None,
        None,
        None,
        None,
        "m",
    )


def test_of_a_field_that_stands_there_twice_the_first_counts_in_text_as_in_bytes():
    twice = export({"MESSAGE": "first"})[:-1] + export({"MESSAGE": "second"})
    twice_binary = export({"MESSAGE": b"first"})[:-1] + export({"MESSAGE": "second"})
    assert [row.message for row in ExportReader().feed(twice + twice_binary + twice)] == ["first"] * 3


def test_a_number_that_no_process_has_is_none_and_can_be_sent():
    (row,) = ExportReader().feed(export({"MESSAGE": "x", "_PID": "9" * 30}))
    assert row.pid is None
    assert msgspec.json.encode(row)


def test_all_fields_of_an_entry_with_binary_marked():
    stream = export(entry(1, "m", BLOB=b"\xff\x00", TWICE="a"))
    (fields,) = ExportReader().feed_fields(stream)
    values = {field.name: field for field in fields}
    assert values["BLOB"].binary
    assert values["BLOB"].value == "\\xff\\x00"
    assert values["BLOB"].size_bytes == 2
    assert not values["TWICE"].binary


def test_microseconds_become_rfc_3339():
    assert rfc3339("1700000000003000") == "2023-11-14T22:13:20.003000Z"
    assert rfc3339("x" * 16) is None
    assert rfc3339("1") is None
