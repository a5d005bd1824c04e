"""What a host says of a power command before it is sent: asked on light hosts, over a real sshd."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nodes.errors import ShutdownInhibited
from nodes.hosts import power
from nodes.hosts.connection import connect
from nodes.hosts.power_preflight import Inhibitor, PowerPreflight, ScheduledShutdown, power_preflight
from nodes.hosts.rights import IGNORING_INHIBITORS, POWER_OFF, REBOOT
from tests.lighthosts import AVAILABLE, LightHost
from tests.sshd import TemporaryUser

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs root, libvirtd and unshare")

Ask = Callable[..., PowerPreflight]
BACKUP = Inhibitor('Backup "x"', "a restore at 50% é", "block", 0, 4711, "root")
WRITTEN = (r"Backup \"x\"", r"a restore\nat 50% \303\251")
"""The same as busctl of systemd 257 prints it: recorded on Debian 13."""


@pytest.fixture(scope="module")
def host() -> Iterator[LightHost]:
    # Pytest's own folders are closed to the user as whom sudo is asked.
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with LightHost(Path(folder) / "host", libvirtd=False) as light:
            yield light


@pytest.fixture
def ask(host: LightHost) -> Iterator[Ask]:
    with connect(host.sshd.target()) as connection:
        yield lambda command=REBOOT, **options: power_preflight(connection.shell, command, **options)
    host.inhibit()
    host.schedule_shutdown("")


@contextmanager
def replaced(path: Path, text: str) -> Iterator[None]:
    """Another content for a while, written in place: the file is mounted."""
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


def test_a_host_that_nothing_keeps_up_says_so(host: LightHost, ask: Ask) -> None:
    found = ask()
    assert found == PowerPreflight(
        found.user, REBOOT, host.boot_id, True, True, inhibitors=(), stopping=False
    )
    assert host.power_commands == []


def test_inhibitors_are_named_with_who_and_why_whatever_stands_in_their_words(
    host: LightHost, ask: Ask
) -> None:
    host.inhibit(WRITTEN, ("Upgrade", ""))
    assert ask().inhibitors == (BACKUP, Inhibitor("Upgrade", "", "block", 0, 4711, "root"))
    assert (ask().command, ask(POWER_OFF).command) == (REBOOT, POWER_OFF)


@pytest.mark.parametrize(("mode", "stops"), [("block", True), ("block-weak", True), ("delay", False)])
def test_who_merely_asks_for_a_delay_keeps_no_host_up(
    host: LightHost, ask: Ask, mode: str, stops: bool
) -> None:
    host.inhibit(("W", "w"), mode=mode)
    assert bool(ask().inhibitors) is stops


def test_an_inhibitor_of_sleep_alone_is_none_of_a_shutdown(host: LightHost, ask: Ask) -> None:
    with replaced(host.folder / "inhibitors", '1 "sleep:handle-lid-switch" "W" "w" "block" 0 1\n'):
        assert ask().inhibitors == ()


@pytest.mark.parametrize("command", [REBOOT, POWER_OFF])
def test_the_command_that_is_asked_for_is_the_one_that_would_be_sent(
    host: LightHost, ask: Ask, command: str
) -> None:
    assert ask(command, ignore_inhibitors=True).command == command
    host.inhibit(WRITTEN)
    assert ask(command, ignore_inhibitors=True).command == IGNORING_INHIBITORS[command]


def test_a_scheduled_shutdown_is_told_with_its_time(host: LightHost, ask: Ask) -> None:
    host.schedule_shutdown("poweroff", 1_900_000_000_000_000)
    assert ask().scheduled == ScheduledShutdown("poweroff", datetime(2030, 3, 17, 17, 46, 40, tzinfo=UTC))


def test_the_process_that_holds_the_lock_of_dpkg_is_named(host: LightHost, ask: Ask) -> None:
    with host.installing_packages() as pid:
        (lock,) = ask().package_locks
        assert (lock.path, lock.pid) == ("/var/lib/dpkg/lock-frontend", pid)
    assert ask().package_locks == ()


@pytest.mark.parametrize("text", ["*** Welcome\n", "", "4711\n"])
def test_a_boot_id_that_is_none_is_unreadable(host: LightHost, ask: Ask, text: str) -> None:
    with replaced(host.folder / "boot_id", text):
        assert ask().boot_id is None
    uuid.UUID(str(ask().boot_id))


def test_a_host_whose_logind_does_not_answer_tells_no_inhibitors(host: LightHost, ask: Ask) -> None:
    with replaced(host.folder / "busctl", "#!/bin/sh\necho 'Call failed: Connection refused' >&2\nexit 1\n"):
        found = ask()
    assert (found.inhibitors, found.untold, found.stopping) == (None, "Call failed: Connection refused", None)
    assert found.allowed is True


def test_the_refusal_of_systemd_257_is_told_as_the_inhibitors_it_is_for(host: LightHost) -> None:
    host.inhibit(WRITTEN)
    with connect(host.sshd.target()) as connection:
        shell = connection.shell
        until_s = power.uptime_s(shell) + 600
        with pytest.raises(ShutdownInhibited, match=r'“Backup "x"” .a restore at 50% é.: .*Access denied'):
            power.reboot(shell, host.boot_id, until_s)
        host.inhibit()
    assert host.power_commands == []


RULES = {
    "everything": ("ALL=(ALL) NOPASSWD: ALL", True, True),
    "the plain command alone": ("ALL=(root) NOPASSWD: /usr/bin/systemctl reboot", True, False),
    "any of systemctl": ("ALL=(root) NOPASSWD: /usr/bin/systemctl", True, True),
    "with a password": ("ALL=(ALL) ALL", False, False),
    "something else": ("ALL=(root) NOPASSWD: /usr/sbin/smartctl", False, False),
}


def test_sudo_is_asked_for_the_very_command(host: LightHost, ask: Ask) -> None:
    with TemporaryUser("power") as user, connect(host.sshd.target(user=user.name)) as connection:
        shell = connection.shell
        assert power_preflight(shell, REBOOT).allowed is False
        for name, (rule, plain, ignoring) in RULES.items():
            with user.sudoers(rule):
                host.inhibit()
                assert power_preflight(shell, REBOOT).allowed is plain, name
                host.inhibit(WRITTEN)
                found = power_preflight(shell, REBOOT, ignore_inhibitors=True)
                assert found.allowed is ignoring, name
        with user.sudoers(RULES["with a password"][0]):
            assert "password is required" in power_preflight(shell, REBOOT).refusal
