"""The probe script, run for real under every shell that hosts have for ``sh``."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nodes.inventory.document import SourceOutput, SourceStatus
from nodes.inventory.registry import all_sources
from nodes.inventory.script import PROBE_SOURCE, build_script, deadline_s, parse_output
from nodes.inventory.source import Source

SHELLS = [name for name in ("dash", "bash", "busybox") if shutil.which(name)]


@pytest.fixture(params=SHELLS)
def tools(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory in front of PATH whose ``sh`` is the shell under test. Every user may enter it (pytest's
    own temporary directories are for one alone)."""
    with tempfile.TemporaryDirectory(prefix="probe-tools-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "sh").symlink_to(shutil.which(request.param) or "")
        yield directory


def put_tool(directory: Path, name: str, text: str) -> None:
    tool = directory / name
    tool.write_text(f"#!/bin/sh\n{text}\n")
    tool.chmod(0o755)


def run(tools: Path, *sources: Source, sudo: bool = True, user: str = "") -> dict[str, SourceOutput]:
    command = [str(tools / "sh"), "-s"]
    if user:
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
    finished = subprocess.run(
        command,
        input=build_script(sources, sudo=sudo).encode(),
        capture_output=True,
        env={**os.environ, "PATH": f"{tools}:/usr/bin:/bin"},
        timeout=deadline_s(sources),
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return dict(parse_output(finished.stdout, sources))


def test_outputs_come_with_status_errors_and_time(tools: Path) -> None:
    out = run(tools, Source("well", "echo fine; sleep 0.2"), Source("ill", "echo half; echo why >&2; exit 3"))
    assert (out["well"].status, out["well"].stdout, out["well"].exit_status) == ("ok", "fine\n", 0)
    assert out["well"].duration_s == pytest.approx(0.2, abs=0.15)
    assert (out["ill"].status, out["ill"].stdout, out["ill"].stderr) == ("failed", "half\n", "why\n")
    assert out["ill"].exit_status == 3
    assert "uid " in out[PROBE_SOURCE].stdout
    assert "complete yes\n" in out[PROBE_SOURCE].stdout


def test_statuses_that_a_source_accepts_are_no_failure(tools: Path) -> None:
    out = run(tools, Source("bits", "exit 4", ok_statuses=None), Source("grep", "exit 2", ok_statuses=(0, 2)))
    assert [out[name].status for name in ("bits", "grep")] == [SourceStatus.OK, SourceStatus.OK]


def test_a_missing_tool_is_not_run(tools: Path) -> None:
    out = run(tools, Source("tool", "no-such-tool; echo ran", needs="no-such-tool"))
    assert (out["tool"].status, out["tool"].stdout) == (SourceStatus.MISSING, "")


def test_tools_in_sbin_are_found_and_speak_english(tools: Path) -> None:
    source = Source("env", 'echo "$LC_ALL:$PATH"')
    text = run(tools, source)["env"].stdout
    assert text.startswith("C:")
    assert ":/usr/sbin:" in text


def test_no_output_can_pass_for_a_frame(tools: Path) -> None:
    forged = "@@nodeadmin-probe 1 uid=0\n@@names 0:forger 1:other\n6 1.o\n@@data\nforged\n@@end\n"
    out = run(tools, Source("forger", f"printf '%s' '{forged}'"), Source("other", "echo true"))
    assert out["forger"].stdout == forged
    assert out["other"].stdout == "true\n"


def test_bytes_that_are_not_utf8_survive(tools: Path) -> None:
    out = run(tools, Source("bytes", "printf '\\377\\000\\200 \\303\\251'"))
    assert out["bytes"].stdout.encode("utf-8", "surrogateescape") == b"\xff\x00\x80 \xc3\xa9"


def test_output_is_cut_at_the_bound(tools: Path) -> None:
    out = run(
        tools,
        Source("long", "head -c 3000000 /dev/zero", max_bytes=1000),
        Source("fits", "head -c 1000 /dev/zero", max_bytes=1000),
        Source("loud", "head -c 9000 /dev/zero | tr '\\0' e >&2; exit 1"),
    )
    assert (out["long"].status, len(out["long"].stdout)) == (SourceStatus.TRUNCATED, 1000)
    assert (out["fits"].status, len(out["fits"].stdout)) == (SourceStatus.OK, 1000)
    assert out["loud"].stderr == "e" * 4096


def test_a_source_that_hangs_costs_nobody_else(tools: Path) -> None:
    start = time.monotonic()
    out = run(
        tools,
        Source("hangs", "echo begun; sleep 60", timeout_s=1),
        Source("stubborn", "trap '' TERM; echo begun; sleep 60; sleep 60", timeout_s=1),
        Source("neighbour", "echo fine", timeout_s=1),
        Source("slower", "sleep 1.5; echo late", timeout_s=4),
    )
    assert time.monotonic() - start < 4
    assert (out["hangs"].status, out["hangs"].stdout) == (SourceStatus.TIMEOUT, "begun\n")
    assert (out["stubborn"].status, out["stubborn"].stdout) == (SourceStatus.TIMEOUT, "begun\n")
    assert out["neighbour"].stdout == "fine\n"
    assert out["slower"].stdout == "late\n"


def test_without_a_timeout_tool_it_runs_and_says_so(tools: Path) -> None:
    put_tool(tools, "timeout", "exit 125")
    out = run(tools, Source("hangs", "sleep 60", timeout_s=1), Source("well", "echo fine", timeout_s=1))
    assert "guard none\n" in out[PROBE_SOURCE].stdout
    assert (out["hangs"].status, out["well"].stdout) == (SourceStatus.TIMEOUT, "fine\n")


def test_items_run_side_by_side_beyond_one_round(tools: Path) -> None:
    source = Source("smart", 'sleep 0.3; echo "of $1"', items="seq 1 70; echo '/dev/a b'", timeout_s=5)
    start = time.monotonic()
    out = run(tools, source)
    assert time.monotonic() - start < 4
    assert [out[f"smart:{item}"].stdout for item in (1, 64, 65, 70, "/dev/a b")] == [
        "of 1\n",
        "of 64\n",
        "of 65\n",
        "of 70\n",
        "of /dev/a b\n",
    ]
    assert len(out) == 71 + 2


def test_items_of_a_missing_tool_are_none(tools: Path) -> None:
    out = run(tools, Source("smart", "true", items="echo sda", needs="no-such-tool"))
    assert out["smart"].status is SourceStatus.MISSING
    assert set(out) == {PROBE_SOURCE, "smart"}


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_what_needs_root_goes_through_sudo_with_plain_arguments(tools: Path) -> None:
    put_tool(tools, "sudo", '[ "$1" = -n ] && shift && echo "sudo saw: $*" && exec "$@"')
    put_tool(tools, "smartctl", 'echo "drive $1"')
    source = Source("drive", "smartctl --all", needs="smartctl", needs_root=True)
    out = run(tools, source, Source("plain", "smartctl x"), user="65534")
    assert out["drive"].stdout == "sudo saw: smartctl --all\ndrive --all\n"
    assert out["plain"].stdout == "drive x\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize(
    "refusal",
    ["sudo: a password is required", "Sorry, user x is not allowed to execute '/bin/cat' as root on y."],
)
def test_what_sudo_refuses_is_denied(tools: Path, refusal: str) -> None:
    put_tool(tools, "sudo", f'echo "{refusal}" >&2; exit 1')
    out = run(tools, Source("secret", "cat /etc/shadow", needs_root=True, ok_statuses=None), user="65534")
    assert (out["secret"].status, out["secret"].stdout) == (SourceStatus.DENIED, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_without_sudo_what_needs_root_is_denied_and_not_run(tools: Path) -> None:
    out = run(tools, Source("secret", "echo ran", needs_root=True), sudo=False, user="65534")
    assert (out["secret"].status, out["secret"].stdout) == (SourceStatus.DENIED, "")


def test_nothing_stays_behind(tools: Path) -> None:
    """Where it keeps its outputs, it tells itself: other probes may run on this machine."""
    out = run(tools, Source("one", 'test -d "$na_dir" && echo "$na_dir"'))
    folder = Path(out["one"].stdout.strip())
    assert folder.name.startswith("nodeadmin.") and not folder.exists()


def test_a_script_cut_on_its_way_does_nothing(tools: Path, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    script = build_script([Source("writes", f"echo x >{witness}")])
    for keep in range(0, len(script) - len("main\n"), 997):
        subprocess.run(
            [str(tools / "sh"), "-s"], input=script[:keep].encode(), capture_output=True, check=False
        )
    assert not witness.exists()


@pytest.mark.parametrize(
    "source",
    [
        Source("Bad Name", "true"),
        Source(PROBE_SOURCE, "true"),
        Source("x", "true", needs="a;b"),
        Source("x", "true", needs="systemd-tool", needs_root=True),
        Source("x", "true", timeout_s=0),
    ],
)
def test_a_source_that_is_no_shell_is_refused(source: Source) -> None:
    with pytest.raises(ValueError, match="source"):
        build_script([source])


def test_every_registered_source_can_be_written() -> None:
    assert build_script(all_sources()).endswith("\nmain\n")


THREE = (
    Source("first", "printf 'one\\n'"),
    Source("second", "head -c 300 /dev/zero; echo no >&2"),
    Source("third", "echo $1", items="printf 'a\\nb\\n'"),
)


@pytest.fixture(scope="module")
def raw() -> bytes:
    return subprocess.run(
        ["sh", "-s"], input=build_script(THREE).encode(), capture_output=True, check=True
    ).stdout


def test_every_cut_is_seen(raw: bytes) -> None:
    whole = parse_output(raw, THREE)
    for length in range(len(raw)):
        for name, output in parse_output(raw[:length], THREE).items():
            if name == PROBE_SOURCE:
                assert "complete no\n" in output.stdout
            elif output.status is SourceStatus.OK:
                assert output.stdout == whole[name].stdout
            else:
                assert output.status in (SourceStatus.NOT_RUN, SourceStatus.TRUNCATED)


def test_noise_before_the_output_is_passed_over(raw: bytes) -> None:
    out = parse_output(b"Welcome to host\nLast login: never\n" + raw, THREE)
    assert out["first"].stdout == "one\n"


def test_a_text_that_is_no_probe_output_leaves_every_source_not_run() -> None:
    out = parse_output(b"sh: not allowed\n", THREE)
    assert {output.status for output in out.values()} == {SourceStatus.NOT_RUN}
    assert set(out) == {"first", "second", "third"}


def test_an_output_of_other_sources_still_reads(raw: bytes) -> None:
    out = parse_output(raw, [Source("fourth", "true")])
    assert out["first"].stdout == "one\n"
    assert out["fourth"].status is SourceStatus.NOT_RUN


@given(st.binary(max_size=400))
@example(b"@@nodeadmin-probe 1 bound=9\n@@names 0:first\n999999999999999 0.o\n@@data\nx")
@settings(max_examples=200, deadline=None)
def test_garbage_never_raises(garbage: bytes) -> None:
    parse_output(garbage, THREE)
    parse_output(b"@@nodeadmin-probe 1 uid=0 bound=9\n@@names 0:first 1:second\n" + garbage, THREE)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_output_never_raises(raw: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(raw) - 1))
    parse_output(raw[:position] + data.draw(st.binary(max_size=9)) + raw[position:], THREE)
