"""add-node and update-node over a real sshd and a real libvirtd: every way in, and every way it fails."""

from __future__ import annotations

import grp
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from nodes import access
from nodes.engine.claim import expire_all
from nodes.errors import CredentialUnreadable, LibvirtUnavailable
from nodes.models import Credential, Event, JumpHost, Node, Operation, OperationStatus, Snapshot
from nodes.models.credential import CredentialKind
from nodes.models.sealed import BoundSecret, SecretFor
from nodes.operations import add_node, refresh_node
from nodes.operations.base import ClaimLost
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.factories import secret_of
from tests.hosts.test_host_key_scan import dropping_after
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.sshd import ME, LoopbackSshd, TemporaryUser, make_key

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(not AVAILABLE, reason="needs root, libvirtd and unshare"),
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibvirtHost]:
    with LibvirtHost(tmp_path_factory.mktemp("host")) as libvirt_host:
        libvirt_host.virsh("capabilities")
        yield libvirt_host


@dataclass
class Wizard:
    """Adds a host as the wizard does: address, fingerprint, credential."""

    api: Api
    sshd: LoopbackSshd

    def body(self, **changes: Any) -> dict[str, Any]:
        return {
            "name": "kvm-01",
            "uri": f"qemu+ssh://{ME}@127.0.0.1:{self.sshd.port}/system",
            "host_key_fingerprint": self.sshd.host_key().fingerprint,
            "credential": {"kind": "ssh_key", "private_key": self.sshd.user_key.read_text()},
        } | changes

    def add(self, **changes: Any) -> Operation:
        status, answer = self.api("add-node", self.body(**changes))
        assert status == 202, answer
        (ended,) = run_queued()
        return ended


@pytest.fixture
def wizard(administrator, host) -> Wizard:
    return Wizard(Api(administrator), host.sshd)


def failed_step(operation: Operation) -> str | None:
    return operation.steps.filter(status="failed").values_list("code", flat=True).first()


def test_the_scan_shows_the_keys_that_the_host_has_and_trusts_nothing(wizard):
    status, body = wizard.api("scan-host-key", {"uri": wizard.body()["uri"]})
    assert status == 200
    assert {"type": "ssh-ed25519", "fingerprint": wizard.sshd.host_key().fingerprint} in body["keys"]
    assert not Operation.objects.exists()


def test_the_same_host_is_refused_under_another_name_and_address(wizard):
    assert wizard.add(name="here").status == OperationStatus.SUCCEEDED
    second = wizard.add(name="here-too", uri=wizard.body()["uri"].replace("127.0.0.1", "localhost"))
    assert second.status == OperationStatus.FAILED
    assert second.error["code"] == "duplicate_host"
    assert "here" in second.error["detail"]
    assert Node.objects.count() == 1
    assert Snapshot.objects.count() == 1


def test_a_host_joins_with_hardware_libvirt_and_a_sealed_credential(wizard):
    ended = wizard.add(labels={"rack": "b2"})
    assert ended.status == OperationStatus.SUCCEEDED, (failed_step(ended), ended.error)
    node = Node.objects.get()
    assert node.host_key_fingerprint == wizard.sshd.host_key().fingerprint
    assert (node.connection, node.virtualization_type != "", node.libvirt_version != "") == (
        "online",
        True,
        True,
    )
    assert node.cpu_threads
    assert node.memory_total_bytes
    assert node.boot_id
    credential = Credential.objects.get(node=node)
    assert credential.kind == CredentialKind.SSH_KEY
    private = wizard.sshd.user_key.read_text()
    assert secret_of(node)["private_key"] == private
    status, body = wizard.api("describe-node", {"node": "kvm-01"})
    assert (status, body["credential_kind"]) == (200, "ssh_key")
    assert private.split()[5] not in str(body)


def test_refreshing_uses_the_stored_login_and_gives_utilization(wizard):
    wizard.add()
    assert wizard.api("refresh-node", {"node": "kvm-01"})[0] == 202
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    time.sleep(1.1)
    wizard.api("refresh-node", {"node": "kvm-01"})
    run_queued()
    assert 0 <= Node.objects.get().cpu_used_percent <= 100


