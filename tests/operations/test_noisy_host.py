"""A host whose root has a start-up file that prints: what nodeadmin asks of it is read all the same."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes import access
from nodes.hosts import power
from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.deadlines import Clock
from nodes.hosts.journal import JournalFollow, read_entry
from nodes.hosts.journal_filters import read_filters
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_query import query
from nodes.inventory.beat import beat_command, parse_beat
from nodes.models import Node, OperationStatus
from nodes.operations import reaching
from nodes.operations.host_reading import Host, see
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.hosts.test_login_shells import NOISE, SHELLS
from tests.journals import AVAILABLE as HAS_JOURNAL
from tests.journals import JournalHost, entry
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.operations.test_reach import Wizard, failed_step
from tests.sshd import LoopbackSshd

pytestmark = pytest.mark.skipif(
    not AVAILABLE or not HAS_JOURNAL, reason="needs root, libvirtd, unshare and systemd-journal-remote"
)
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ALL = "\n".join(noise for noise in NOISE.values() if noise)
SOAK = os.environ.get("NODEADMIN_SOAK") == "1"
PRINTED = {**NOISE, "everything": ALL} if SOAK else {"everything": ALL}
LOGIN_SHELLS = tuple(SHELLS) if SOAK else ("bash",)
"""All of them in ``script/soak shells``."""


class NoisyHost(LibvirtHost):
    """Root has a home of its own there, a login shell and a start-up file as a test likes, and a journal."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        journal = JournalHost(folder / "logs")
        journal.write(entry(number, f"line {number}") for number in range(5))
        # Without SHLVL, so that bash reads ~/.bashrc as it does on any host.
        self.options = {"SetEnv": f"PATH={journal.bin}:/usr/bin:/bin:/usr/sbin:/sbin"}
        super().__init__(folder, sshd_options=self.options)

    def _further_mounts(self) -> list[str]:
        self.passwd = self.folder / "passwd"
        self.passwd.write_text(Path("/etc/passwd").read_text())
        ash = self.home / "ash"
        ash.symlink_to(shutil.which("busybox") or "/bin/busybox")
        return [f"mount --bind {self.home} /root", f"mount --bind {self.passwd} /etc/passwd"]

    def print_at_start(self, script: str, shell: str = "bash") -> None:
        """Root's login shell is ``shell``, whose start-up file runs ``script``."""
        path = "/root/ash" if shell == "ash" else shutil.which(shell, path="/usr/bin:/bin")
        root, *others = self.passwd.read_text().splitlines()
        self.passwd.write_text("\n".join([f"{root.rpartition(':')[0]}:{path}", *others]) + "\n")
        for name in set(SHELLS.values()):
            (self.home / name).unlink(missing_ok=True)
        start_up = self.home / SHELLS[shell]
        start_up.parent.mkdir(parents=True, exist_ok=True)
        (self.home / "noise").write_text(f"{script}\n")
        start_up.write_text("/bin/sh ~/noise\n")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NoisyHost]:
    with NoisyHost(tmp_path_factory.mktemp("noisy")) as host:
        host.virsh("capabilities")
        yield host


@pytest.mark.django_db
@pytest.mark.parametrize("printed", PRINTED)
@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_it_joins_and_is_refreshed(administrator, noisy: NoisyHost, shell: str, printed: str) -> None:
    noisy.print_at_start(PRINTED[printed], shell)
    wizard = Wizard(Api(administrator), noisy.sshd)
    ended = wizard.add()
    assert ended.status == OperationStatus.SUCCEEDED, (failed_step(ended), ended.error)
    node = Node.objects.get()
    assert node.boot_id == BOOT_ID.read_text().strip()
    assert node.machine_id
    assert ended.steps.get(code="rights").data["uid"] == 0
    assert wizard.api("refresh-node", {"node": "kvm-01"})[0] == 202
    (refreshed,) = run_queued()
    assert refreshed.status == OperationStatus.SUCCEEDED, refreshed.error
    node.refresh_from_db()
    assert (node.connection, node.connection_reason) == ("online", "")
    status, body = wizard.api("reboot-node", {"node": "kvm-01"})
    assert (status, body["plan"]["blockers"]) == (428, []), body
    access.close_pool()


@pytest.mark.parametrize("name", NOISE)
@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_its_heartbeat_logs_plan_power_and_libvirt_are_read(noisy: NoisyHost, shell: str, name: str) -> None:
    noisy.print_at_start(NOISE[name], shell)
    with connect(noisy.sshd.target()) as connection:
        read_everything(noisy, connection)


def read_everything(noisy: NoisyHost, connection: HostConnection) -> None:
    boot_id = BOOT_ID.read_text().strip()
    assert power.boot_id(connection.shell) == boot_id
    assert power.uptime_s(connection.shell) > 0
    beat = parse_beat(first_line(connection, beat_command(5)).decode())
    assert beat is not None
    assert beat.boot_id == boot_id
    filters = read_filters({"services": ["cron"]})
    page = query(connection, LogCursor(filters), limit=10)
    assert [found.message for found in page.entries] == [f"line {number}" for number in range(5)]
    assert read_entry(connection, page.entries[0].cursor)
    follow = JournalFollow(connection, filters, cursor=page.entries[2].cursor)
    followed = []
    while len(followed) < 2:
        followed += follow.read(timeout_s=5) or []
    follow.close()
    assert [found.message for found in followed] == ["line 3", "line 4"]
    assert connection.hypervisor().version_text()
    seen = see(Host("uuid", "kvm-01", noisy.sshd.target()), Clock(20), domains=True, wants_room=True)
    assert (seen.fault, seen.libvirt_fault, seen.boot_id) == (None, None, boot_id)
    assert "lo" in (seen.networks.interfaces or ())
    access.close_pool()


@pytest.mark.parametrize("name", NOISE)
@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_its_libvirt_answers_through_the_helper(
    noisy: NoisyHost, tmp_path: Path, shell: str, name: str
) -> None:
    noisy.print_at_start(NOISE[name], shell)
    options = {**noisy.options, "AllowStreamLocalForwarding": "no"}
    with (
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options=options, prefix=noisy.inside) as sshd,
        connect(sshd.target()) as connection,
    ):
        assert connection.hypervisor().run(lambda c: c.listAllDomains(), what="Listing") == []
        assert "virt-ssh-helper" in noisy.processes()


@pytest.mark.django_db
def test_one_that_waits_for_input_is_refused_at_the_rights_and_leaves_nothing(
    administrator, noisy: NoisyHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaching, "RIGHTS_S", 2.0)
    noisy.print_at_start("echo 'Choose a profile:'; read -r profile")
    started = time.monotonic()
    ended = Wizard(Api(administrator), noisy.sshd).add()
    assert time.monotonic() - started < 10
    assert (failed_step(ended), ended.error["code"]) == ("rights", "login_shell_unusable")
    assert "“Choose a profile:”" in ended.error["detail"]
    assert "wait for input" in ended.error["remedy"]
    assert not Node.objects.exists()


def first_line(connection: HostConnection, command: str) -> bytes:
    """The first line that a followed command prints."""

    class Lines:
        taken = b""
        come = threading.Event()

        def data(self, chunk: bytes) -> None:
            self.taken += chunk
            if b"\n" in self.taken:
                self.come.set()

        def ended(self) -> None:
            self.come.set()

    lines = Lines()
    lines.come = threading.Event()
    feed = connection.follow(command, lines)
    assert lines.come.wait(10)
    feed.close()
    return lines.taken.partition(b"\n")[0]
