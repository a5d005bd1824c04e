"""The sudoers file that is printed: sudo itself takes it, it allows all that is run, and nothing else."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from nodes.errors import UndeclaredCommand
from nodes.hosts import qemu_follow, qemu_logs
from nodes.hosts.connection import connect
from nodes.hosts.deadlines import Clock
from nodes.hosts.journal_filters import JournalFilters, bounds, command, export_options, selection
from nodes.hosts.power_preflight import power_preflight
from nodes.hosts.probe import collect
from nodes.hosts.qemu_follow import VmLogFollow
from nodes.hosts.rights import ASKED, IGNORING_INHIBITORS, POWER_OFF, REBOOT, preflight
from nodes.inventory.privileged import LIBVIRT_SOCKET, is_declared, sudoers
from nodes.inventory.registry import SECTIONS
from tests.sshd import IS_ROOT, LoopbackSshd, TemporaryUser

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="makes users of this machine")
ODD_PASSWORD = r"""qu'o"te $HOME\n%s `id` !"""
CURSOR = "s=6a0;i=1f;b=91e;m=2c;t=60a;x=7"
FILTERS = (
    JournalFilters(),
    JournalFilters(keyword="took too long - giving up", levels=(0, 3), boot="-1"),
    JournalFilters(keyword=r"a -b\ c[ -~]", regex=True),
    JournalFilters(services=("sshd.service", "cron"), since=datetime(2026, 1, 1, tzinfo=UTC)),
)


@pytest.fixture(scope="module")
def user() -> Iterator[TemporaryUser]:
    made = TemporaryUser("na-test-sudoers")
    made.password = ODD_PASSWORD
    with made:
        yield made


@contextmanager
def allowed(user: TemporaryUser, folder: Path, *, password: bool = False) -> Iterator[Path]:
    """The user has the printed file and nothing else; gives sudo's own log."""
    log = folder / "sudo.log"
    path = Path("/etc/sudoers.d") / user.name
    path.write_text(f"Defaults:{user.name} logfile={log}\n{sudoers(user.name, password=password)}")
    path.chmod(0o440)
    try:
        subprocess.run(["visudo", "-c", "-q", "-f", str(path)], check=True, capture_output=True)
        yield log
    finally:
        path.unlink()


def refusals(log: Path) -> list[str]:
    entries = log.read_text().replace("\n    ", " ").splitlines() if log.exists() else []
    return [entry for entry in entries if "not allowed" in entry or "incorrect password" in entry]