def test_a_libvirt_that_takes_connections_and_does_not_answer_is_no_host_that_is_well(
    wizard, host, monkeypatch
):
    monkeypatch.setattr(refresh_node, "SECOND_LOOK_S", 2.0)
    wizard.add()
    host.freeze_libvirtd()
    try:
        wizard.api("refresh-node", {"node": "kvm-01"})
        (ended,) = run_queued()
    finally:
        host.thaw_libvirtd()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    node = Node.objects.get()
    assert (node.connection, node.connection_reason) == ("offline", "probe_failing")
    assert "libvirt" in node.connection_detail
    wizard.api("refresh-node", {"node": "kvm-01"})
    run_queued()
    node.refresh_from_db()
    assert (node.connection, node.connection_reason) == ("online", "")


def test_a_wrong_key_is_a_failed_login_that_says_what_was_tried(wizard, tmp_path):
    stranger = make_key(tmp_path / "other").read_text()
    ended = wizard.add(credential={"kind": "ssh_key", "private_key": stranger})
    assert (failed_step(ended), ended.error["code"]) == ("authenticate", "authentication_failed")
    assert ME in ended.error["detail"]
    assert "PRIVATE" not in str(ended.error)


def test_a_key_that_is_none_is_named_as_such(wizard):
    ended = wizard.add(credential={"kind": "ssh_key", "private_key": "certainly no key"})
    assert (failed_step(ended), ended.error["code"]) == ("authenticate", "authentication_failed")
    assert "certainly" not in str(ended.error)


def test_another_fingerprint_than_the_host_shows_stops_before_the_credential(wizard):
    before = len(wizard.sshd.log)
    ended = wizard.add(host_key_fingerprint="SHA256:" + "A" * 43)
    assert (failed_step(ended), ended.error["code"]) == ("host_key", "host_key_mismatch")
    assert wizard.sshd.host_key().fingerprint in ended.error["detail"]
    assert "SHA256:" + "A" * 43 in ended.error["detail"]
    assert "publickey" not in wizard.sshd.log[before:]


def test_a_host_that_takes_one_connection_at_a_time_joins_and_is_suspected_of_nothing(administrator, host):
    options = {"PerSourceMaxStartups": "1"}
    with LoopbackSshd(host.folder / "one", options=options, prefix=host.inside) as sshd:
        wizard = Wizard(Api(administrator), sshd)
        status, scan = wizard.api("scan-host-key", {"uri": wizard.body()["uri"]})
        assert (status, scan["complete"], scan["missing"]) == (200, True, [])
        assert len(scan["keys"]) == 3
        for number, known in enumerate(({}, {"host_key_type": "ecdsa-sha2-nistp256"})):
            fingerprint = sshd.host_key("ecdsa").fingerprint
            ended = wizard.add(name=f"kvm-{number}", host_key_fingerprint=fingerprint, **known)
            assert ended.status == OperationStatus.SUCCEEDED, (failed_step(ended), ended.error)
            assert Node.objects.get().host_key_fingerprint == fingerprint
            Node.objects.all().delete()


@pytest.mark.parametrize(
    ("known", "reason", "suspected"),
    [
        ({"host_key_type": "ssh-ed25519"}, "differs", True),
        ({"host_key_type": "ecdsa-sha2-nistp384"}, "type_missing", False),
        ({}, "not_shown", False),
    ],
)
def test_somebody_in_between_is_suspected_only_where_a_key_of_the_confirmed_type_differs(
    wizard, known, reason, suspected
):
    ended = wizard.add(host_key_fingerprint="SHA256:" + "A" * 43, **known)
    assert (failed_step(ended), ended.error["code"]) == ("host_key", "host_key_mismatch")
    assert ended.error["reason"] == reason
    assert ("in between" in ended.error["remedy"]) is suspected


def test_a_host_that_stops_answering_the_scan_is_unreachable_and_suspected_of_nothing(
    wizard, settings, tmp_path
):
    settings.NODEADMIN_HOST_TIMEOUT_S = 2.0
    with LoopbackSshd(tmp_path) as sshd, dropping_after(1, sshd) as port:
        ended = wizard.add(
            uri=f"qemu+ssh://{ME}@127.0.0.1:{port}/system",
            host_key_fingerprint=sshd.host_key("rsa").fingerprint,
        )
    assert (failed_step(ended), ended.error["code"]) == ("host_key", "host_unreachable")
    assert "in between" not in str(ended.error)


