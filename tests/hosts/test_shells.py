"""Commands on a host: the same promises here and over SSH."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.errors import HostTimeout
from nodes.hosts.local import LocalShell
from nodes.hosts.shell import MAX_STDERR, CommandTimeout, Shell
from nodes.hosts.ssh import SshConnection
from tests.sshd import LoopbackSshd


@pytest.fixture(params=["local", "ssh"])
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    if request.param == "local":
        yield LocalShell()
        return
    sshd: LoopbackSshd = request.getfixturevalue("sshd")
    with SshConnection(sshd.target()) as connection:
        yield connection.shell


def running(marker: str) -> list[int]:
    """Processes of this machine that carry ``marker`` in their arguments."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def gone(marker: str, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while running(marker):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_output_status_and_errors_come_back(shell: Shell) -> None:
    result = shell.run("printf 'a\\nb'; echo oops >&2; exit 7", timeout_s=10)
    assert (result.exit_status, result.stdout, result.stderr) == (7, b"a\nb", b"oops\n")
    assert not result.ok
    assert result.error_text == "oops"
    assert 0 < result.duration_s < 10


def test_bytes_that_are_not_utf8_survive(shell: Shell) -> None:
    assert shell.run(r"printf '\377\376\000x'", timeout_s=10).stdout == b"\xff\xfe\x00x"
    every = bytes(range(256)) * 64
    assert shell.run("cat", stdin=every, timeout_s=10).stdout == every


def test_quotes_newlines_and_dollars_reach_the_shell_unharmed(shell: Shell) -> None:
    result = shell.run("x='it'\\''s'\nprintf '%s|' \"$x\" '$HOME' \"a\nb\"", timeout_s=10)
    assert result.stdout == b"it's|$HOME|a\nb|"


def test_long_input_and_output_pass_side_by_side(shell: Shell) -> None:
    data = os.urandom(1 << 20) * 5
    result = shell.run("cat", stdin=data, timeout_s=30)
    assert result.stdout == data
    assert not result.truncated


def test_a_command_that_ignores_its_input_is_no_failure(shell: Shell) -> None:
    assert shell.run("exit 0", stdin=b"x" * (3 << 20), timeout_s=10).exit_status == 0


def test_output_is_bounded_and_the_command_ended(shell: Shell) -> None:
    result = shell.run("yes nodeadmin-bounded-output", timeout_s=20, max_bytes=100_000)
    assert result.truncated
    assert len(result.stdout) == 100_000
    assert result.exit_status is None
    assert gone("nodeadmin-bounded-output", 5)


def test_an_output_of_exactly_the_bound_is_whole(shell: Shell) -> None:
    result = shell.run("head -c 1000 /dev/zero", timeout_s=10, max_bytes=1000)
    assert not result.truncated
    assert (result.exit_status, len(result.stdout)) == (0, 1000)


def test_a_flood_of_errors_neither_blocks_nor_fills_memory(shell: Shell) -> None:
    result = shell.run("head -c 5000000 /dev/zero >&2; echo done", timeout_s=20)
    assert result.stdout == b"done\n"
    assert len(result.stderr) == MAX_STDERR


def test_the_deadline_ends_the_command_on_the_host_too(shell: Shell) -> None:
    started = time.monotonic()
    with pytest.raises(CommandTimeout) as caught:
        shell.run("echo early; exec sleep 301.7", timeout_s=0.7)
    assert time.monotonic() - started < 3
    assert caught.value.code == "timeout"
    assert caught.value.partial.stdout == b"early\n"
    assert caught.value.partial.exit_status is None
    assert gone("sleep\x00301.7", 4)


def test_the_deadline_ends_what_the_command_started(shell: Shell) -> None:
    with pytest.raises(CommandTimeout):
        shell.run("sleep 302.7 & sleep 302.8 | cat", timeout_s=0.5)
    assert gone("sleep\x00302.", 4)


def test_a_command_killed_by_a_signal_has_no_success(shell: Shell) -> None:
    assert shell.run("kill -KILL $$", timeout_s=10).exit_status in (None, 137)


def test_a_stream_gives_output_as_it_comes(shell: Shell) -> None:
    with shell.stream("echo one; sleep 0.5; echo two; echo err >&2; exit 4") as stream:
        started = time.monotonic()
        assert stream.read(timeout_s=5) == b"one\n"
        assert time.monotonic() - started < 0.45
        with pytest.raises(HostTimeout):
            stream.read(timeout_s=0.05)
        assert b"".join(stream) == b"two\n"
        assert stream.exit_status == 4
        assert stream.stderr == b"err\n"


def test_a_stream_that_nobody_reads_stops_the_host(shell: Shell, tmp_path: Path) -> None:
    counter = tmp_path / "written"
    tmp_path.chmod(0o755)
    command = (
        f"i=0; echo 0 > {counter}; while :; do head -c 10000 /dev/zero; i=$((i+1)); echo $i > {counter}; done"
    )

    def count() -> int:
        while not (text := counter.read_text()):  # seen between the truncation and the write
            time.sleep(0.01)
        return int(text)

    with shell.stream(command) as stream:
        assert stream.read(10, timeout_s=5)
        before = -1
        while before != (now := count()):
            before = now
            assert before < 1000, "more than 10 MB were buffered somewhere"
            time.sleep(0.7)
        for _ in range(600):
            stream.read(timeout_s=5)
        assert count() > before, "the host did not go on after reading"


def test_closing_a_quiet_stream_ends_the_command(shell: Shell) -> None:
    stream = shell.stream("echo ready; sleep 303.7; :")
    assert stream.read(timeout_s=5) == b"ready\n"
    stream.close()
    assert gone("sleep\x00303.7", 5)


def test_a_stream_leaves_nothing_behind_when_it_ends_by_itself(shell: Shell) -> None:
    with shell.stream("echo marker-304") as stream:
        assert list(stream) == [b"marker-304\n"]
        assert stream.exit_status == 0
    assert gone("marker-304", 5)


def test_thirty_commands_at_once_all_run(shell: Shell) -> None:
    answers: dict[int, bytes] = {}

    def one(number: int) -> None:
        answers[number] = shell.run(f"sleep 0.1; echo {number}", timeout_s=30).stdout

    threads = [threading.Thread(target=one, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert answers == {number: f"{number}\n".encode() for number in range(30)}


def test_the_servers_environment_stays_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODEADMIN_SECRET_KEY", "hunter2")
    shell = LocalShell()
    assert b"hunter2" not in shell.run("env", timeout_s=10).stdout
    with shell.stream("env") as stream:
        assert b"hunter2" not in b"".join(stream)


def _is_alive(command_line: Path) -> bool:
    try:
        return bool(command_line.read_bytes())
    except (FileNotFoundError, ProcessLookupError):  # it may end between the opening and the reading
        return False


def test_a_silent_local_stream_ends_when_our_process_is_killed() -> None:
    script = (
        "from nodes.hosts.local import LocalShell\n"
        "stream = LocalShell().stream('echo $$; exec sleep 297')\n"
        "print(stream.read().decode(), flush=True)\n"
        "stream.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            sleeper = Path(f"/proc/{int(process.stdout.readline())}/cmdline")
            deadline = time.monotonic() + 5
            while b"sleep" not in sleeper.read_bytes() and time.monotonic() < deadline:
                time.sleep(0.02)  # it has said its number, and is about to become sleep(1)
            assert b"sleep" in sleeper.read_bytes()
        finally:
            process.kill()
    deadline = time.monotonic() + 5
    while _is_alive(sleeper) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_alive(sleeper)
