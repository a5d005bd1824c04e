"""Whatever login shell a user has, and whatever it prints: a command's output is what the command printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from nodes.errors import HostTimeout, LoginShellUnusable
from nodes.hosts.command_frame import (
    KEPT_OUTSIDE,
    MAX_OUTSIDE,
    CommandFrame,
    FrameReader,
    bounded,
    quoted,
    relayed,
    unbounded,
    watched,
)
from nodes.hosts.connection import connect
from nodes.hosts.rights import preflight
from nodes.hosts.shell import CommandTimeout
from nodes.hosts.ssh import SshConnection
from nodes.hosts.wire import WINDOW_BYTES
from tests.hosts.conftest import SHORT
from tests.sshd import IS_ROOT, LoopbackSshd, TemporaryUser

SOAK = os.environ.get("NODEADMIN_SOAK") == "1"
needs_root = pytest.mark.skipif(not IS_ROOT, reason="makes users of this machine")

NOISE = {
    "none": "",
    "a line": "echo '*** Welcome'",
    "no newline at its end": "printf '*** Welcome'",
    "64 KiB": "head -c 65536 /dev/zero | tr '\\000' '#'",
    "on stderr": "echo '*** warning' >&2",
    "64 KiB on stderr": "head -c 65536 /dev/zero | tr '\\000' '#' >&2",
    "what looks like an end": "printf '\\003\\002'",
}
SHELLS = {
    "bash": ".bashrc",
    "dash": ".ssh/rc",
    "zsh": ".zshenv",
    "fish": ".config/fish/config.fish",
    "tcsh": ".tcshrc",
    "ksh": ".ssh/rc",
    "ash": ".ssh/rc",
}
"""And the file in which each of them, or sshd before it, runs what its user wrote (sshd(8), SSHRC)."""


@dataclass
class Account:
    """A user of this machine with whatever login shell, over one sshd."""

    user: TemporaryUser
    sshd: LoopbackSshd

    def use(self, shell: str) -> None:
        path = shutil.which(shell, path="/usr/bin:/usr/sbin") or str(self._ash())
        subprocess.run(["usermod", "-s", path, self.user.name], check=True, capture_output=True)

    def start_up(self, name: str, script: str) -> None:
        """Have the start-up file ``name`` run ``script`` with sh, which each shell can call."""
        path = self.user.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.user.home / "noise").write_text(script + "\n")
        path.write_text("/bin/sh ~/noise\n" if script else "")

    def forget(self) -> None:
        for name in SHELLS.values():
            (self.user.home / name).unlink(missing_ok=True)

    @contextmanager
    def entered(self) -> Iterator[SshConnection]:
        with SshConnection(self.sshd.target(user=self.user.name), SHORT) as connection:
            yield connection

    def _ash(self) -> Path:
        path = self.user.home / "ash"
        if not path.exists():
            path.symlink_to(shutil.which("busybox") or "busybox")
        return path


class Collected:
    """A sink that keeps what comes."""

    def __init__(self) -> None:
        self.data_seen = b""
        self.has_ended = threading.Event()

    def data(self, chunk: bytes) -> None:
        self.data_seen += chunk

    def ended(self) -> None:
        self.has_ended.set()


@pytest.fixture(scope="module")
def lodger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    # bash reads ~/.bashrc in the outermost shell of a session of sshd.
    options = {"SetEnv": "NOTHING=1"}
    with (
        TemporaryUser("na-test-shells") as user,
        LoopbackSshd(tmp_path_factory.mktemp("s"), key_types=("ed25519",), options=options) as sshd,
    ):
        account = Account(user, sshd)
        account.use("bash")
        yield account


@pytest.fixture
def account(lodger: Account) -> Iterator[Account]:
    yield lodger
    lodger.use("bash")
    lodger.forget()


def packaged(shell: str) -> None:
    if shutil.which("busybox" if shell == "ash" else shell) is None:
        pytest.skip(f"{shell} is not installed")


@needs_root
@pytest.mark.parametrize("shell", SHELLS)
def test_a_commands_output_is_its_own_under_every_login_shell_and_noise(account: Account, shell: str) -> None:
    packaged(shell)
    account.use(shell)
    command = "printf 'it'\\''s\\\\\\n!$HOME\\377\\003'; cat; echo \"own\tword é!\" >&2; exit 7"
    with account.entered() as connection:
        for name, noise in NOISE.items():
            account.start_up(SHELLS[shell], noise)
            result = connection.shell.run(command, stdin=b"in\n\x02\x03", timeout_s=10)
            assert result.stdout == b"it's\\\n!$HOME\xff\x03in\n\x02\x03", name
            assert (result.exit_status, result.stderr) == (7, "own\tword é!\n".encode()), name
            if noise:
                assert result.outside, name
            with connection.shell.stream("printf one; echo two >&2; exit 3") as stream:
                assert b"".join(stream) == b"one", name
                assert (stream.exit_status, stream.stderr) == (3, b"two\n"), name
            sink = Sink()
            feed = connection.open_feed("printf beat", sink)
            assert sink.over.wait(10), name
            assert (sink.taken, feed.refusal) == (b"beat", ""), name
            feed.close()


@needs_root
@pytest.mark.parametrize(
    ("shell", "says"),
    [
        ("rbash", "restricted"),
        ("nologin", "This account is currently not available."),
        ("false", "exit status 1"),
        ("true", "exit status 0"),
    ],
)
def test_a_login_shell_that_runs_no_command_is_refused_with_its_own_words(
    account: Account, shell: str, says: str
) -> None:
    account.use(shell)
    with connect(account.sshd.target(user=account.user.name), SHORT) as connection:
        for work in (
            lambda: preflight(connection),
            lambda: connection.shell.run("true", timeout_s=5),
            lambda: connection.shell.stream("true").read(timeout_s=5),
        ):
            with pytest.raises(LoginShellUnusable) as caught:
                work()
            assert says in caught.value.message
            assert (caught.value.code, caught.value.layer) == ("login_shell_unusable", "rights")
            assert f"usermod -s /bin/bash {account.user.name}" in caught.value.remedy
        sink = Sink()
        feed = connection.follow("echo beat", sink)
        assert sink.over.wait(5)
        deadline = time.monotonic() + 5
        while says not in feed.refusal:  # the status comes after the end
            assert time.monotonic() < deadline, feed.refusal
            time.sleep(0.01)
        assert sink.taken == b""
        feed.close()


class Sink:
    """Takes what a followed command prints."""

    def __init__(self) -> None:
        self.taken = b""
        self.over = threading.Event()

    def data(self, chunk: bytes) -> None:
        self.taken += chunk

    def ended(self) -> None:
        self.over.set()


@needs_root
def test_an_expired_password_and_a_forced_command_are_refused_in_the_same_way(
    account: Account, tmp_path: Path
) -> None:
    subprocess.run(["chage", "-d", "0", account.user.name], check=True)
    try:
        with (
            LoopbackSshd(tmp_path / "p", key_types=("ed25519",), options={"UsePAM": "yes"}) as sshd,
            SshConnection(sshd.target(user=account.user.name), SHORT) as connection,
            pytest.raises(LoginShellUnusable, match=r"[Pp]assword"),
        ):
            connection.shell.run("true", timeout_s=5)
    finally:
        subprocess.run(["chage", "-d", "2020-01-01", "-M", "-1", account.user.name], check=True)
    forced = {"ForceCommand": "echo 'Backups only.'"}
    with (
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options=forced) as sshd,
        SshConnection(sshd.target(user=account.user.name), SHORT) as connection,
        pytest.raises(LoginShellUnusable, match=r"“Backups only\.”") as caught,
    ):
        connection.shell.run("true", timeout_s=5)
    assert "ForceCommand" in caught.value.remedy


@needs_root
@pytest.mark.parametrize("shell", ["bash", *(("zsh", "fish", "tcsh") if SOAK else ())])
def test_a_start_up_file_that_waits_for_input_is_told_at_the_deadline_and_gets_none(
    account: Account, shell: str
) -> None:
    packaged(shell)
    account.use(shell)
    account.start_up(SHELLS[shell], "echo 'Which environment?'; read -r answer; echo \"Not $answer.\"")
    ran = account.user.home / "ran"
    command = f"cat >{ran}"
    with connect(account.sshd.target(user=account.user.name), SHORT) as connection:
        started = time.monotonic()
        with pytest.raises(CommandTimeout, match="“Which environment\\?”") as caught:
            connection.shell.run(command, stdin=b"secret\n", timeout_s=1.5)
        assert not caught.value.partial.started
        with pytest.raises(LoginShellUnusable, match="had not begun") as refused:
            preflight(connection, timeout_s=1.5)
        assert "wait for input" in refused.value.remedy
        with connection.shell.stream(command) as stream, pytest.raises(HostTimeout):
            stream.read(timeout_s=0.1)
        assert time.monotonic() - started < 8
    time.sleep(0.3)
    assert not ran.exists(), "the command ran though nobody waited for it any more"


@needs_root
@pytest.mark.parametrize("elsewhere", ["exec >/dev/null 2>&1", "exec >&- 2>&-", "exec >/dev/null"])
def test_a_command_whose_output_a_start_up_file_sends_elsewhere_never_runs(
    account: Account, elsewhere: str
) -> None:
    (account.user.home / ".bashrc").write_text(f"{elsewhere}\n")
    ran = account.user.home / "ran-unseen"
    with account.entered() as connection:
        with pytest.raises((LoginShellUnusable, CommandTimeout)) as caught:
            connection.shell.run(f"touch {ran}", timeout_s=3)
        assert "login shell" in caught.value.message
    time.sleep(0.3)
    assert not ran.exists()


@needs_root
def test_a_command_that_was_given_up_before_it_began_never_runs(account: Account) -> None:
    """What switches a host off must not do so minutes after its operation has ended."""
    account.start_up(".bashrc", "sleep 2")
    ran = account.user.home / "ran-late"
    # Kept open: what is given up must not depend on the end of the channel alone.
    with account.entered() as connection:
        with pytest.raises(CommandTimeout) as caught:
            connection.shell.run(f"touch {ran}", timeout_s=0.5)
        assert not caught.value.partial.started
        time.sleep(2.5)
        assert not ran.exists()
        assert connection.shell.run("echo late", timeout_s=10).stdout == b"late\n"


@needs_root
def test_a_command_that_began_late_ends_when_it_is_given_up_all_the_same(account: Account) -> None:
    account.start_up(".bashrc", "sleep 1")
    ran = account.user.home / "ran-on"
    with account.entered() as connection:
        with pytest.raises(CommandTimeout):
            connection.shell.run(f"sleep 1.5; touch {ran}", timeout_s=1.5)
        time.sleep(2)
    assert not ran.exists(), "the command went on for as long as it began late"


@needs_root
@pytest.mark.parametrize("to", ["", " >&2"])
def test_a_start_up_file_that_prints_without_an_end_is_given_up(account: Account, to: str) -> None:
    account.start_up(".bashrc", f"yes 'Out of order'{to}")
    with account.entered() as connection, pytest.raises(LoginShellUnusable, match="“Out of order”") as caught:
        connection.shell.run("true", timeout_s=20)
    assert "1 MiB" in caught.value.message


@needs_root
@pytest.mark.parametrize("to", ["", " >&2"])
def test_a_heartbeat_that_never_begins_for_noise_takes_no_more_than_its_bound(
    account: Account, to: str
) -> None:
    account.start_up(".bashrc", f"yes 'Out of order'{to}")
    sink = Collected()
    with account.entered() as connection:
        feed = connection.open_feed("echo beat; sleep 9", sink)
        assert sink.has_ended.wait(20)
        time.sleep(0.5)
        assert "1 MiB" in feed.refusal
        readers = (feed.channel.output, feed.channel.error_output)
        assert sum(reader._before_bytes for reader in readers if reader) <= MAX_OUTSIDE + 2 * WINDOW_BYTES
        feed.close()
    assert sink.data_seen == b""


@needs_root
@pytest.mark.parametrize(
    "traces", ["set -xv", "export SHELLOPTS; set -xv", "trap 'echo \"$BASH_COMMAND\"' DEBUG", "exec 2>&1"]
)
def test_a_login_shell_that_traces_what_it_runs_confuses_nobody(account: Account, traces: str) -> None:
    (account.user.home / ".bashrc").write_text(f"{traces}\n")
    with account.entered() as connection:
        result = connection.shell.run("echo out; exit 4", timeout_s=10)
        assert (result.exit_status, result.stdout) == (4, b"out\n")
        assert "exec 2>&1" in traces or result.stderr == b""


def test_what_is_left_running_holds_up_no_answer(sshd: LoopbackSshd) -> None:
    with SshConnection(sshd.target(), SHORT) as connection:
        started = time.monotonic()
        result = connection.shell.run("sleep 33.3 & echo now", timeout_s=30)
        assert (result.stdout, result.exit_status) == (b"now\n", 0)
        assert time.monotonic() - started < 5
    subprocess.run(["pkill", "-x", "-f", "sleep 33.3"], check=False)


# -- the frame by itself --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 33, 1000])
def test_a_frame_is_found_however_its_bytes_arrive(size: int) -> None:
    raw, nonce = b"*** \x02Welcome", "ab" * 16
    body = b"\x03\x02" + os.urandom(50) + b"\x03"
    raw += b"\x02" + nonce.encode() + b"\n" + body + b"\x03" + nonce.encode() + b" 7\nBye"
    reader = FrameReader(nonce, ends=True)
    given = b"".join(reader.feed(raw[place : place + size]) for place in range(0, len(raw), size))
    assert given + reader.finish() == body
    assert (reader.ended, reader.exit_status, bytes(reader.outside)) == (True, 7, b"*** \x02WelcomeBye")


def test_a_frame_that_was_cut_gives_what_came_and_no_part_of_its_end() -> None:
    nonce = "ab" * 16
    begun = b"\x02" + nonce.encode() + b"\n"
    for end, expected in (
        (b"out\x03", b"out\x03"),
        (b"out\x03" + nonce.encode()[:20], b"out"),
        (b"out\x03" + nonce.encode() + b" 1", b"out"),
    ):
        reader = FrameReader(nonce, ends=True)
        given = reader.feed(begun + end)
        assert given + reader.finish() == expected
        assert (reader.started, reader.ended, reader.exit_status) == (True, False, None)


def test_a_relayed_stream_holds_nothing_back() -> None:
    reader = FrameReader("ab" * 16, ends=False)
    assert reader.feed(b"\x02" + b"ab" * 16 + b"\n\x03") == b"\x03"
    assert reader.feed(b"abab\x03") == b"abab\x03"


def test_a_signal_is_no_exit_status() -> None:
    for said, status in ((b"0", 0), (b"124", 124), (b"137", None), (b"143", None), (b"255", 255)):
        reader = FrameReader("ab" * 16, ends=True)
        reader.feed(b"\x02" + b"ab" * 16 + b"\n\x03" + b"ab" * 16 + b" " + said + b"\n")
        assert (reader.ended, reader.exit_status) == (True, status)


def test_only_the_end_of_the_noise_is_kept() -> None:
    reader = FrameReader("ab" * 16, ends=True)
    for _ in range(MAX_OUTSIDE // 1000):
        reader.feed(b"x" * 1000)
    assert not reader.flooded
    reader.feed(b"y" * 2000)
    assert reader.flooded
    assert len(reader.outside) == KEPT_OUTSIDE


def test_every_number_is_fresh_and_stands_whole_in_no_command_line() -> None:
    one, two = relayed("true"), relayed("true")
    assert one.line != two.line
    nonce = CommandFrame("", "true", ends=True)
    assert nonce._nonce not in nonce.line


@pytest.mark.parametrize(
    "frame", [bounded, unbounded, relayed, partial(watched, sudo=False), partial(watched, sudo=True)]
)
def test_every_command_line_is_of_letters_that_every_login_shell_takes_for_the_same(
    frame: Callable[[str], CommandFrame],
) -> None:
    for command in ("true", "it's \\ ! \n é\x00"):
        line = frame(command).line
        assert re.fullmatch(r"(?:[\x20\x22-\x5b\x5d-\x7e]|\\[0n])+", line), line
        assert line.count("'") % 2 == 0


def test_any_text_survives_its_quoting() -> None:
    text = 'it\'s \\0041 \\\\ !x "$HOME" `id` \n\té%s%%\\c end'
    line = f"printf %b {quoted(text)}"
    for shell in ("bash", "dash", "zsh", "fish", "tcsh", "ksh"):
        if shutil.which(shell):
            found = subprocess.run(
                [shell, "-c", f"exec sh -c 'printf %b \"$1\"' sh {quoted(text)}"],
                capture_output=True,
                check=True,
            )
            assert found.stdout.decode() == text, shell
    assert subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout.decode() == text