def test_a_closed_port_and_an_unknown_name_are_unreachable(wizard, settings):
    settings.NODEADMIN_HOST_TIMEOUT_S = 1.0
    for name, address in (("closed", "127.0.0.1:1"), ("unknown", "no-such-host.invalid")):
        ended = wizard.add(uri=f"qemu+ssh://root@{address}/system", name=name)
        assert (failed_step(ended), ended.error["code"]) == ("reach", "host_unreachable"), ended.error
        assert ended.error["retryable"] is True


def test_a_host_that_accepts_and_says_nothing_times_out_within_its_deadline(wizard, settings):
    settings.NODEADMIN_HOST_TIMEOUT_S = 2.0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        ended = wizard.add(uri=f"qemu+ssh://root@127.0.0.1:{silent.getsockname()[1]}/system")
        assert time.monotonic() - started < 6
    assert (failed_step(ended), ended.error["code"]) == ("reach", "host_unreachable")


def test_a_host_without_libvirt_is_named_at_its_step_and_leaves_nothing(administrator, tmp_path):
    tmp_path.chmod(0o755)
    with LibvirtHost(tmp_path / "bare", libvirtd=False) as bare:
        ended = Wizard(Api(administrator), bare.sshd).add()
    assert (failed_step(ended), ended.error["code"]) == ("libvirt", "libvirt_unavailable")
    assert ended.error["remedy"]
    assert not Node.objects.exists()
    assert not Credential.objects.exists()


@pytest.mark.parametrize(
    ("shell", "says"),
    [
        ("/usr/sbin/nologin", "“This account is currently not available.”"),
        ("/bin/false", "(exit status 1)"),
        ("/bin/rbash", "restricted"),
    ],
)
def test_a_login_shell_that_runs_nothing_is_refused_at_the_rights_and_leaves_nothing(
    administrator, host, shell, says
):
    with (
        TemporaryUser("nodeadmin-ls", shell=shell) as user,
        LoopbackSshd(host.folder / "shell", prefix=host.inside) as sshd,
    ):
        ended = Wizard(Api(administrator), sshd).add(
            uri=f"qemu+ssh://{user.name}@127.0.0.1:{sshd.port}/system"
        )
    assert (failed_step(ended), ended.error["code"]) == ("rights", "login_shell_unusable")
    assert says in ended.error["detail"]
    assert "usermod -s" in ended.error["remedy"]
    assert "Install libvirt" not in str(ended.error)
    assert ended.steps.get(code="rights").message != "Everything needed is allowed."
    assert not Node.objects.exists()


@pytest.mark.parametrize(("sessions", "connections"), [(1, 3), (2, 2)])
def test_a_host_that_allows_few_sessions_joins_and_says_so(administrator, host, sessions, connections):
    options = {"MaxSessions": str(sessions)}
    with LoopbackSshd(host.folder / "few", options=options, prefix=host.inside) as sshd:
        wizard = Wizard(Api(administrator), sshd)
        ended = wizard.add()
        assert ended.status == OperationStatus.SUCCEEDED, (failed_step(ended), ended.error)
        assert f"(MaxSessions): {connections} are used" in ended.steps.get(code="rights").message
        wizard.api("refresh-node", {"node": "kvm-01"})
        assert run_queued()[0].status == OperationStatus.SUCCEEDED
        access.close_pool()


def test_a_host_that_allows_no_session_is_refused_at_the_rights(administrator, host):
    with LoopbackSshd(host.folder / "none", options={"MaxSessions": "0"}, prefix=host.inside) as sshd:
        ended = Wizard(Api(administrator), sshd).add()
    assert (failed_step(ended), ended.error["code"]) == ("rights", "host_unreachable")
    assert "MaxSessions" in ended.error["detail"]
    assert "sshd -T" in ended.error["remedy"]
    assert not Node.objects.exists()


def test_the_same_host_under_another_name_is_a_duplicate(wizard):
    wizard.add()
    ended = wizard.add(name="kvm-02")
    assert (failed_step(ended), ended.error["code"]) == ("identity", "duplicate_host")
    assert "kvm-01" in ended.error["detail"]
    assert f"machine ID {Node.objects.get().machine_id}" in ended.error["detail"]
    assert "cloned" in ended.error["remedy"]
    assert "systemd-machine-id-setup" in ended.error["remedy"]
    assert Node.objects.count() == 1


