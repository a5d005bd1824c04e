"""The audit log leaves complete and in order: to a file, and to a real rsyslog that comes and goes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import transaction

from nodes.audit.exporter import Destination, Exporter, destinations, export_states
from nodes.audit.lines import last_number
from nodes.audit.syslog import SyslogTarget, message_of, send
from nodes.audit.verification import verify_file
from nodes.events import Actor, record
from nodes.models import Event, ExportCursor
from nodes.models.event import Via
from tests.factories import make_user
from tests.patience import Deadline
from tests.rsyslog import PROGRAM, Rsyslog, free_port

pytestmark = pytest.mark.django_db(transaction=True)
EVIL = 'a\nb] "quoted" \\ \x1b[31m\u202e‮ é 中'
needs_rsyslog = pytest.mark.skipif(PROGRAM is None, reason="rsyslogd is not installed")


@transaction.atomic
def write(count: int = 1, message: str = "Something was changed.", **more: Any) -> None:
    actor = Actor(None, "192.0.2.7", Via.API, "ci")
    for _number in range(count):
        record("user_changed", message, actor=actor, **more)


def numbers() -> set[int]:
    return set(Event.objects.sealed().values_list("number", flat=True))


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path, settings: object) -> Path:
    path = tmp_path / "audit.jsonl"
    settings.NODEADMIN_AUDIT_FILE = str(path)  # type: ignore[attr-defined]
    return path


def exporter() -> Exporter:
    [destination] = destinations()
    return Exporter(destination)


def test_the_file_has_every_entry_once_and_verifies_elsewhere(file):
    write(3, EVIL)
    one = exporter()
    assert one.export()
    write(2)
    assert one.export()
    assert [line["number"] for line in lines(file)] == [1, 2, 3, 4, 5, 6]
    assert file.stat().st_mode & 0o777 == 0o600
    assert "\x1b" not in file.read_text() and "\u202e" not in file.read_text()
    found = verify_file(file)
    assert found.is_clean, found.problems
    assert found.entries == 6


def test_a_rotated_file_is_begun_anew(file):
    one = exporter()
    write()
    one.export()
    file.rename(file.with_suffix(".1"))
    write()
    one.export()
    assert [line["number"] for line in lines(file)] == [3]


def test_half_a_line_of_a_killed_process_is_ended_and_its_entry_comes_again(file):
    write(2)
    exporter().export()
    whole = file.read_text()
    file.write_text(whole[:-20])
    ExportCursor.objects.update(number=2, lease_expires_at=None)  # it was killed before it could note it
    exporter().export()
    found = verify_file(file)
    assert [problem.code for problem in found.problems] == ["unreadable"]
    assert found.newest.number == 3


def test_an_entry_that_was_delivered_and_not_noted_comes_twice_and_never_not(file):
    write(2)
    exporter().export()
    ExportCursor.objects.update(number=1, lease_expires_at=None)
    exporter().export()
    assert [line["number"] for line in lines(file)] == [1, 2, 3, 2, 3]
    assert verify_file(file).is_clean


def test_of_two_processes_one_exports(file):
    write()
    first, second = exporter(), exporter()
    first.export()
    write()
    second.export()
    assert len(lines(file)) == 2
    first.export()
    assert len(lines(file)) == 3


def test_a_destination_that_takes_nothing_is_a_state_and_nothing_is_lost(file, settings):
    settings.NODEADMIN_AUDIT_FILE = str(file.parent / "missing" / "audit.jsonl")
    write(2)
    one = exporter()
    assert one.export() is False
    [state] = export_states()
    assert state.lag == 3
    assert "No such file" in state.cursor.error
    assert state.cursor.failed_since is not None
    (file.parent / "missing").mkdir()
    assert one.export() is True
    [state] = export_states()
    assert (state.lag, state.cursor.error, state.cursor.failed_since) == (0, "", None)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told[:3] + told[4:],
        lambda told: [*told[:2], told[2] | {"message": "Nothing."}, *told[3:]],
        lambda told: [*told[:2], told[3], told[2], *told[4:]],
        lambda told: [*told[:2], told[2] | {"number": 99}, *told[3:]],
        lambda told: [*told[:2], {"number": 3}, *told[3:]],
    ],
    ids=["removed", "altered", "moved", "renumbered", "emptied"],
)
def test_a_file_that_was_tampered_with_is_found_out(file, change):
    write(5)
    exporter().export()
    file.write_text("".join(json.dumps(line) + "\n" for line in change(lines(file))))
    assert not verify_file(file).is_clean


# -- the command -----------------------------------------------------------------------------------


def command(*words: str) -> str:
    out = StringIO()
    call_command("audit", *words, stdout=out)
    return out.getvalue()


def test_the_command_exports_goes_on_behind_what_is_there_and_verifies(tmp_path):
    path = tmp_path / "out.jsonl"
    write(2)
    command("export", str(path))
    write()
    command("export", str(path))
    assert [line["number"] for line in lines(path)] == [1, 2, 3, 4]
    assert last_number(path) == 4
    assert "Entries verified: 4. Problems: 0." in command("verify", "--from-file", str(path))
    assert json.loads(command("verify", "--json"))["clean"] is True


def test_the_command_takes_a_span(tmp_path):
    write(2)
    Event.objects.filter(number=2).update(created_at=datetime(2026, 3, 1, 12, tzinfo=UTC))
    span = ("--since", "2026-03-01", "--until", "2026-03-01")
    assert [json.loads(line)["number"] for line in command("export", "-", *span).splitlines()] == [2]
    with pytest.raises(CommandError, match="--since takes a day"):
        command("export", "-", "--since", "yesterday")


def test_the_command_fails_where_the_log_was_tampered_with(capsys):
    write(3)
    Event.objects.filter(number=3).update(message="x")
    with pytest.raises(SystemExit) as ended:
        command("verify")
    assert ended.value.code == 1


def test_a_loss_that_was_accepted_is_a_note_and_an_entry():
    write(4)
    Event.objects.filter(number__in=(3, 5)).delete()
    out = command("accept", "--reason", "The backup of Sunday was put back.")
    assert "their loss was accepted" in out and "Problems: 0" in out
    entry = Event.objects.get(kind="audit_loss_accepted")
    assert entry.data["reason"] == "The backup of Sunday was put back."
    assert "Entry 3 was removed." in entry.data["problems"]
    write()
    Event.objects.filter(number=4).delete()
    with pytest.raises(SystemExit):
        command("verify")


# -- syslog ----------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Rsyslog]:
    one = Rsyslog(tmp_path, certificates(tmp_path))
    one.start()
    yield one
    one.stop()


def certificates(directory: Path) -> tuple[Path, Path, Path]:
    """An authority, and a certificate of it for 127.0.0.1 with its key."""
    now = datetime.now(UTC)

    def make(
        name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None
    ) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = issuer or (subject, key)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        if issuer is not None:
            address = x509.DNSName("localhost")
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        text = builder.sign(signer[1], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (directory / f"{name}.pem").write_bytes(text)
        return key

    authority = make("ca", None)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    key = make("server", (name, authority))
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "server.key").write_bytes(text)
    return directory / "ca.pem", directory / "server.pem", directory / "server.key"


def to(url: str) -> Exporter:
    target = SyslogTarget.parse(url)
    return Exporter(
        Destination(str(target), lambda entries: send(target, [message_of(row) for row in entries]))
    )


def addresses(server: Rsyslog) -> dict[str, str]:
    return {
        "tcp": f"tcp://127.0.0.1:{server.tcp}",
        "udp": f"udp://127.0.0.1:{server.udp}",
        "tls": f"tls://localhost:{server.tls}?ca={server.directory}/ca.pem",
        "unix": f"unix://{server.socket}",
    }


@needs_rsyslog
@pytest.mark.parametrize("way", ["tcp", "udp", "tls", "unix"])
def test_rsyslog_understands_every_part_of_an_entry(server, way):
    write(1, EVIL, data={"after": {"note": EVIL}}, severity="warning")
    assert to(addresses(server)[way]).export()
    received = server.wait_for(numbers())
    assert [message.number for message in received] == [1, 2]
    entry, message = Event.objects.get(number=2), received[1]
    assert (message.priority, message.app, message.msgid) == (13 * 8 + 4, "nodeadmin", "user_changed")
    assert message.data["source_ip"] == "192.0.2.7"
    assert (message.data["via"], message.data["token"]) == ("api", "ci")
    assert message.data["chain_mac"] == entry.chain_mac
    assert json.loads(message.data["data"]) == entry.data
    assert message.text == 'a\ufffdb] "quoted" \\ \\x1b[31m\\u202e\\u202e é 中'


@needs_rsyslog
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_rsyslog_that_ends_in_the_middle_and_comes_back_has_everything(server, end):
    one = to(addresses(server)["tcp"])
    write(50)
    assert one.export()
    server.wait_for(numbers())
    getattr(server, end)()
    write(30)
    assert one.export() is False
    [state] = export_states()
    assert (state.lag, bool(state.cursor.error)) == (30, True)
    server.start()
    write(20)
    wait = Deadline(10)
    while not one.export():
        assert not wait.over(), export_states()[0].cursor.error
    assert {message.number for message in server.wait_for(numbers())} == numbers()


@needs_rsyslog
def test_entries_written_while_rsyslog_is_restarted_again_and_again_all_arrive(server):
    """The exporter's own thread, as in a server."""
    one = to(addresses(server)["tcp"])
    one.start()
    for _round in range(3):
        write(10)
        server.stop()
        write(5)
        server.start()
    received = server.wait_for(numbers())
    one.stop(5)
    assert {message.number for message in received} == numbers()
    order = list(dict.fromkeys(message.number for message in received))
    assert order == sorted(order)


