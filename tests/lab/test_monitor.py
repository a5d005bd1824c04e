"""Faults of a real host under the monitor at its default pace: the right reason, and in time.

Each fault adds a line to artifacts/monitor-faults.txt: seconds from the fault to the status, and from its end
to the recovery.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.hosts.host_key_scan import scan_host_keys
from nodes.models import Connection, ConnectionReason, Event, Heartbeat, Node
from nodes.models.credential import CredentialKind
from nodes.monitor.evidence import Timing
from nodes.monitor.loop import Monitor, MonitorSettings
from tests.factories import make_credential, make_node
from tests.lab.host import LabHost
from tests.lab.pace import pace
from tests.network import ANYWHERE
from tests.patience import Deadline, slowness

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = Path("artifacts/monitor-faults.txt")
SOCKETS = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket"


@pytest.fixture
def node(lab_plain: LabHost) -> Node:
    made = make_node(
        "lab-plain", uri=lab_plain.uri(), connection=Connection.UNKNOWN, last_seen_at=None,
        host_key=scan_host_keys(
            "127.0.0.1", lab_plain.ssh_port, timeout_s=20 * slowness(), rules=ANYWHERE
        )[0].to_text(),
    )  # fmt: skip
    make_credential(made, CredentialKind.SSH_KEY, private_key=lab_plain.private_key.read_text())
    return made


@pytest.fixture(autouse=True)
def monitor(node: Node) -> Iterator[Monitor]:
    watching = Monitor(MonitorSettings(Timing(), refresh_s=0))
    watching.start()
    until(node, Connection.ONLINE, "", 180)
    yield watching
    watching.stop()


def until(node: Node, connection: str, reason: str, seconds: float) -> float:
    """Wait until the node is so; gives the seconds it took."""
    deadline = Deadline(seconds)
    while not deadline.over():
        node.refresh_from_db()
        if (node.connection, node.connection_reason) == (connection, reason):
            return deadline.waited_s
        time.sleep(0.1)
    raise AssertionError(
        f"{connection} {reason} not within {deadline.seconds:g} s: {node.connection} {node.connection_reason}"
    )


def known_boot_id(node: Node) -> str:
    """The boot ID that the monitor has stored: it comes with the first batch, after the node is online."""
    deadline = Deadline(60)
    while not deadline.over():
        found = Heartbeat.objects.filter(node=node).values_list("boot_id", flat=True).first()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("no boot ID was stored")


def stays_online(node: Node, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        node.refresh_from_db()
        assert node.connection == Connection.ONLINE, node.connection_reason
        time.sleep(0.2)


def note(fault: str, found: float | None, back: float | None) -> None:
    TABLE.parent.mkdir(exist_ok=True)
    words = [f"{value:.1f}" if value is not None else "-" for value in (found, back)]
    with TABLE.open("a") as table:
        table.write(f"{fault:28} found_s {words[0]:>5} back_s {words[1]:>5}\n")


UNPLUGGED = (
    "lan=$(dirname $(grep -l 52:54:00:4c:01:02 /sys/class/net/*/address)); "
    "for try in $(seq 600); do read -r plugged <$lan/carrier; [ $plugged = 1 ] || break; sleep 0.5; done"
)
"""Waits on the plain host for :func:`signal`, which needs no way into it."""


def later(host: LabHost, commands: str) -> None:
    """Run ``commands`` on the host a second from now, out of the session's reach."""
    host.run(f"systemd-run --collect --quiet sh -c {_quoted('sleep 1; ' + commands)}")


def signal(host: LabHost) -> None:
    """Let the host go on that waits for :data:`UNPLUGGED`; the test's end plugs the cable in again."""
    host.set_link("lan", up=False)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def test_a_cut_network_is_unreachable_within_ten_seconds(lab_plain: LabHost, node: Node) -> None:
    lab_plain.cut_network()
    found = until(node, Connection.OFFLINE, ConnectionReason.UNREACHABLE, 90)
    lab_plain.restore_network()
    back = until(node, Connection.ONLINE, "", 180)
    note("black hole", found, back)
    assert max(found, back) <= 10 * pace(lab_plain)