def test_a_duplicate_is_not_named_to_who_may_not_see_it(wizard, operator):
    from django.contrib.auth.models import Permission

    wizard.add()
    operator.user_permissions.add(
        Permission.objects.get(codename="add_node", content_type__app_label="nodes")
    )
    other = Wizard(Api(operator), wizard.sshd)
    ended = other.add(name="kvm-02")
    assert ended.error["code"] == "duplicate_host"
    assert "kvm-01" not in str(ended.error)


def test_a_changed_host_key_is_refused_until_it_is_confirmed(administrator, tmp_path):
    tmp_path.chmod(0o755)
    with LibvirtHost(tmp_path / "host") as changing:
        wizard = Wizard(Api(administrator), changing.sshd)
        assert wizard.add().status == OperationStatus.SUCCEEDED
        before = changing.sshd.host_key().fingerprint
        access.close_pool()
        changing.sshd.change_host_key()
        after = changing.sshd.host_key().fingerprint
        wizard.api("refresh-node", {"node": "kvm-01"})
        (refused,) = run_queued()
        assert refused.error["code"] == "host_key_mismatch"
        assert before in refused.error["detail"]
        assert after in refused.error["detail"]
        node = Node.objects.get()
        assert (node.status, node.connection_reason) == ("offline", "host_key_mismatch")
        change = {"node": "kvm-01", "host_key_fingerprint": after}
        status, body = wizard.api("update-node", change)
        assert (status, body["code"], body["differs"]) == (422, "credential_not_for_target", ["proof"])
        status, body = wizard.api("update-node", change | {"credential": wizard.body()["credential"]})
        assert status == 202, body
        (updated,) = run_queued()
        assert updated.status == OperationStatus.SUCCEEDED, updated.error
        node.refresh_from_db()
        assert (node.host_key_fingerprint, node.status) == (after, "online")


def test_a_kept_secret_is_not_told_as_changed_when_the_connection_is_replaced(wizard):
    wizard.add()
    row = Credential.objects.get()
    row.sudo_secret = SecretFor(access.binding_of_node(row.node), {"sudo_password": "of the user"})
    row.save()
    sealed = Credential.objects.values_list("secret", "sudo_secret").get()
    Event.objects.all().delete()
    body = {"node": "kvm-01", "host_key_fingerprint": wizard.sshd.host_key().fingerprint}
    assert wizard.api("update-node", body)[0] == 202
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert Credential.objects.values_list("secret", "sudo_secret").get() == sealed
    assert not Event.objects.filter(kind="credential_changed").exists()
    # The sudo password goes on with a new key, and the key alone is told as changed.
    assert wizard.api("update-node", body | {"credential": wizard.body()["credential"]})[0] == 202
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert Credential.objects.values_list("sudo_secret", flat=True).get() == sealed[1]
    entry = Event.objects.get(kind="credential_changed")
    assert entry.data == {"before": {"secret": "set"}, "after": {"secret": "changed"}}
    assert (entry.operation, entry.user_name) == (ended, ended.requested_by_name)


def test_a_wrong_new_credential_leaves_the_old_one_in_force(wizard, tmp_path):
    wizard.add()
    kept = secret_of(Node.objects.get())
    stranger = make_key(tmp_path / "other").read_text()
    body = {"node": "kvm-01", "credential": {"kind": "ssh_key", "private_key": stranger}}
    assert wizard.api("update-node", body)[0] == 202
    (ended,) = run_queued()
    assert ended.error["code"] == "authentication_failed"
    assert secret_of(Node.objects.get()) == kept
    wizard.api("refresh-node", {"node": "kvm-01"})
    assert run_queued()[0].status == OperationStatus.SUCCEEDED


def test_nodeadmins_own_key_opens_a_host_that_knows_it(wizard):
    wizard.sshd.authorize(access.own_key_pair().public_key)
    ended = wizard.add(credential={"kind": "nodeadmin_key"})
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert Credential.objects.get().secret is None


def test_secrets_are_in_no_row_answer_or_log(wizard, capsys, caplog):
    secret = "tr0ub4dor-and-three"
    ended = wizard.add(credential={"kind": "password", "password": secret, "user": ME})
    assert ended.status == OperationStatus.FAILED
    rows = [*Operation.objects.values(), *ended.steps.values(), *ended.events.values()]
    printed = capsys.readouterr()
    assert secret not in f"{rows} {printed.out} {printed.err} {caplog.text}"
    assert secret not in str(wizard.api("list-operations"))


