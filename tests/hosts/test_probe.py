"""Taking a document: shell and libvirt side by side, and what remains when either fails."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from nodes.errors import HostTimeout, HostUnreachable, LoginShellUnusable
from nodes.hosts.connection import connect
from nodes.hosts.probe import collect
from nodes.hosts.target import HostTarget
from nodes.inventory.document import HostDocument, SourceStatus
from nodes.inventory.section import Parsed, Section
from nodes.inventory.source import LibvirtSource, Source
from tests.hosts.conftest import SHORT, Freezer, tcp_peer
from tests.libvirtd import LibvirtHost
from tests.network import ANYWHERE
from tests.sshd import IS_ROOT, LoopbackSshd, TemporaryUser

needs_root = pytest.mark.skipif(not IS_ROOT, reason="makes users of this machine")


def section(*sources: Source, libvirt: tuple[str, ...] = ()) -> Section[None]:
    return Section(
        "test", "Test", sources, lambda document: Parsed(None), tuple(LibvirtSource(name) for name in libvirt)
    )


PLAIN = section(
    Source("hello", "echo hello"),
    Source("bytes", r"printf '\377\300'"),
    Source("kernel", "cat /proc/sys/kernel/ostype"),
    Source("nothere", "no-such-tool", needs="no-such-tool-at-all"),
    Source("broken", "echo partly; echo why >&2; exit 3"),
)


def test_one_probe_brings_shell_and_libvirt(libvirt_host: LibvirtHost) -> None:
    wanted = section(*PLAIN.sources, libvirt=("libvirt:versions", "libvirt:domains"))
    with connect(libvirt_host.sshd.target()) as connection:
        document = collect(connection, [wanted])
    assert document.text("hello") == "hello\n"
    assert document.text("kernel") == "Linux\n"
    assert document.text("libvirt:domains") == "[]"
    assert document.get("nothere").status is SourceStatus.MISSING
    assert document.get("broken").status is SourceStatus.FAILED
    assert (document.get("broken").exit_status, document.get("broken").stderr) == (3, "why\n")
    assert (document.transport, document.user) == ("ssh", libvirt_host.sshd.target().user)
    assert document.observed_at.endswith("Z")
    assert HostDocument.from_bytes(document.to_bytes()) == document


@pytest.mark.parametrize("transport", ["local", "ssh"])
def test_bytes_that_are_not_utf8_survive_to_the_document(sshd: LoopbackSshd, transport: str) -> None:
    target = sshd.target() if transport == "ssh" else HostTarget("", "local", rules=ANYWHERE)
    with connect(target) as connection:
        document = collect(connection, [PLAIN])
    assert document.text("bytes").encode("utf-8", "surrogateescape") == b"\xff\xc0"


def test_a_test_node_has_libvirts_part_alone() -> None:
    wanted = section(*PLAIN.sources, libvirt=("libvirt:domains",))
    with connect(HostTarget("", "test", libvirt_uri="test:///default", rules=ANYWHERE)) as connection:
        document = collect(connection, [wanted])
    assert set(document.sources) == {"libvirt:domains", f"libvirt:domain:{_uuid(document)}"}
    assert document.transport == "test"


def _uuid(document: HostDocument) -> str:
    return next(iter(document.items("libvirt:domain")))[0]


def test_libvirt_that_hangs_leaves_the_shells_sources(libvirt_host: LibvirtHost) -> None:
    wanted = section(*PLAIN.sources, libvirt=("libvirt:versions", "libvirt:domains"))
    with connect(libvirt_host.sshd.target(), SHORT) as connection:
        libvirt_host.freeze_libvirtd()
        try:
            started = time.monotonic()
            document = collect(connection, [wanted], timeout_s=3)
            assert time.monotonic() - started < 5
        finally:
            libvirt_host.thaw_libvirtd()
    assert document.text("hello") == "hello\n"
    assert document.get("libvirt:versions").status is SourceStatus.TIMEOUT


@needs_root
def test_a_user_without_rights_gets_denied_sources_named_so(tmp_path: Path) -> None:
    wanted = section(
        Source("open", "cat /proc/version"),
        Source("closed", "cat /etc/shadow", needs_root=True),
        libvirt=("libvirt:versions",),
    )
    with (
        TemporaryUser("na-test-probe") as user,
        LibvirtHost(tmp_path / "h") as host,
        connect(host.sshd.target(user=user.name)) as connection,
    ):
        document = collect(connection, [wanted])
        assert document.text("open")
        assert document.get("closed").status is SourceStatus.DENIED
        assert document.get("libvirt:versions").status is SourceStatus.DENIED
        assert "group “libvirt”" in document.get("libvirt:versions").stderr
        assert document.user == user.name
        with user.sudoers("ALL=(root) NOPASSWD: ALL"):
            document = collect(connection, [wanted])
        assert document.get("closed").status is SourceStatus.OK
        assert "root:" in document.text("closed")


@needs_root
def test_a_login_shell_that_runs_nothing_is_said_so_in_its_own_words(tmp_path: Path) -> None:
    with (
        TemporaryUser("na-test-nologin", shell="/usr/sbin/nologin") as user,
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",)) as sshd,
        connect(sshd.target(user=user.name)) as connection,
        pytest.raises(LoginShellUnusable) as caught,
    ):
        collect(connection, [PLAIN])
    assert user.name in caught.value.message
    assert "This account is currently not available." in caught.value.message
    assert f"usermod -s /bin/bash {user.name}" in caught.value.remedy


def test_a_slow_source_costs_itself_alone(sshd: LoopbackSshd) -> None:
    wanted = section(Source("slow", "echo begun; sleep 20", timeout_s=1), *PLAIN.sources)
    with connect(sshd.target()) as connection:
        started = time.monotonic()
        document = collect(connection, [wanted])
        assert time.monotonic() - started < 5
    assert document.get("slow").status is SourceStatus.TIMEOUT
    assert document.text("hello") == "hello\n"


def test_a_host_that_falls_silent_ends_the_probe_at_its_deadline(sshd: LoopbackSshd) -> None:
    freezer = Freezer(sshd.port)
    with tcp_peer(freezer.serve) as port, connect(sshd.target(port=port), SHORT) as connection:
        freezer.frozen.set()
        started = time.monotonic()
        with pytest.raises((HostTimeout, HostUnreachable)):
            collect(connection, [PLAIN], timeout_s=2)
        assert time.monotonic() - started < 4


def test_the_time_of_a_document_is_exact_enough_for_rates_between_two() -> None:
    """Whole seconds would make a rate over two seconds wrong by half."""
    with connect(HostTarget(key="", transport="local", rules=ANYWHERE)) as local:
        seen = {collect(local, ()).observed_at for _ in range(3)}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment) for moment in seen)
