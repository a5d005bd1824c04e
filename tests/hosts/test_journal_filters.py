"""Filters become arguments that mean what was asked and nothing else, whatever a person writes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nodes.errors import InvalidInput
from nodes.hosts.journal import CURSOR
from nodes.hosts.journal_filters import (
    bounds,
    command,
    export_options,
    match_arguments,
    read_filters,
    search_pattern,
    selection,
    unit_name,
    vm_pattern,
)
from nodes.hosts.journal_terms import ALIASES
from nodes.hosts.log_command import shown_command
from nodes.hosts.log_cursor import LogCursor

HOSTILE = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            "--", "-D/tmp", "--file=/etc/shadow", "--output=cat", "; reboot", "$(reboot)", "`reboot`",
            "a\nb", "'", '"',
            "' ; touch /tmp/x ; '", "\\", "\\Q\\E", "+", "_PID=1", "a=b", "*", "é",
            "‮", "\x00", "\x1b[2J", "\ud800",
        ]
    ),
)  # fmt: skip
SERVICES = HOSTILE | st.sampled_from([*ALIASES, "vm-log", "identifier:x", "cron"])
MOMENTS = st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone follows
ALLOWED = re.compile(
    r"--(quiet|no-pager|output=export|output-fields=[A-Z_,]+|case-sensitive=(yes|no)"
    r"|boot=(0|-\d+|[0-9a-f]{32})|priority=[0-7]\.\.[0-7]|grep=.*|since=(@\d+\.\d{6}|-\d+s)|until=@\d+\.\d{6})"
    r"|\+|(_SYSTEMD_UNIT|UNIT|OBJECT_SYSTEMD_UNIT|COREDUMP_UNIT|COREDUMP_COMM|MESSAGE_ID|_UID|_PID"
    r"|SYSLOG_IDENTIFIER|_SYSTEMD_SLICE|_COMM|_TRANSPORT)=.*",
    re.DOTALL,
)


def arguments_of(values: dict[str, object]) -> list[str]:
    filters = read_filters(values)
    return [
        *export_options(),
        *selection(filters, with_grep=True),
        *bounds(filters, cursor="", since=filters.since),
    ]


@settings(max_examples=400, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "services": st.lists(SERVICES, max_size=4),
            "since": HOSTILE | st.datetimes(timezones=st.just(UTC)),
            "until": HOSTILE | st.datetimes(timezones=st.just(UTC)),
            "last": HOSTILE | st.sampled_from(["2h", "3d"]),
            "level": HOSTILE | st.sampled_from(["err", "3", "warning..err"]) | st.integers(),
            "keyword": HOSTILE,
            "regex": st.booleans(),
            "boot": HOSTILE | st.sampled_from(["0", "-1"]),
            "vm": HOSTILE,
        },
    )
)
@example({"services": ["identifier:--file=/etc/shadow"], "keyword": "--", "vm": "-x", "boot": "-1"})
@example({"keyword": "a'\n; reboot #", "vm": "$(reboot)"})
def test_every_argument_is_of_a_known_form_and_reaches_the_program_whole(values):
    try:
        arguments = arguments_of(values)
    except InvalidInput as error:
        assert error.field in values
        return
    assert all(ALLOWED.fullmatch(argument) for argument in arguments), arguments
    run = shlex.split(command(arguments))
    assert run[:2] == ["journalctl", "--no-pager"]
    wanted = [word for word in arguments if word != "--no-pager"]
    assert [with_spaces(word) for word in run[2:]] == [with_spaces(word) for word in wanted]
    filters = read_filters(values)
    assert shlex.split(shown_command(filters))[0] == ("journalctl" if filters.reads_journal else "tail")


def with_spaces(word: str) -> str:
    """The word with each way to write a space in an expression as a space; escaped backslashes stay."""
    return re.sub(r"(\\\\)|\\x20|\\ ", lambda found: found[1] or " ", word)


@settings(max_examples=60, deadline=None)
@given(HOSTILE, HOSTILE)
def test_a_real_shell_hands_over_exactly_these_arguments(keyword, vm):
    try:
        arguments = arguments_of({"keyword": keyword, "vm": vm})
    except InvalidInput:
        return
    try:
        line = command(arguments).encode()
    except UnicodeEncodeError:
        return
    script = b"journalctl() { printf '%s\\0' \"$@\"; }; " + line
    printed = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True).stdout
    assert printed.decode().split("\0")[:-1] == shlex.split(line.decode())[1:]


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text))
def test_a_literal_keyword_finds_itself_and_nothing_that_is_only_like_it(keyword):
    pattern = re.compile(search_pattern(read_filters({"keyword": keyword})))
    assert pattern.search(f"before {keyword} after")
    assert not pattern.search("\uffff\ufffe")


@pytest.mark.parametrize(
    "name", ["cron", "a@b.service", r"dev-disk-by\x2dlabel.device", "-.mount", "foo.bar"]
)
def test_names_of_units_are_taken(name):
    assert unit_name(name).startswith(name)


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "ä", "x" * 256, "a;b", ".service", "@x", "a\n", "$x", "*"]
)
def test_what_is_no_name_of_a_unit_is_refused(name):
    with pytest.raises(InvalidInput):
        unit_name(name)


@pytest.mark.parametrize(
    ("level", "range_"),
    [("error", "0..3"), ("warning", "0..4"), ("info", "0..6"), ("debug", "0..7"), ("3", "0..3"), (5, "0..5"),
     ("warning..err", "3..4"), ("3..5", "3..5"), ("7..7", "7..7")],
)  # fmt: skip
def test_levels_are_that_and_worse_or_a_range(level, range_):
    assert f"--priority={range_}" in arguments_of({"level": level})


def test_libvirtd_means_the_modular_daemons_too():
    terms = match_arguments(read_filters({"services": ["libvirtd"]}))
    assert "_SYSTEMD_UNIT=virtqemud.service" in terms
    assert "UNIT=libvirtd.service" in terms


@pytest.mark.parametrize(
    "line",
    ["Domain id=1 name='web-1' is", "New machine qemu-3-web-1.",
     r"machine-qemu\x2d3\x2dweb\x2d1.scope: Deactivated",
     "vm=web-1", "web-1"],
)  # fmt: skip
def test_a_vm_is_found_by_the_forms_its_name_takes(line):
    assert re.search(vm_pattern("web-1"), line)


@pytest.mark.parametrize(
    ("vm", "line"),
    [
        ("my_vm", "Started machine-qemu\\x2d3\\x2dmyvm.scope - Virtual Machine qemu-3-myvm."),
        ("my_vm", "Machine qemu-12-myvm terminated."),
        ("web server", "New machine qemu-1-webserver."),
        ("über--web.", "New machine qemu-1-ber-web."),
        ("x_" + "y" * 80, f"New machine qemu-1-x{'y' * 55}."),
    ],
)
def test_a_vm_is_found_by_what_libvirt_makes_of_its_name(vm, line):
    assert re.search(vm_pattern(vm), line, re.IGNORECASE | re.ASCII)


@pytest.mark.parametrize("line", ["myvm is another VM", "qemu-3-myvm2 started", "amyvm"])
def test_what_libvirt_makes_of_a_name_counts_only_behind_its_number(line):
    assert not re.search(vm_pattern("my_vm"), line, re.IGNORECASE | re.ASCII)


def test_a_boot_is_taken_as_the_kernel_writes_its_id():
    assert (
        read_filters({"boot": "0123ABCD-4567-89ab-cdef-0123456789ab"}).boot
        == "0123abcd456789abcdef0123456789ab"
    )
    with pytest.raises(InvalidInput):
        read_filters({"boot": "0123abcd-4567"})


def test_what_is_neither_true_nor_false_is_refused():
    with pytest.raises(InvalidInput) as refused:
        read_filters({"keyword": "x", "regex": "true"})
    assert refused.value.field == "regex"


@pytest.mark.parametrize("line", ["web-10 started", "my-web-1", "web-1x", "web1", "web-1.example.org"])
def test_a_vm_whose_name_is_only_a_part_of_another_is_not_found(line):
    assert not re.search(vm_pattern("web-1"), line)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "keyword": st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text),
            "level": st.sampled_from(["err", "3..5"]),
            "services": st.just(["qemu", "cron"]),
            "since": MOMENTS,
        },
    ),
    st.booleans(),
)
def test_a_cursor_carries_the_query_and_the_place(values, newest):
    start = LogCursor(read_filters(values), newest, "s=ab;i=1;b=2;m=3;t=4;x=5", {"web.log": (12, 34)})
    assert LogCursor.decode(start.encode()) == start


@given(st.text(max_size=50) | st.binary(max_size=40).map(lambda raw: raw.hex()))
def test_only_what_journald_writes_is_handed_on_as_a_cursor(text):
    assert not CURSOR.fullmatch(text)


def test_json_of_filters_is_read_again_as_the_same():
    filters = read_filters({"services": ["ssh"], "last": "2h", "regex": True, "keyword": "a|b", "vm": "x y"})
    assert read_filters(json.loads(json.dumps(filters.to_json()))) == filters