def test_keys_rotate_and_old_secrets_still_open(wizard, settings):
    from cryptography.fernet import Fernet
    from django.core.management import call_command

    wizard.add()
    old = settings.NODEADMIN_SEAL_KEYS
    new = Fernet.generate_key().decode()
    settings.NODEADMIN_SEAL_KEYS = f"{new},{old}"
    call_command("rotate_keys")
    settings.NODEADMIN_SEAL_KEYS = new
    assert "private_key" in secret_of(Node.objects.get())
    settings.NODEADMIN_SEAL_KEYS = old
    with pytest.raises(CredentialUnreadable):
        secret_of(Node.objects.get())


def test_the_stored_secret_is_not_readable_in_the_database_file(wizard):
    from django.db import connection

    wizard.add()
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM nodes_credential")
        (raw,) = cursor.fetchone()
    assert b"PRIVATE KEY" not in bytes(raw)


@pytest.fixture
def password_host(host) -> Iterator[tuple[LoopbackSshd, TemporaryUser]]:
    """A further sshd of the same host that takes passwords, and a user who may open libvirt's socket."""
    with TemporaryUser("nodeadmin-pw") as user:
        options = {"PasswordAuthentication": "yes", "UsePAM": "no"}
        sudo = user.sudoers("ALL=(ALL) NOPASSWD: ALL")
        with sudo, LoopbackSshd(host.folder / "pw", options=options, prefix=host.inside) as sshd:
            yield sshd, user


def test_a_password_is_used_once_to_install_the_key_and_then_forgotten(administrator, password_host):
    sshd, user = password_host
    wizard = Wizard(Api(administrator), sshd)
    credential = {"kind": "password", "user": user.name, "password": user.password, "install_key": True}
    ended = wizard.add(uri=f"qemu+ssh://127.0.0.1:{sshd.port}/system", credential=credential)
    assert ended.status == OperationStatus.SUCCEEDED, (failed_step(ended), ended.error)
    stored = Credential.objects.get()
    assert (stored.kind, stored.secret) == (CredentialKind.NODEADMIN_KEY, None)
    assert access.own_key_pair().public_key.split()[1] in (user.home / ".ssh/authorized_keys").read_text()
    assert Node.objects.get().uri == f"qemu+ssh://{user.name}@127.0.0.1:{sshd.port}/system"


@pytest.mark.parametrize("installs", [True, False], ids=["with the key installed", "with a kept password"])
def test_a_sudo_password_is_stored_for_its_host_and_used_whenever_root_is_needed(
    administrator, host, caplog, installs
):
    with TemporaryUser("nodeadmin-su") as user:
        options = {"PasswordAuthentication": "yes", "UsePAM": "no"}
        sudo = user.sudoers("ALL=(ALL) ALL")
        with sudo, LoopbackSshd(host.folder / "su", options=options, prefix=host.inside) as sshd:
            wizard = Wizard(Api(administrator), sshd)
            uri = f"qemu+ssh://{user.name}@127.0.0.1:{sshd.port}/system"
            credential = {"kind": "password", "password": user.password, "install_key": installs}
            refused = wizard.add(name="without", uri=uri, credential=credential)
            assert "sudo wants a password" in refused.steps.get(code="rights").message
            credential["sudo_password"] = user.password
            body = wizard.body(uri=uri, credential=credential)
            Node.objects.all().delete()
            assert wizard.api("add-node", body)[0] == 202
            (ended,) = run_queued()
            assert ended.status == OperationStatus.SUCCEEDED, (failed_step(ended), ended.error)
            assert ended.steps.get(code="rights").data["sudo"] is True
            node = Node.objects.get()
            stored = Credential.objects.get()
            binding = access.binding_of_node(node)
            assert BoundSecret.of(stored.sudo_secret).open_for(binding) == {"sudo_password": user.password}
            assert (stored.secret is None) is installs
            assert access.target_for(node).sudo_password == user.password
            with access.connect_once(access.target_for(node)) as connection:
                assert connection.shell.run("ls /etc/libvirt", sudo=True, timeout_s=20).exit_status in (0, 2)
            # Another user's: it is asked for again, whatever opens the host.
            status, answer = wizard.api(
                "update-node", {"node": node.name, "uri": body["uri"].replace(user.name, ME)}
            )
            assert (status, answer["code"]) == (422, "credential_not_for_target")
            forget = {"kind": "nodeadmin_key", "sudo_password": ""}
            wizard.sshd.authorize(access.own_key_pair().public_key)
            assert wizard.api("update-node", {"node": node.name, "credential": forget})[0] == 202
            (ended,) = run_queued()
            # This user reaches libvirt through sudo alone: what is stored stays until something better works.
            assert (failed_step(ended), ended.error["code"]) == ("libvirt", "insufficient_rights_on_host")
            assert Credential.objects.get().sudo_secret is not None
            rows = [*Operation.objects.values(), *Event.objects.values()]
            assert user.password not in f"{rows} {caplog.text} {sshd.log}"