@needs_rsyslog
def test_a_certificate_of_an_unknown_authority_gets_nothing(server):
    one = to(f"tls://localhost:{server.tls}")
    write()
    assert one.export() is False
    assert "certificate" in export_states()[0].cursor.error.lower()
    assert not server.received()


@needs_rsyslog
def test_a_certificate_for_another_name_gets_nothing(server):
    one = to(f"tls://127.0.0.1:{server.tls}?ca={server.directory}/ca.pem")
    write()
    assert one.export() is False
    assert not server.received()


def test_a_receiver_that_takes_nothing_holds_nobody_longer_than_its_deadline(monkeypatch):
    monkeypatch.setattr("nodes.audit.syslog.DEADLINE_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        write(3)
        assert to(f"tcp://127.0.0.1:{silent.getsockname()[1]}").export() is False
    assert export_states()[0].lag == 4


def test_a_receiver_that_ends_with_messages_unread_gets_them_again():
    """It accepted the connection, and all was sent: to TCP that is a success."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def crash() -> None:
        peer, _address = listener.accept()
        peer.recv(10)
        peer.close()  # with unread data in its buffer: the kernel answers with a reset

    thread = threading.Thread(target=crash)
    thread.start()
    write(300)
    assert to(f"tcp://127.0.0.1:{listener.getsockname()[1]}").export() is False
    thread.join()
    listener.close()
    assert export_states()[0].lag == 301


def test_an_exporter_whose_receiver_is_away_stops_at_once():
    one = to(f"tcp://127.0.0.1:{free_port()}")
    write()
    one.start()
    one.stop(5)
    assert not any(thread.name == "audit-export" for thread in threading.enumerate())


@pytest.mark.parametrize(
    "url",
    ["http://x", "tcp://", "tcp://h:99999", "udp://h/path", "tls://h?cert=x", "tcp://h?ca=/x",
    "unix://host/x",
     "tcp://me@h", "unix:relative", "x"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ImproperlyConfigured, match="NODEADMIN_AUDIT_SYSLOG takes"):
        SyslogTarget.parse(url)


def test_addresses_have_the_ports_of_their_protocols():
    made = [
        str(SyslogTarget.parse(url)) for url in ("udp://h", "tcp://[::1]", "tls://h?ca=/x", "unix:///dev/log")
    ]
    assert made == ["udp://h:514", "tcp://[::1]:601", "tls://h:6514", "unix:///dev/log"]


def test_a_very_long_entry_is_cut_and_says_so():
    write(1, "x" * 100_000, data={"after": "y" * 100_000})
    message = message_of(Event.objects.get(number=2))
    assert len(message) < 10_000
    assert b'data_cut="1"' in message


def test_what_one_user_does_is_exported_with_their_name():
    record("signed_in", "Signed in.", actor=Actor(make_user("ada"), "192.0.2.7", Via.PAGE))
    assert b'user="ada"' in message_of(Event.objects.get(kind="signed_in"))
