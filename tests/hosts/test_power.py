"""Power commands on light hosts: conditional on the boot, sent once, and told apart when refused."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.errors import (
    BootIdChanged,
    CommandTooLate,
    HostTimeout,
    HostUnreachable,
    InsufficientRightsOnHost,
    LoginShellUnusable,
    PowerRefused,
)
from nodes.hosts import power
from nodes.hosts.connection import connect
from nodes.hosts.shell import Shell
from nodes.hosts.target import HostTarget
from tests.lighthosts import AVAILABLE, LightHost, comes_true
from tests.network import ANYWHERE
from tests.sshd import LoopbackSshd, TemporaryUser

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs root, libvirtd and unshare")


def soon(shell: Shell) -> float:
    """An uptime of the host up to which a command is sure to arrive."""
    return power.uptime_s(shell) + 600


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LightHost]:
    with LightHost(tmp_path / "host", libvirtd=False, boot_s=0.5) as light:
        yield light


def test_a_reboot_is_over_when_another_boot_id_shows(host: LightHost) -> None:
    before = host.boot_id
    with connect(host.sshd.target()) as connection:
        assert power.boot_id(connection.shell) == before
        assert power.is_stopping(connection.shell) is False
        power.reboot(connection.shell, before, soon(connection.shell))
    assert comes_true(lambda: not host.is_on)
    assert host.wait_on()
    with connect(host.sshd.target()) as connection:
        assert power.boot_id(connection.shell) not in ("", before)
    assert host.power_commands == ["reboot"]


def test_a_command_sent_twice_does_not_hit_the_host_that_has_rebooted(host: LightHost) -> None:
    before = host.boot_id
    host.power_off()
    host.power_on()
    with connect(host.sshd.target()) as connection:
        for command in (power.reboot, power.power_off):
            with pytest.raises(BootIdChanged):
                command(connection.shell, before, soon(connection.shell))
        assert power.is_stopping(connection.shell) is False
    assert host.power_commands == []


def test_a_host_whose_shutdown_is_held_back_for_a_moment_is_stopping(host: LightHost) -> None:
    with connect(host.sshd.target()) as connection:
        # What systemd says, and after it what logind does.
        (host.folder / "state").write_text("running\nb true\n")
        assert power.is_stopping(connection.shell) is True
        (host.folder / "state").write_text("running\nb false\n")
        assert power.is_stopping(connection.shell) is False
        (host.folder / "state").write_text("degraded\n")
        assert power.is_stopping(connection.shell) is False


def test_a_command_that_comes_late_is_not_carried_out(host: LightHost) -> None:
    with connect(host.sshd.target()) as connection:
        now = power.uptime_s(connection.shell)
        assert now > 0
        for command in (power.reboot, power.power_off):
            with pytest.raises(CommandTooLate):
                command(connection.shell, host.boot_id, now)
    assert host.power_commands == []


def test_a_host_that_is_off_answers_nothing_and_one_without_sshd_still_answers(host: LightHost) -> None:
    target = host.sshd.target()
    assert power.answers(target, 2)
    host.sshd.stop()
    assert power.answers(target, 2), "a refusal is an answer"
    host.sshd.start()
    with connect(target) as connection:
        power.power_off(connection.shell, host.boot_id, soon(connection.shell))
    assert comes_true(lambda: not power.answers(target, 0.5))
    assert host.power_commands == ["poweroff"]
    host.power_on()
    assert power.answers(target, 2)


def test_a_host_whose_name_is_not_known_is_not_called_silent() -> None:
    with pytest.raises(HostUnreachable):
        power.answers(HostTarget("", "ssh", host="no-such-host.invalid", rules=ANYWHERE), 5)
    assert power.answers(HostTarget("", "local", rules=ANYWHERE))


def test_a_refusal_is_told_in_the_hosts_words(host: LightHost) -> None:
    host.refuse_power("Failed to reboot system via logind: There's already a shutdown in progress\n")
    with connect(host.sshd.target()) as connection, pytest.raises(PowerRefused) as caught:
        power.reboot(connection.shell, host.boot_id, soon(connection.shell))
    assert "already a shutdown in progress" in caught.value.message
    assert host.is_on


@pytest.mark.parametrize("killed", ["kill -9 0", "kill -9 $PPID"], ids=["with its session", "alone"])
def test_a_command_that_is_killed_proves_nothing_unless_the_host_says_that_it_goes_down(
    host: LightHost, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    monkeypatch.setattr(power, "SETTLES_S", 1.0)
    with connect(host.sshd.target()) as connection:
        shell, until_s = connection.shell, soon(connection.shell)
        with (
            host.systemctl_that(f"case $1 in reboot) {killed};; *) echo running;; esac"),
            pytest.raises(HostTimeout, match="without saying whether"),
        ):
            power.reboot(shell, host.boot_id, until_s)
        with host.systemctl_that(f"case $1 in reboot) {killed};; *) echo stopping;; esac"):
            power.reboot(shell, host.boot_id, until_s)
    assert host.power_commands == []


def test_a_command_that_is_killed_where_the_host_opens_no_session_any_more_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "SETTLES_S", 0.5)
    options = {"MaxSessions": "0"}
    with (
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options=options) as sshd,
        connect(sshd.target()) as connection,
        pytest.raises(HostTimeout, match="without saying whether"),
    ):
        power._require_stopping(connection.shell)


def test_a_command_that_the_login_shell_never_began_is_refused_and_not_left_open(
    host: LightHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "COMMAND_S", 1.0)
    with (
        TemporaryUser("power") as user,
        user.sudoers("ALL=(root) NOPASSWD: ALL"),
        connect(host.sshd.target(user=user.name)) as connection,
    ):
        until_s = soon(connection.shell)
        (user.home / ".ssh").mkdir(exist_ok=True)
        (user.home / ".ssh/rc").write_text("sleep 2\n")
        with pytest.raises(LoginShellUnusable, match="had not begun the command"):
            power.reboot(connection.shell, host.boot_id, until_s)
        time.sleep(1.5)
    assert host.is_on
    assert host.power_commands == []


def test_a_user_without_sudo_is_told_what_to_allow_and_one_with_it_may(host: LightHost) -> None:
    with TemporaryUser("power") as user:
        target = host.sshd.target(user=user.name)
        with connect(target) as connection, pytest.raises(InsufficientRightsOnHost) as caught:
            power.reboot(connection.shell, host.boot_id, soon(connection.shell))
        assert "systemctl reboot" in caught.value.remedy
        assert host.power_commands == []
        with user.sudoers("ALL=(root) NOPASSWD: /usr/bin/systemctl reboot"), connect(target) as connection:
            with pytest.raises(InsufficientRightsOnHost):
                power.power_off(connection.shell, host.boot_id, soon(connection.shell))
            power.reboot(connection.shell, host.boot_id, soon(connection.shell))
            assert comes_true(lambda: host.power_commands == ["reboot"])
            assert comes_true(lambda: not host.is_on)
        assert host.wait_on()


def test_what_is_no_boot_id_is_never_sent(host: LightHost) -> None:
    with connect(host.sshd.target()) as connection:
        with pytest.raises(ValueError, match="UUID"):
            power.reboot(connection.shell, "$(touch /tmp/never)", soon(connection.shell))
        with pytest.raises(BootIdChanged):
            power.reboot(connection.shell, str(uuid.uuid4()), soon(connection.shell))
    assert host.power_commands == []