def with_password(wizard: Wizard, sshd: LoopbackSshd, user: TemporaryUser) -> None:
    """Ask for the host by the user's password, which is to install the key."""
    credential = {"kind": "password", "user": user.name, "password": user.password, "install_key": True}
    body = wizard.body(uri=f"qemu+ssh://127.0.0.1:{sshd.port}/system", credential=credential)
    status, answer = wizard.api("add-node", body)
    assert status == 202, answer


def test_once_the_key_works_no_step_and_no_connection_has_the_password(
    administrator, password_host, monkeypatch
):
    sshd, user = password_host
    seen: list[Any] = []

    def fails(run: Any, connection: Any) -> None:
        seen.append((Operation.objects.get().secret, run.operation.secret))
        assert connection.shell.run("true", timeout_s=10).ok
        seen.append(user.password in repr([asdict(connection._ssh._target), vars(connection)]))
        raise LibvirtUnavailable("as in a test")

    monkeypatch.setattr(add_node, "check_libvirt", fails)
    with_password(Wizard(Api(administrator), sshd), sshd, user)
    (ended,) = run_queued()
    assert ended.error["code"] == "libvirt_unavailable"
    assert seen == [(None, None), False]
    assert Operation.objects.get().secret is None


def test_a_run_that_dies_after_the_key_was_installed_is_resumed_by_the_key(
    administrator, password_host, monkeypatch
):
    sshd, user = password_host

    def dies(run: Any, connection: Any) -> None:
        raise ClaimLost

    with monkeypatch.context() as patched:
        patched.setattr(add_node, "check_libvirt", dies)
        with_password(Wizard(Api(administrator), sshd), sshd, user)
        run_queued(1)
    assert Operation.objects.get().secret is None
    by_password = sshd.log.count("Accepted password")
    expire_all()
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, (failed_step(ended), ended.error)
    assert sshd.log.count("Accepted password") == by_password
    assert Credential.objects.get().kind == CredentialKind.NODEADMIN_KEY


@pytest.mark.parametrize(
    ("options", "mode", "says"),
    [
        ({"StrictModes": "yes"}, 0o777, "(mode 777), so sshd ignores the keys"),
        ({"StrictModes": "yes"}, 0o775, "(mode 775): sshd ignores the keys unless"),
        ({"AuthorizedKeysFile": "/etc/ssh/keys-of-%u"}, 0o755, "(AuthorizedKeysFile /etc/ssh/keys-of-"),
    ],
    ids=["home that all may write", "home that a group may write", "keys elsewhere"],
)
def test_a_key_that_was_installed_and_is_refused_names_the_cause_and_never_says_to_put_it_there(
    administrator, host, options, mode, says
):
    more = {"PasswordAuthentication": "yes", "UsePAM": "no"} | options
    with (
        TemporaryUser("nodeadmin-sm") as user,
        user.sudoers("ALL=(ALL) NOPASSWD: ALL"),
        LoopbackSshd(host.folder / "strict", options=more, prefix=host.inside) as sshd,
        as_the_hosts_own(host, sshd),
    ):
        os.chown(user.home, user.uid, grp.getgrnam("users").gr_gid)
        user.home.chmod(mode)
        credential = {"kind": "password", "user": user.name, "password": user.password, "install_key": True}
        ended = Wizard(Api(administrator), sshd).add(
            uri=f"qemu+ssh://127.0.0.1:{sshd.port}/system", credential=credential
        )
    assert (failed_step(ended), ended.error["code"]) == ("install_key", "authentication_failed")
    assert "The key was written to" in ended.error["detail"]
    assert says in ended.error["detail"]
    assert "has to be in" not in str(ended.error)
    for candidate in ("StrictModes", "authorizedkeysfile", "AllowUsers", "passwd -S"):
        assert candidate in ended.error["remedy"]
    assert not Node.objects.exists()


