"""Hosts behind jump hosts: two real sshds, the second reached through the first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodes.errors import (
    AuthenticationFailed,
    HostError,
    HostKeyMismatch,
    HostTimeout,
    HostUnreachable,
    JumpHostAuthFailed,
    JumpHostForwardingRefused,
    JumpHostKeyMismatch,
    JumpHostUnreachable,
)
from nodes.hosts import jump as jump_module
from nodes.hosts.connection import ConnectionPool, connect
from nodes.hosts.host_key_scan import find_host_key, scan_host
from nodes.hosts.jump import JumpHosts, jump_hosts
from nodes.hosts.target import JumpTarget, SshKeyCredential
from tests.hosts.conftest import SHORT, Freezer, tcp_peer
from tests.libvirtd import LibvirtHost
from tests.network import ANYWHERE
from tests.patience import Deadline
from tests.sshd import ME, LoopbackSshd, free_port, make_key


def wait_until(done: Callable[[], bool], seconds: float = 5) -> None:
    deadline = Deadline(seconds)
    while not done():
        assert not deadline.over(), f"not within {deadline.seconds:g} s"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path_factory.mktemp("bastion"), options={"MaxSessions": "1"}) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_connection_is_left() -> Iterator[None]:
    yield
    jump_hosts().close()


def by(server: LoopbackSshd, name: str = "bastion", **changes: object) -> JumpTarget:
    """The server as a jump host."""
    values: dict[str, object] = {
        "key": name,
        "name": name,
        "host": server.address,
        "port": server.port,
        "user": ME,
        "credential": SshKeyCredential(server.user_key.read_text()),
        "host_key": server.host_key(),
        "rules": ANYWHERE,
    }
    return JumpTarget(**values | changes)  # type: ignore[arg-type]


def test_commands_and_streams_run_on_the_host_behind_the_jump_host(
    bastion: LoopbackSshd, sshd: LoopbackSshd
) -> None:
    with connect(sshd.target(jump=by(bastion)), SHORT) as connection:
        answer = connection.shell.run("echo $SSH_CONNECTION", timeout_s=5).stdout.split()
        assert answer[3] == str(sshd.port).encode(), "the command ran on the jump host itself"
        with connection.shell.stream("echo first; sleep 30") as stream:
            assert stream.read(timeout_s=5) == b"first\n"
        big = connection.shell.run("head -c 3000000 /dev/zero", timeout_s=20)
        assert len(big.stdout) == 3_000_000


def test_libvirt_is_reached_through_a_jump_host(bastion: LoopbackSshd, libvirt_host: LibvirtHost) -> None:
    with connect(libvirt_host.sshd.target(jump=by(bastion)), SHORT) as connection:
        assert connection.hypervisor().version_text()


def test_many_hosts_share_one_connection_to_the_jump_host(bastion: LoopbackSshd, sshd: LoopbackSshd) -> None:
    pool, jump = ConnectionPool(SHORT), by(bastion)
    before = threading.active_count()
    try:
        opened = [pool.get(sshd.target(key=f"node-{number}", jump=jump)) for number in range(12)]
        assert all(connection.shell.run("true", timeout_s=5).ok for connection in opened)
        assert jump_hosts().count(jump) == 1
        # One a host, as without; one for the jump host, one that tells it of ends, the pool's own, and slack.
        assert threading.active_count() - before <= 12 + 6
    finally:
        pool.close()


def test_a_full_connection_is_followed_by_another(
    bastion: LoopbackSshd, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jump_module, "_jump_hosts", JumpHosts(channels=2))
    jump = by(bastion)
    opened = [connect(sshd.target(jump=jump), SHORT) for _number in range(5)]
    assert jump_hosts().count(jump) == 3
    for connection in opened:
        connection.close()
    with connect(sshd.target(jump=jump), SHORT) as again:
        assert again.shell.run("true", timeout_s=5).ok
    assert jump_hosts().count(jump) == 3, "a place was not given back"


def test_a_chain_of_three_jump_hosts_leads_to_the_host(
    bastion: LoopbackSshd, sshd: LoopbackSshd, tmp_path: Path
) -> None:
    with LoopbackSshd(tmp_path / "inner") as inner:
        chain = by(inner, "third", jump=by(sshd, "second", jump=by(bastion, "first")))
        with connect(inner.target(jump=chain), SHORT) as connection:
            assert connection.shell.run("echo there", timeout_s=5).stdout == b"there\n"


def test_the_hosts_own_key_is_verified_through_the_jump_host(
    bastion: LoopbackSshd, sshd: LoopbackSshd, tmp_path: Path
) -> None:
    with LoopbackSshd(tmp_path / "impostor") as impostor:
        target = impostor.target(jump=by(bastion), host_key=sshd.host_key())
        with pytest.raises(HostKeyMismatch) as caught:
            connect(target, SHORT)
    assert caught.value.code == "host_key_mismatch"
    assert impostor.log.count("Accepted") == 0


def test_keys_are_scanned_through_the_jump_host(bastion: LoopbackSshd, sshd: LoopbackSshd) -> None:
    scan = scan_host("127.0.0.1", sshd.port, timeout_s=8, jump=by(bastion), rules=ANYWHERE)
    assert scan.complete
    assert sshd.host_key() in scan.keys
    wanted = sshd.host_key("rsa").fingerprint
    scan = find_host_key("127.0.0.1", sshd.port, wanted, timeout_s=8, jump=by(bastion), rules=ANYWHERE)
    assert scan.key_of(wanted)


def test_another_key_of_the_jump_host_is_told_as_the_jump_hosts(
    bastion: LoopbackSshd, sshd: LoopbackSshd
) -> None:
    with pytest.raises(JumpHostKeyMismatch, match="bastion") as caught:
        connect(sshd.target(jump=by(bastion, host_key=sshd.host_key())), SHORT)
    assert caught.value.code == "jump_host_key_mismatch"
    assert caught.value.extra["jump_host"] == "bastion"


def test_a_jump_host_without_a_confirmed_key_is_sent_nothing(
    bastion: LoopbackSshd, sshd: LoopbackSshd
) -> None:
    with pytest.raises(JumpHostKeyMismatch):
        connect(sshd.target(jump=by(bastion, host_key=None)), SHORT)


def test_a_refused_login_of_the_jump_host_is_told_as_the_jump_hosts(
    bastion: LoopbackSshd, sshd: LoopbackSshd, tmp_path: Path
) -> None:
    stranger = SshKeyCredential(make_key(tmp_path / "stranger").read_text())
    with pytest.raises(JumpHostAuthFailed, match="bastion") as caught:
        connect(sshd.target(jump=by(bastion, credential=stranger)), SHORT)
    assert caught.value.code == "jump_host_auth_failed"
    with pytest.raises(AuthenticationFailed):
        connect(sshd.target(jump=by(bastion), credential=stranger), SHORT)


def test_a_jump_host_that_is_down_is_named_and_not_the_host(
    sshd: LoopbackSshd, bastion: LoopbackSshd
) -> None:
    with pytest.raises(JumpHostUnreachable, match="bastion") as caught:
        connect(sshd.target(jump=by(bastion, port=free_port())), SHORT)
    assert caught.value.code == "jump_host_unreachable"


def test_a_host_that_is_down_behind_a_jump_host_is_named(bastion: LoopbackSshd, sshd: LoopbackSshd) -> None:
    port = free_port()
    with pytest.raises(HostUnreachable, match=f"port {port}") as caught:
        connect(sshd.target(port=port, jump=by(bastion)), SHORT)
    assert caught.value.extra["reason"] == "refused"
    with pytest.raises(HostUnreachable, match="no-such-host"):
        connect(sshd.target(host="no-such-host.invalid", jump=by(bastion)), SHORT)


def test_a_host_that_is_silent_behind_a_jump_host_ends_by_its_deadline(
    bastion: LoopbackSshd, sshd: LoopbackSshd
) -> None:
    with tcp_peer(lambda client: threading.Event().wait(20)) as port:
        started = time.monotonic()
        with pytest.raises(HostTimeout):
            connect(sshd.target(port=port, jump=by(bastion)), SHORT)
        assert time.monotonic() - started < 6
        with connect(sshd.target(jump=by(bastion)), SHORT) as neighbour:
            assert neighbour.shell.run("true", timeout_s=5).ok


@pytest.mark.parametrize(
    "options",
    [{"AllowTcpForwarding": "no"}, {"DisableForwarding": "yes"}, {"PermitOpen": "192.0.2.1:22"}],
    ids=lambda options: next(iter(options)),
)
def test_a_jump_host_that_forbids_the_way_is_told_with_what_to_allow(
    options: dict[str, str], sshd: LoopbackSshd, tmp_path: Path
) -> None:
    with (
        LoopbackSshd(tmp_path / "strict", key_types=("ed25519",), options=options) as strict,
        pytest.raises(JumpHostForwardingRefused, match="strict") as caught,
    ):
        connect(sshd.target(jump=by(strict, "strict")), SHORT)
    assert caught.value.code == "jump_host_forwarding_refused"
    assert "AllowTcpForwarding" in caught.value.remedy


def test_a_jump_host_that_permits_just_this_host_does(sshd: LoopbackSshd, tmp_path: Path) -> None:
    options = {"PermitOpen": f"127.0.0.1:{sshd.port}"}
    with (
        LoopbackSshd(tmp_path / "narrow", key_types=("ed25519",), options=options) as narrow,
        connect(sshd.target(jump=by(narrow)), SHORT) as connection,
    ):
        assert connection.shell.run("true", timeout_s=5).ok


def test_hosts_are_reached_again_after_their_jump_host_came_back(sshd: LoopbackSshd, tmp_path: Path) -> None:
    pool = ConnectionPool(SHORT)
    with LoopbackSshd(tmp_path / "brief", key_types=("ed25519",)) as brief:
        try:
            target = sshd.target(key="n", jump=by(brief))
            first = pool.get(target)
            assert first.shell.run("true", timeout_s=5).ok
            brief.drop_connections()
            wait_until(lambda: not first.alive)
            assert pool.get(target).shell.run("true", timeout_s=5).ok
            brief.stop()
            wait_until(lambda: not _alive(pool, target))
            with pytest.raises(JumpHostUnreachable):
                pool.get(target)
        finally:
            pool.close()


def _alive(pool: ConnectionPool, target: object) -> bool:
    try:
        return pool.get(target).alive  # type: ignore[arg-type]
    except HostError:
        return False


def test_a_frozen_jump_host_is_found_out_and_left(
    bastion: LoopbackSshd, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jump_module, "_ANSWER_S", 0.5)
    freezer = Freezer(bastion.port)
    with tcp_peer(freezer.serve) as port:
        jump = by(bastion, port=port)
        with connect(sshd.target(jump=jump), SHORT) as connection:
            assert connection.shell.run("true", timeout_s=5).ok
            freezer.frozen.set()
            with pytest.raises(JumpHostUnreachable, match="stopped answering"):
                connect(sshd.target(jump=jump), SHORT)
            started = time.monotonic()
            with pytest.raises(HostError):
                connection.shell.run("true", timeout_s=5)
            assert time.monotonic() - started < 2, "a host behind it did not notice"


def test_waiters_for_a_dead_jump_host_wait_for_one_deadline(
    bastion: LoopbackSshd, sshd: LoopbackSshd
) -> None:
    pool = ConnectionPool(SHORT)
    found: list[str] = []
    with tcp_peer(lambda client: threading.Event().wait(20)) as silent:
        jump = by(bastion, port=silent)

        def ask(number: int) -> None:
            try:
                pool.get(sshd.target(key=str(number), jump=jump))
            except HostError as error:
                found.append(error.code)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert time.monotonic() - started < 6
    pool.close()
    assert found == ["jump_host_unreachable"] * 10


def test_a_host_that_prints_without_end_leaves_its_neighbours_behind_the_jump_host_alone(
    bastion: LoopbackSshd, sshd: LoopbackSshd
) -> None:
    jump, stop = by(bastion), threading.Event()
    with (
        connect(sshd.target(key="loud", jump=jump), SHORT) as loud,
        connect(sshd.target(key="quiet", jump=jump), SHORT) as quiet,
    ):

        def flood() -> None:
            while not stop.is_set():
                try:
                    loud.shell.run("yes", timeout_s=1, max_bytes=4 << 20)
                except HostError:
                    pass

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for _round in range(5):
                started = time.monotonic()
                assert quiet.shell.run("true", timeout_s=5).ok
                assert time.monotonic() - started < 2
        finally:
            stop.set()
            thread.join(10)
        with loud.shell.stream("yes"):  # nobody reads it: what waits is bounded by the channel's window
            time.sleep(0.3)
            assert quiet.shell.run("true", timeout_s=5).ok
        assert jump_hosts().count(jump) == 1


def test_dropping_a_jump_host_ends_what_runs_through_it(bastion: LoopbackSshd, sshd: LoopbackSshd) -> None:
    with connect(sshd.target(jump=by(bastion)), SHORT) as connection:
        jump_hosts().drop("bastion")
        wait_until(lambda: not connection.alive)


def test_idle_connections_to_jump_hosts_are_closed_and_used_ones_are_not(
    bastion: LoopbackSshd, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jump_module, "_jump_hosts", JumpHosts(idle_s=0))
    jump = by(bastion)
    with connect(sshd.target(jump=jump), SHORT) as connection:
        assert jump_hosts().close_idle() == 0
        assert connection.alive
    wait_until(lambda: jump_hosts().close_idle() == 1 or jump_hosts().count(jump) == 0)


def test_a_target_behind_another_jump_host_is_another_target(
    bastion: LoopbackSshd, sshd: LoopbackSshd
) -> None:
    direct, through = sshd.target(), sshd.target(jump=by(bastion))
    other = sshd.target(jump=by(bastion, user="somebody"))
    assert len({direct.digest(), through.digest(), other.digest()}) == 3
    assert bastion.user_key.read_text() not in repr(through)


def test_a_second_key_is_offered_where_the_host_refuses_the_first(sshd: LoopbackSshd, tmp_path: Path) -> None:
    new = make_key(tmp_path / "new").read_text()
    old = sshd.user_key.read_text()
    with connect(sshd.target(credential=SshKeyCredential(new, alternatives=(old,))), SHORT) as connection:
        assert connection.login_key is not None
        assert connection.login_key.to_text() in (sshd.folder / "user_key.pub").read_text()
    with pytest.raises(AuthenticationFailed):
        connect(sshd.target(credential=SshKeyCredential(new, alternatives=(new,))), SHORT)
