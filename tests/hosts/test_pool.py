"""One connection a host: shared, replaced when broken, closed when idle, and never another host's burden."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.errors import AuthenticationFailed, HostError, HostTimeout
from nodes.hosts.connection import ConnectionPool, connect
from nodes.hosts.target import HostTarget, SshKeyCredential
from tests.hosts.conftest import SHORT, Freezer, tcp_peer
from tests.libvirtd import LibvirtHost
from tests.network import ANYWHERE
from tests.sshd import LoopbackSshd, make_key, public_of


@pytest.fixture
def pool() -> Iterator[ConnectionPool]:
    made = ConnectionPool(SHORT)
    yield made
    made.close()


def test_all_share_one_connection_made_once(sshd: LoopbackSshd, pool: ConnectionPool) -> None:
    target = sshd.target(key="shared")
    logins = sshd.log.count("Accepted publickey")
    found = []
    threads = [threading.Thread(target=lambda: found.append(pool.get(target))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 12
    assert len(set(map(id, found))) == 1
    assert len(pool) == 1
    assert sshd.log.count("Accepted publickey") == logins + 1
    assert found[0].shell.run("echo pooled", timeout_s=5).stdout == b"pooled\n"


def test_a_broken_connection_is_replaced(tmp_path: Path, pool: ConnectionPool) -> None:
    with LoopbackSshd(tmp_path / "s", key_types=("ed25519",)) as sshd:
        first = pool.get(sshd.target())
        sshd.drop_connections()
        deadline = time.monotonic() + 3
        while first.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        second = pool.get(sshd.target())
        assert second is not first
        assert second.shell.run("echo again", timeout_s=5).stdout == b"again\n"
        assert len(pool) == 1


def test_a_changed_credential_or_host_key_never_uses_the_old_connection(
    sshd: LoopbackSshd, tmp_path: Path, pool: ConnectionPool
) -> None:
    target = sshd.target()
    first = pool.get(target)
    stranger = make_key(tmp_path / "stranger")
    with pytest.raises(AuthenticationFailed):
        pool.get(replace(target, credential=SshKeyCredential(stranger.read_text())))
    sshd.authorize(public_of(stranger))
    other = pool.get(replace(target, credential=SshKeyCredential(stranger.read_text())))
    assert other is not first
    assert pool.get(replace(target, host_key=sshd.host_key("rsa"))) not in (first, other)
    assert pool.get(target) is first


def test_a_dead_host_keeps_only_its_own_callers_waiting(sshd: LoopbackSshd, pool: ConnectionPool) -> None:
    waited: dict[int, float] = {}

    with tcp_peer(lambda client: threading.Event().wait(30) and None) as port:
        dead = sshd.target(port=port)

        def ask(number: int) -> None:
            started = time.monotonic()
            with pytest.raises(HostTimeout):
                pool.get(dead)
            waited[number] = time.monotonic() - started

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        started = time.monotonic()
        assert pool.get(sshd.target()).shell.run("echo fine", timeout_s=5).stdout == b"fine\n"
        assert time.monotonic() - started < 1
        for thread in threads:
            thread.join(20)
    assert len(waited) == 6
    assert max(waited.values()) < 3.5, "the waiters for a dead host waited one after another"


def test_a_call_on_a_dead_line_holds_no_call_to_another_host(
    sshd: LoopbackSshd, pool: ConnectionPool
) -> None:
    freezer = Freezer(sshd.port)
    with tcp_peer(freezer.serve) as port:
        dead, fine = pool.get(sshd.target(port=port)), pool.get(sshd.target())
        freezer.frozen.set()
        errors: list[HostError] = []

        def hang() -> None:
            try:
                dead.shell.run("true", timeout_s=2)
            except HostError as error:
                errors.append(error)

        threads = [threading.Thread(target=hang) for _ in range(20)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            started = time.monotonic()
            assert fine.shell.run("true", timeout_s=5).ok
            assert time.monotonic() - started < 0.5
        for thread in threads:
            thread.join(10)
        assert len(errors) == 20


def test_idle_connections_are_closed_and_busy_ones_are_not(sshd: LoopbackSshd) -> None:
    pool = ConnectionPool(SHORT, idle_s=0.5)
    try:
        idle = pool.get(sshd.target(key="idle"))
        busy = pool.get(sshd.target(key="busy"))
        with busy.shell.stream("echo on; sleep 30") as stream:
            assert stream.read(timeout_s=5) == b"on\n"
            deadline = time.monotonic() + 3
            while idle.alive and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not idle.alive
            assert busy.alive
        assert len(pool) <= 1
    finally:
        pool.close()


def test_a_connection_whose_libvirt_is_at_work_is_not_idle(libvirt_host: LibvirtHost) -> None:
    pool = ConnectionPool(SHORT, idle_s=0.3)
    try:
        connection = pool.get(libvirt_host.sshd.target())
        hypervisor = connection.hypervisor()
        assert not connection.busy
        done = hypervisor.run(lambda c: time.sleep(1.2) or c.getLibVersion(), what="Working")
        assert done
        assert connection.alive
        assert connection.hypervisor() is hypervisor
    finally:
        pool.close()


def test_an_idle_libvirt_is_closed_and_opened_again_when_needed(libvirt_host: LibvirtHost) -> None:
    with connect(libvirt_host.sshd.target(), SHORT) as connection:
        first = connection.hypervisor()
        connection.rest(60)
        assert connection.hypervisor() is first
        connection.rest(0)
        assert not first.alive
        assert connection.alive
        assert connection.hypervisor().version_text()


def test_the_number_of_connections_is_bounded(sshd: LoopbackSshd) -> None:
    pool = ConnectionPool(SHORT, max_connections=3)
    try:
        opened = [pool.get(sshd.target(key=str(number))) for number in range(5)]
        assert len(pool) == 3
        assert [connection.alive for connection in opened] == [False, False, True, True, True]
        with ExitStack() as streams:
            for connection in opened[2:]:
                streams.enter_context(connection.shell.stream("sleep 20"))
            pool.get(sshd.target(key="one more"))
            assert all(connection.alive for connection in opened[2:]), "a busy one was closed"
    finally:
        pool.close()


def test_dropping_a_node_closes_its_connections_alone(sshd: LoopbackSshd, pool: ConnectionPool) -> None:
    mine, other = pool.get(sshd.target(key="mine")), pool.get(sshd.target(key="other"))
    pool.drop_node("mine")
    assert (mine.alive, other.alive) == (False, True)
    assert pool.get(sshd.target(key="mine")) is not mine
    pool.drop(sshd.target(key="other"))
    assert not other.alive


def test_a_connection_dropped_while_it_is_made_is_not_handed_out(
    sshd: LoopbackSshd, pool: ConnectionPool
) -> None:
    outcome: list[object] = []
    release = threading.Event()

    def hold(client: object) -> None:
        release.wait(5)

    with tcp_peer(hold) as port:
        target = sshd.target(key="x", port=port)

        def get() -> None:
            try:
                outcome.append(pool.get(target))
            except HostError as error:
                outcome.append(error)

        thread = threading.Thread(target=get)
        thread.start()
        time.sleep(0.2)
        pool.drop_node("x")
        release.set()
        thread.join(10)
    assert isinstance(outcome[0], HostError)
    assert len(pool) == 0


def test_local_and_test_nodes_are_pooled_too(pool: ConnectionPool) -> None:
    local = pool.get(HostTarget("l", "local", rules=ANYWHERE))
    assert local.shell.run("echo here", timeout_s=5).stdout == b"here\n"
    assert pool.get(HostTarget("l", "local", rules=ANYWHERE)) is local
    driver = pool.get(HostTarget("t", "test", libvirt_uri="test:///default", rules=ANYWHERE))
    assert driver.hypervisor().version_text()


def test_a_node_that_is_entered_in_another_way_has_its_old_connection_closed(
    sshd: LoopbackSshd, tmp_path: Path, pool: ConnectionPool
) -> None:
    first = pool.get(sshd.target(key="one"))
    neighbour = pool.get(sshd.target(key="two"))
    renewed = make_key(tmp_path / "renewed")
    sshd.authorize(public_of(renewed))
    second = pool.get(sshd.target(key="one", credential=SshKeyCredential(renewed.read_text())))
    assert (first.alive, second.alive, neighbour.alive) == (False, True, True)
    assert len(pool) == 2