@contextmanager
def as_the_hosts_own(host: LibvirtHost, sshd: LoopbackSshd) -> Iterator[None]:
    """What sshd is configured by lies where it does on any host."""
    place = "/etc/ssh/sshd_config"
    subprocess.run([*host.inside, "mount", "--bind", sshd.folder / "sshd_config", place], check=True)
    try:
        yield
    finally:
        subprocess.run([*host.inside, "umount", place], check=True)


def test_a_wrong_password_is_a_failed_login(administrator, password_host):
    sshd, user = password_host
    wizard = Wizard(Api(administrator), sshd)
    credential = {"kind": "password", "user": user.name, "password": "not the right one"}
    ended = wizard.add(uri=f"qemu+ssh://127.0.0.1:{sshd.port}/system", credential=credential)
    assert (failed_step(ended), ended.error["code"]) == ("authenticate", "authentication_failed")
    assert "not the right one" not in str(ended.error)


def test_a_user_who_may_not_open_libvirt_is_told_how_to(administrator, host):
    with TemporaryUser("nodeadmin-no") as user:
        options = {"PasswordAuthentication": "yes", "UsePAM": "no"}
        with LoopbackSshd(host.folder / "no", options=options, prefix=host.inside) as sshd:
            credential = {"kind": "password", "user": user.name, "password": user.password}
            ended = Wizard(Api(administrator), sshd).add(
                uri=f"qemu+ssh://127.0.0.1:{sshd.port}/system", credential=credential
            )
    assert (failed_step(ended), ended.error["code"]) == ("libvirt", "insufficient_rights_on_host")
    assert "libvirt" in ended.error["remedy"]
    assert not Node.objects.exists()


def test_a_credential_of_another_user_than_the_address_names_is_refused(wizard):
    credential = {"kind": "nodeadmin_key", "user": "somebody"}
    status, body = wizard.api("add-node", wizard.body(credential=credential))
    assert (status, body["errors"][0]["field"]) == (400, "credential.user")


def test_a_libvirt_that_answers_late_is_given_a_second_look(pair, nodes, monkeypatch):
    one, _two = pair
    monkeypatch.setattr(refresh_node, "SECOND_LOOK_S", 2.0)
    connection = access.connect(access.target_for(nodes[0]))
    assert refresh_node.libvirt_answers(connection)
    one.freeze_libvirtd()
    try:
        connection.hypervisor().close()
        assert not refresh_node.libvirt_answers(connection)
    finally:
        one.thaw_libvirtd()
    assert refresh_node.libvirt_answers(connection)


# -- removed with the node --------------------------------------------------------------------------


def added_by_password(api: Api, sshd: LoopbackSshd, user: TemporaryUser) -> None:
    credential = {"kind": "password", "user": user.name, "password": user.password, "install_key": True}
    ended = Wizard(api, sshd).add(uri=f"qemu+ssh://127.0.0.1:{sshd.port}/system", credential=credential)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error


def delete(api: Api, **options: Any) -> Operation:
    given = {"node": "kvm-01", **options}
    status, asked = api("delete-node", given)
    assert status == 428, asked
    assert "own key is removed" in str(asked["plan"]["notes"])
    status, answer = api("delete-node", given | {"confirm_token": asked["confirm_token"]})
    assert status == 202, answer
    (ended,) = run_queued()
    return ended


def test_the_key_goes_from_the_host_with_the_node_where_that_is_asked_for(administrator, password_host):
    sshd, user = password_host
    keys = user.home / ".ssh" / "authorized_keys"
    keys.parent.mkdir(mode=0o700)
    keys.write_text("# mine\n")
    for path in (keys.parent, keys):
        os.chown(path, user.uid, user.gid)
    added_by_password(Api(administrator), sshd, user)
    assert "restrict," in keys.read_text()
    ended = delete(Api(administrator), remove_key=True)
    assert (ended.status, ended.result) == (OperationStatus.SUCCEEDED, {"node": "kvm-01"}), ended.error
    assert keys.read_text() == "# mine\n"