@contextmanager
def spied() -> Iterator[list[str]]:
    """Arguments and environments of processes meanwhile that have the password in them."""
    seen: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        text = (process / name).read_bytes()
                        if ODD_PASSWORD.encode() in text:
                            seen.append(text.decode(errors="replace"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("options", [[], ["--password"], ["--user", "ops_1"]])
def test_sudo_takes_the_file_that_is_printed(tmp_path, options):
    said = StringIO()
    call_command("sudoers", *options, stdout=said)
    path = tmp_path / "printed"
    path.write_text(said.getvalue())
    subprocess.run(["visudo", "-c", "-f", str(path)], check=True, capture_output=True)
    assert ("NOPASSWD" in said.getvalue()) is ("--password" not in options)
    assert ("ops_1 ALL=(root)" in said.getvalue()) is ("ops_1" in options)


def test_the_rule_for_polkit_names_the_user_and_libvirt_alone():
    said = StringIO()
    call_command("sudoers", "--polkit", stdout=said)
    assert 'subject.user === "nodeadmin"' in said.getvalue()
    assert said.getvalue().count("org.") == 1
    with pytest.raises(CommandError):
        call_command("sudoers", "--user", 'x" || true || "', stdout=said)


def journal_commands() -> list[str]:
    found = [
        command(["--list-boots", "--quiet"]),
        command(["--field=_SYSTEMD_UNIT", "--quiet"]),
        command(["--quiet", "--lines=0", "--follow"]),
        command(["--quiet", "--output=export", "--reverse", "--lines=1", f"--cursor={CURSOR}"]),
    ]
    for filters in FILTERS:
        options = [*export_options(), *selection(filters, with_grep=True)]
        for cursor in ("", CURSOR):
            at = bounds(filters, cursor=cursor, since=filters.since)
            found.append(command([*options, "--reverse", "--lines=102", *at]))
            found.append(command([*options, "--follow", "--no-tail", *at]))
    return found


ALLOWED = [REBOOT, POWER_OFF, *IGNORING_INHIBITORS.values(), LIBVIRT_SOCKET, *journal_commands()]
REFUSED = [
    "id",
    "sh -c id",
    "systemctl reboot --force",
    "systemctl start sshd",
    "cat /etc/shadow",
    "cat /etc/pki/qemu/server-key.pem",
    "cat /etc/pki/qemu/../qemu/ca-cert.pem",
    "ls -dL /root",
    "tail -c +1 -- /var/log/libvirt/qemu/../../../../etc/shadow",
    "tail -c +1 -- /var/log/libvirt/qemu/a.log shadow",
    "tail -c +1 -- '/var/log/libvirt/qemu/a.log\t/etc/shadow'",
    "tail -c +1 -F -- /var/log/libvirt/qemu/a.log",
    "find /var/log/libvirt/qemu -maxdepth 1 -type f -printf '%i %s %T@ %f/' -exec id ';'",
    "find / -maxdepth 1 -type f -printf '%i %s %T@ %f/'",
    "smartctl -s off /dev/sda",
    "smartctl -n standby -i -H -A -t long /dev/sda",
    "smartctl -n standby -i -H -A -B /etc/shadow /dev/sda",
    "smartctl -n standby -i -H -A /dev/../etc/shadow",
    "journalctl",
    "journalctl --vacuum-size=1 --no-pager",
    "journalctl --no-pager --rotate",
    "journalctl --no-pager --file=/etc/shadow",
    "journalctl --no-pager --cursor-file=/etc/cron.d/x",
    "journalctl --no-pager '--grep=x --cursor-file=/etc/cron.d/x'",
    "journalctl --no-pager -D /home",
    "lvm lvremove -f vg",
    "grep -as . /etc/shadow",
    "base64 /sys/bus/pci/devices/../../../../etc/shadow/vpd",
    "virt-ssh-helper lxc:///system",
    "sshd -T -C user=x,host=localhost,addr=127.0.0.1 -f /etc/shadow",
]


@pytest.mark.parametrize("words", ALLOWED)
def test_what_is_run_is_declared(words):
    assert is_declared(words)


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_not_run_is_not_declared(words):
    assert not is_declared(words)


def test_sudo_draws_the_same_line_as_the_table(tmp_path, user):
    """Asked by ``sudo -l``, which runs nothing."""
    probed = [words for words in ALLOWED if not words.startswith("virt-ssh-helper")] + REFUSED
    script = "\n".join(f"sudo -n -l -- {words} >/dev/null 2>&1 && echo yes || echo no" for words in probed)
    tmp_path.chmod(0o755)
    with (
        allowed(user, tmp_path),
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",)) as sshd,
        connect(sshd.target(user=user.name)) as connection,
    ):
        said = connection.shell.run("sh -s", stdin=script.encode(), timeout_s=60).stdout.decode().split()
    differs = [
        words for words, answer in zip(probed, said, strict=True) if (answer == "yes") != is_declared(words)
    ]
    assert differs == []


@pytest.mark.parametrize("password", [False, True], ids=["without a password", "with a password"])
def test_with_the_file_alone_a_probe_and_the_logs_of_vms_are_read_as_by_root(
    tmp_path, user, monkeypatch, password
):
    tmp_path.chmod(0o755)
    monkeypatch.setattr(qemu_follow, "SUDO_PAUSE_S", 0.2)
    folder = Path(qemu_logs.DIRECTORY)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    mode = folder.stat().st_mode & 0o7777
    folder.chmod(0o700)
    log, odd = folder / f"{user.name}.log", folder / f"{user.name} odd.log"
    for file in (log, odd):
        file.write_text("2023-11-14 22:13:00.000+0000: starting up\n")
        file.chmod(0o600)
    filters = JournalFilters(vm=user.name)
    try:
        with (
            allowed(user, tmp_path, password=password) as said,
            LoopbackSshd(tmp_path / "s", key_types=("ed25519",)) as sshd,
        ):
            stored = user.password if password else None
            with connect(sshd.target(user=user.name, sudo_password=stored)) as connection, spied() as seen:
                document = collect(connection, SECTIONS)
                denied = [name for name, one in document.sources.items() if one.status == "denied"]
                assert [name for name in denied if not name.startswith("libvirt:")] == []
                page = qemu_logs.read_lines(connection, filters, newest_first=True, places={}, timeout_s=20)
                assert [line.entry.message for line in page.lines] == ["starting up"]
                listed = qemu_logs.list_files(connection, "", Clock(20))
                assert {log.name} == {file.name for file in listed if user.name in file.name}
                follow = VmLogFollow(connection, filters, page.ends, 20)
                try:
                    with log.open("a") as writer:
                        writer.write("2023-11-14 22:14:00.000+0000: shutting down\n")
                    lines = []
                    while not any("shutting down" in line.entry.message for line in lines):
                        lines += follow.read(timeout_s=20) or []
                finally:
                    follow.close()
                with pytest.raises(UndeclaredCommand):
                    connection.shell.run("cat /etc/shadow", sudo=True, timeout_s=10)
            assert refusals(said) == []
            assert user.password not in "".join(seen) + said.read_text() + sshd.log
            assert "COMMAND=" in said.read_text()
    finally:
        for file in (log, odd):
            file.unlink()
        folder.chmod(mode)
        if made:
            folder.rmdir()


@pytest.mark.parametrize(("password", "stored"), [(False, False), (True, False), (True, True)])
def test_what_the_user_may_is_read_from_the_file_s_own_rules(tmp_path, user, password, stored):
    tmp_path.chmod(0o755)
    with (
        allowed(user, tmp_path, password=password),
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",)) as sshd,
        connect(sshd.target(user=user.name, sudo_password=user.password if stored else None)) as connection,
    ):
        rights = preflight(connection)
        power = power_preflight(connection.shell, REBOOT)
    may = stored or not password
    assert (rights.sudo, rights.sudo_asks, power.allowed) == (False, True, may)
    assert {command for command in ASKED if rights.may(command)} == (set(ASKED) if may else set())
    assert any("sudo wants a password" in text for text in rights.missing()) is not may


def test_a_stream_of_root_is_read_with_a_stored_password_and_a_wrong_one_is_said(tmp_path, user):
    tmp_path.chmod(0o755)
    with (
        allowed(user, tmp_path, password=True),
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",)) as sshd,
    ):
        with (
            connect(sshd.target(user=user.name, sudo_password=user.password)) as connection,
            connection.shell.stream("systemctl --version", typed=b"") as plain,
        ):
            assert b"systemd" in b"".join(plain)
            with connection.shell.stream("ls /etc/libvirt", sudo=True) as stream:
                listed = b"".join(stream)
            assert listed or stream.exit_status == 2
        with connect(sshd.target(user=user.name, sudo_password="wrong")) as connection:
            refused = connection.shell.run("ls /etc/libvirt", sudo=True, timeout_s=20)
            assert refused.exit_status == 1
            assert "password" in refused.error_text