def test_a_power_cut_is_unreachable_within_ten_seconds(lab_plain: LabHost, node: Node) -> None:
    before, keys = known_boot_id(node), lab_plain.fingerprints
    lab_plain.run("echo kept > /root/kept && sync")
    lab_plain.power_cut()
    assert not lab_plain.is_running()
    found = until(node, Connection.OFFLINE, ConnectionReason.UNREACHABLE, 90)
    lab_plain.start()
    lab_plain.wait_for_ssh()
    back = until(node, Connection.ONLINE, "", 180)
    note("power cut", found, back)
    assert found <= 10 * pace(lab_plain)
    assert Event.objects.filter(kind="host_rebooted", data__boot_id_before=before).count() == 1
    # What the lab promises of such a host: its disk and its keys, with which wait_for_ssh has logged in.
    assert lab_plain.run("cat /root/kept").stdout == "kept\n"
    assert lab_plain.fingerprints == keys
    lab_plain.wait_until_ready()


def test_a_stopped_sshd_is_unreachable_within_eight_seconds(lab_plain: LabHost, node: Node) -> None:
    later(lab_plain, f"pkill -x sshd; systemctl stop ssh; pkill -x sshd; {UNPLUGGED}; systemctl start ssh")
    found = until(node, Connection.OFFLINE, ConnectionReason.UNREACHABLE, 90) - 1
    signal(lab_plain)
    lab_plain.wait_for_ssh()
    back = until(node, Connection.ONLINE, "", 180)
    note("sshd and sessions stopped", found, back)
    assert max(found, back) <= 8 * pace(lab_plain)


def test_libvirtd_without_its_sockets_is_down_within_eight_seconds(lab_plain: LabHost, node: Node) -> None:
    lab_plain.run(f"systemctl stop {SOCKETS} libvirtd")
    found = until(node, Connection.OFFLINE, ConnectionReason.LIBVIRT_DOWN, 90)
    lab_plain.run(f"systemctl start {SOCKETS} libvirtd")
    back = until(node, Connection.ONLINE, "", 180)
    note("libvirtd and sockets stopped", found, back)
    assert max(found, back) <= 8 * pace(lab_plain)


def test_a_libvirtd_that_its_socket_starts_is_not_down(lab_plain: LabHost, node: Node) -> None:
    lab_plain.run("systemctl stop libvirtd", check=False)
    assert lab_plain.run("systemctl is-active libvirtd.socket", check=False).stdout.strip() == "active"
    stays_online(node, 12)
    note("idle libvirtd (no fault)", None, None)


def test_a_clock_an_hour_off_changes_nothing(lab_plain: LabHost, node: Node) -> None:
    lab_plain.run("date -s '+1 hour'")
    try:
        stays_online(node, 12)
        age = time.time() - Heartbeat.objects.get(node=node).seen_at.timestamp()  # type: ignore[union-attr]
        assert 0 <= age < 10 * pace(lab_plain)
    finally:
        lab_plain.run("date -s '-1 hour'")
    note("clock an hour off (no fault)", None, None)


def test_a_changed_host_key_is_told_at_the_next_connection(lab_plain: LabHost, node: Node) -> None:
    kind = node.host_key.split()[0]
    name = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(kind, "ecdsa")
    path = f"/etc/ssh/ssh_host_{name}_key"
    kill = "systemctl restart ssh; pkill -f '[s]shd: root'"
    change = f"mv {path} /root/kept; mv {path}.pub /root/kept.pub; ssh-keygen -q -t {name} -N '' -f {path}"
    back_again = f"mv /root/kept {path}; mv /root/kept.pub {path}.pub"
    later(lab_plain, f"{change}; {kill}; {UNPLUGGED}; {back_again}; {kill}")
    found = until(node, Connection.OFFLINE, ConnectionReason.HOST_KEY_MISMATCH, 120) - 1
    signal(lab_plain)
    until(node, Connection.ONLINE, "", 240)
    note("host key changed", found, None)
    assert found <= 10 * pace(lab_plain)


def test_a_reboot_from_inside_is_an_event_and_online_once_it_answers(lab_plain: LabHost, node: Node) -> None:
    before, machine = known_boot_id(node), lab_plain.run("cat /etc/machine-id").stdout
    lab_plain.run("systemctl reboot", check=False)
    away = until(node, Connection.OFFLINE, ConnectionReason.UNREACHABLE, 120)
    lab_plain.wait_for_reboot(before)
    back = until(node, Connection.ONLINE, "", 180)
    note("rebooted from inside", away, back)
    assert Event.objects.filter(kind="host_rebooted", node=node).count() == 1
    assert lab_plain.run("cat /etc/machine-id").stdout == machine