def test_the_key_stays_where_the_host_is_a_jump_host_by_another_name(administrator, password_host):
    sshd, user = password_host
    added_by_password(Api(administrator), sshd, user)
    JumpHost.objects.create(
        name="side",
        host="localhost",
        port=sshd.port,
        user=user.name,
        host_key=sshd.host_key().to_text(),
        host_key_fingerprint=sshd.host_key().fingerprint,
        credential_kind="nodeadmin_key",
        own_key=access.own_key_pair(),
    )
    ended = delete(Api(administrator), remove_key=True)
    assert ended.result["key_left_on_host"] == f"{user.name}@127.0.0.1:{sshd.port}"
    assert access.own_key_pair().public_key in (user.home / ".ssh" / "authorized_keys").read_text()
    access.connect_once(access.jump_target(JumpHost.objects.get()).target).close()


def test_a_host_that_is_gone_keeps_the_key_which_is_said_and_the_node_goes(administrator, password_host):
    sshd, user = password_host
    added_by_password(Api(administrator), sshd, user)
    access.close_pool()
    sshd.stop()
    try:
        ended = delete(Api(administrator), remove_key=True, force=True)
    finally:
        sshd.start()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert ended.result["key_left_on_host"] == f"{user.name}@127.0.0.1:{sshd.port}"
    assert not Node.objects.exists()


# -- through a jump host ---------------------------------------------------------------------------


@pytest.fixture
def bastion(tmp_path) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path / "bastion", key_types=("ed25519",)) as server:
        yield server


def add_bastion(api: Api, server: LoopbackSshd) -> None:
    given = {
        "name": "bastion",
        "host": "127.0.0.1",
        "port": server.port,
        "host_key_fingerprint": server.host_key().fingerprint,
        "credential": {"kind": "ssh_key", "user": ME, "private_key": server.user_key.read_text()},
    }
    status, answer = api("add-jump-host", given)
    assert status == 200, answer


def test_a_host_joins_through_a_jump_host_and_is_read_through_it_from_then_on(wizard, bastion):
    add_bastion(wizard.api, bastion)
    uri = wizard.body()["uri"]
    status, scan = wizard.api("scan-host-key", {"uri": uri, "jump_host": "bastion"})
    assert status == 200 and wizard.sshd.host_key().fingerprint in str(scan)
    ended = wizard.add(jump_host="bastion")
    assert ended.status == OperationStatus.SUCCEEDED, (failed_step(ended), ended.error)
    node = Node.objects.get()
    assert node.jump_host is not None and node.jump_host.name == "bastion"
    assert wizard.api("refresh-node", {"node": "kvm-01"})[0] == 202
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert access.connect(access.target_for(node)).hypervisor().version_text()
    status, logs = wizard.api("describe-node-logs", {"node": "kvm-01", "limit": 3})
    assert status == 200 or logs["code"] == "journal_unavailable", logs
    bastion.stop()
    access.close_pool()
    status, answer = wizard.api("scan-host-key", {"uri": uri, "jump_host": "bastion"})
    assert (status, answer["code"], answer["jump_host"]) == (502, "jump_host_unreachable", "bastion")
    wizard.api("refresh-node", {"node": "kvm-01"})
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "jump_host_unreachable")


def test_a_node_is_put_behind_a_jump_host_and_back_once_that_has_worked(wizard, bastion):
    assert wizard.add().status == OperationStatus.SUCCEEDED
    add_bastion(wizard.api, bastion)
    assert wizard.api("update-node", {"node": "kvm-01", "jump_host": "bastion"})[0] == 202
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert Node.objects.get().jump_host is not None
    assert wizard.api("update-node", {"node": "kvm-01", "jump_host": None})[0] == 202
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert Node.objects.get().jump_host is None


def test_a_jump_host_removed_before_the_operation_ran_leaves_no_node(wizard, bastion):
    add_bastion(wizard.api, bastion)
    assert wizard.api("add-node", wizard.body(jump_host="bastion"))[0] == 202
    assert wizard.api("remove-jump-host", {"jump_host": "bastion"})[0] == 200
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "invalid_input")
    assert not Node.objects.exists()
