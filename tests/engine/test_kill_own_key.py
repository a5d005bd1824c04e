"""SIGKILL around every change of a host's authorized_keys: what a restart makes of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.utils import timezone

from nodes import access
from nodes.engine.own_keys import plan_rotation
from nodes.engine.submit import submit
from nodes.errors import OwnKeyNeeded
from nodes.events import SYSTEM
from nodes.hosts import authorize
from nodes.models import (
    Credential,
    Event,
    JumpHost,
    KeyState,
    Node,
    Operation,
    OperationStatus,
    OwnKeyPair,
)
from nodes.models.sealed import SecretFor
from nodes.operations import key_install, own_keys, rotate_own_key
from nodes.operations.same_account import others_on_account
from tests.engine.running import run_queued
from tests.engine.test_kill import in_a_process, resume
from tests.factories import make_node
from tests.sshd import IS_ROOT, LoopbackSshd, TemporaryUser, free_port

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not IS_ROOT, reason="needs users of its own, made by root"),
]
PASSWORDS = {"PasswordAuthentication": "yes"}


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path_factory.mktemp("sshd"), key_types=("ed25519",), options=PASSWORDS) as server:
        yield server


@pytest.fixture(scope="module")
def users() -> Iterator[tuple[TemporaryUser, TemporaryUser, TemporaryUser]]:
    with TemporaryUser("na-k1") as one, TemporaryUser("na-k2") as two, TemporaryUser("na-k3") as three:
        yield one, two, three


def keys_of(user: TemporaryUser) -> str:
    path = user.home / ".ssh" / "authorized_keys"
    return path.read_text() if path.exists() else ""


def let_in(user: TemporaryUser, line: str) -> None:
    folder = user.home / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "authorized_keys").write_text(line)
    for path in (folder, folder / "authorized_keys"):
        os.chown(path, user.uid, user.gid)


def holds(user: TemporaryUser, pair: OwnKeyPair) -> bool:
    return pair.public_key.split()[1] in keys_of(user)


def dying(where: str, *, after: bool, module: Any, turn: int = 0) -> Callable[[], None]:
    """Work that runs the queue and dies right before or after the ``turn``-th call of ``module.where``."""

    def work() -> None:
        original, calls = getattr(module, where), []

        def deadly(*args: Any, **kwargs: Any) -> Any:
            mine = len(calls) == turn
            calls.append(True)
            if mine and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = original(*args, **kwargs)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        setattr(module, where, deadly)
        run_queued()

    return work


def is_killed(work: Callable[[], None]) -> bool:
    status = in_a_process(work)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


# -- a key that a failed operation has installed ---------------------------------------------------


def add(sshd: LoopbackSshd, user: TemporaryUser) -> Operation:
    """One that will fail: no libvirt answers this user."""
    params = {
        "uri": f"qemu+ssh://{user.name}@127.0.0.1:{sshd.port}/system",
        "type": "compute",
        "labels": {},
        "fingerprint": sshd.host_key().fingerprint,
        "credential_kind": "password",
        "has_secret": True,
        "install_key": True,
        "key_type": "ssh-ed25519",
    }
    binding = access.binding_of(access.read_uri(params["uri"]), params["fingerprint"])
    secret = SecretFor(binding, {"password": user.password})
    return submit("add-node", actor=SYSTEM, node_name="kvm-01", params=params, secret=secret)


@pytest.mark.parametrize(
    ("where", "after"),
    [("authorize_key", False), ("authorize_key", True), ("revoke_key", False), ("revoke_key", True)],
)
def test_a_failed_add_killed_around_its_key_leaves_none_on_the_host(sshd, users, where, after):
    user = users[0]
    access.own_key_pair()
    let_in(user, "# mine\n")
    operation = add(sshd, user)
    assert is_killed(dying(where, after=after, module=key_install))
    assert in_a_process(resume) == 0
    operation.refresh_from_db()
    assert operation.status == OperationStatus.FAILED
    assert "key_left_on_host" not in operation.error
    assert keys_of(user) == "# mine\n"


def test_a_key_that_was_there_before_stays_when_an_add_fails(sshd, users):
    user = users[0]
    let_in(user, access.own_key_pair().public_key + "\n")
    add(sshd, user)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.FAILED
    assert holds(user, access.own_key_pair())


def test_a_failed_add_says_where_the_key_stays_that_it_cannot_remove(sshd, users, monkeypatch):
    user = users[0]
    let_in(user, "")

    def unplugged(*args: Any) -> Any:
        sshd.stop()
        raise authorize.InsufficientRightsOnHost("The user may not open libvirt.")

    monkeypatch.setattr("nodes.operations.add_node.check_libvirt", unplugged)
    try:
        add(sshd, user)
        (ended,) = run_queued()
    finally:
        sshd.start()
    where = f"{user.name}@127.0.0.1:{sshd.port}"
    assert ended.error["code"] == "insufficient_rights_on_host"
    assert ended.error["key_left_on_host"] == where
    assert where in ended.message
    assert holds(user, access.own_key_pair())


def test_a_cancelled_add_takes_its_key_back(sshd, users, monkeypatch):
    user = users[0]
    let_in(user, "")
    operation = add(sshd, user)

    def cancelled(run: Any, connection: Any) -> None:
        Operation.objects.filter(pk=operation.pk).update(cancel_requested_at=operation.created_at)
        run.check_cancelled()

    monkeypatch.setattr("nodes.operations.add_node.check_libvirt", cancelled)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.CANCELLED
    assert not holds(user, access.own_key_pair())


def entered_by_key(sshd: LoopbackSshd, user: TemporaryUser, node: Node | None) -> Operation:
    """One that has installed the key, was cut off after that, and is asked to end."""
    pair = access.own_key_pair()
    let_in(user, f"# mine\n{pair.public_key}\n")
    uri, fingerprint = f"qemu+ssh://{user.name}@127.0.0.1:{sshd.port}/system", sshd.host_key().fingerprint
    params = {"uri": uri, "type": "compute", "labels": {}, "fingerprint": fingerprint}
    params |= {"credential_kind": "password", "has_secret": True, "install_key": True}
    kind = "update-node" if node is not None else "add-node"
    operation = submit(kind, actor=SYSTEM, node=node, node_name="kvm-01", params=params)
    data = {"own_key": pair.pk, "before": [], "key_works": True}
    operation.steps.filter(code="install_key").update(data=data)
    operation.steps.filter(code="host_key").update(data={"host_key": sshd.host_key().to_text()})
    now = timezone.now()
    Operation.objects.filter(pk=operation.pk).update(started_at=now, cancel_requested_at=now)
    return operation


def entered_node(sshd: LoopbackSshd, user: TemporaryUser, **fields: Any) -> Node:
    uri = f"qemu+ssh://{user.name}@127.0.0.1:{sshd.port}/system"
    node = make_node("kvm-01", uri=uri, host_key=sshd.host_key().to_text(), **fields)
    Credential.objects.create(node=node, kind="nodeadmin_key", own_key=access.own_key_pair())
    return node


@pytest.mark.parametrize(("kind", "stays"), [("add-node", False), ("update-node", True)])
def test_a_key_that_a_node_has_come_to_log_in_with_is_not_taken_back(sshd, users, kind, stays):
    user = users[0]
    entered_by_key(sshd, user, entered_node(sshd, user) if stays else None)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.CANCELLED
    assert holds(user, access.own_key_pair()) is stays
    assert keys_of(user).startswith("# mine\n")


def test_an_addition_that_has_joined_keeps_its_key_though_the_rights_are_gone(sshd, users, administrator):
    user = users[0]
    operation = entered_by_key(sshd, user, None)
    entered_node(sshd, user, joined_by=operation.pk)
    administrator.is_superuser = False
    administrator.save()
    administrator.groups.clear()
    Operation.objects.update(requested_by=administrator, requested_by_name="ada", cancel_requested_at=None)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert holds(user, access.own_key_pair())


# -- a new key for the whole fleet -----------------------------------------------------------------


def fleet(sshd: LoopbackSshd, users: tuple[TemporaryUser, ...]) -> tuple[OwnKeyPair, list[Node]]:
    """A jump host (the first user) and a node for each of the others behind it, with the old key alone."""
    Operation.objects.all().delete()
    Node.objects.all().delete()
    JumpHost.objects.all().delete()
    OwnKeyPair.objects.all().delete()
    old = access.own_key_pair()
    for user in users:
        let_in(user, f"# {user.name}\n{old.public_key}\n")
    host_key = sshd.host_key()
    jump = JumpHost.objects.create(
        name="bastion",
        host="127.0.0.1",
        port=sshd.port,
        user=users[0].name,
        host_key=host_key.to_text(),
        host_key_fingerprint=host_key.fingerprint,
        credential_kind="nodeadmin_key",
        own_key=old,
    )
    nodes = []
    for number, user in enumerate(users[1:]):
        node = make_node(
            f"kvm-{number}",
            uri=f"qemu+ssh://{user.name}@127.0.0.1:{sshd.port}/system",
            host_key=host_key.to_text(),
            jump_host=jump,
        )
        Credential.objects.create(node=node, kind="nodeadmin_key", own_key=old)
        nodes.append(node)
    return old, nodes


def rotate() -> Operation:
    found = own_keys.everybody() if own_keys.retiring() is None else own_keys.lacking(access.own_key_pair())
    params = {
        "nodes": [list(row) for row in found.nodes],
        "jump_hosts": [list(row) for row in found.jump_hosts],
    }
    return submit("rotate-own-key", actor=SYSTEM, params=params)


def rotate_rest() -> Operation:
    """Goes on with a replacement as the call does: also where only an old line is left."""
    _plan, found = plan_rotation()
    params = {
        "nodes": [list(row) for row in found.nodes],
        "jump_hosts": [list(row) for row in found.jump_hosts],
    }
    return submit("rotate-own-key", actor=SYSTEM, params=params)


def opens(node: Node, pair: OwnKeyPair) -> bool:
    try:
        access.connect_once(access.by_own_key(access.target_for(node), pair)).close()
    except authorize.AuthenticationFailed:
        return False
    return True


@contextmanager
def locked_out(user: TemporaryUser) -> Iterator[None]:
    """A host that lets the key in no more, until later."""
    kept = keys_of(user)
    let_in(user, "")
    yield
    let_in(user, kept)


@pytest.mark.parametrize(
    ("where", "after", "module", "turn"),
    [
        ("make_next", True, own_keys, 0),
        ("authorize_key", True, rotate_own_key, 0),
        ("revoke_key", False, rotate_own_key, 0),
        ("revoke_key", True, rotate_own_key, 1),
        ("drop_old", True, own_keys, 0),
    ],
)
def test_a_rotation_killed_anywhere_ends_with_the_new_key_everywhere(sshd, users, where, after, module, turn):
    old, nodes = fleet(sshd, users)
    operation = rotate()
    assert is_killed(dying(where, after=after, module=module, turn=turn))
    for node in nodes:
        # Whatever was cut off: the host is never without a key that opens it.
        access.connect_once(access.target_for(node)).close()
    access.close_pool()
    assert in_a_process(resume) == 0
    operation.refresh_from_db()
    assert operation.status == OperationStatus.SUCCEEDED, operation.error
    new = OwnKeyPair.objects.get()
    assert new.pk != old.pk
    for user in users:
        assert holds(user, new) and not holds(user, old)
        assert keys_of(user).startswith(f"# {user.name}\n")
        assert "restrict,port-forwarding" in keys_of(user)
        assert [path.name for path in (user.home / ".ssh").iterdir()] == ["authorized_keys"]
    assert all(opens(node, new) for node in nodes)
    assert not Credential.objects.filter(old_line_left=True).exists()
    assert set(Credential.objects.values_list("own_key", flat=True)) == {new.pk}
    assert JumpHost.objects.get().own_key == new
    assert Event.objects.filter(kind="own_key_made", operation=operation).count() == 1
    assert Event.objects.filter(kind="own_key_retired", operation=operation).count() == 1
    access.close_pool()


def test_a_host_that_refuses_keeps_the_old_key_is_named_and_is_moved_by_the_next_call(sshd, users):
    old, nodes = fleet(sshd, users)
    with locked_out(users[2]):
        rotate()
        (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "own_key_not_everywhere")
    assert ended.error["lacking"] == ["kvm-1"]
    new = access.own_key_pair()
    assert {row.state: row.pk for row in OwnKeyPair.objects.all()} == {
        KeyState.CURRENT: new.pk,
        KeyState.RETIRING: old.pk,
    }
    assert holds(users[1], new) and not holds(users[1], old)
    assert holds(users[2], old) and not holds(users[2], new)
    assert access.connect(access.target_for(nodes[1])).shell.run("true", timeout_s=5).ok, "by the old key"
    rotate()
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert [step.code for step in ended.steps.all()] == ["key", f"node:{nodes[1].pk}", "retire"]
    assert OwnKeyPair.objects.get() == new
    assert holds(users[2], new) and not holds(users[2], old)


def test_a_new_line_that_would_lock_nodeadmin_out_is_put_back(sshd, users, settings):
    old, _nodes = fleet(sshd, users)
    before = keys_of(users[1])
    settings.NODEADMIN_KEY_FROM = ["192.0.2.1"]
    rotate()
    (ended,) = run_queued()
    assert ended.error["lacking_count"] == 3
    assert keys_of(users[1]) == before
    said = ended.steps.filter(code__startswith="node:").values_list("message", flat=True)
    assert all("NODEADMIN_KEY_FROM" in text for text in said)
    assert own_keys.retiring() == old


def test_a_rotation_that_nobody_needs_any_more_retires_the_key(sshd, users):
    fleet(sshd, users)
    with locked_out(users[2]):
        rotate()
        run_queued()
    Node.objects.filter(name="kvm-1").delete()
    rotate()
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED
    assert OwnKeyPair.objects.count() == 1


# -- a host that others lead to as well, and one that is changed meanwhile ---------------------------


def side_way(sshd: LoopbackSshd, user: TemporaryUser, **fields: Any) -> JumpHost:
    """A jump host that is the same user of the same host, by another name."""
    host_key = sshd.host_key()
    return JumpHost.objects.create(
        **{
            "name": "side",
            "host": "localhost",
            "port": sshd.port,
            "user": user.name,
            "host_key": host_key.to_text(),
            "host_key_fingerprint": host_key.fingerprint,
            "credential_kind": "nodeadmin_key",
            "own_key": OwnKeyPair.objects.order_by("pk").first(),
        }
        | fields
    )


def test_the_old_line_stays_while_another_way_to_the_host_was_not_seen_with_the_new_key(sshd, users):
    old, _nodes = fleet(sshd, users)
    side = side_way(sshd, users[1], port=free_port())  # away: its login with the new key fails
    rotate()
    (ended,) = run_queued()
    new = access.own_key_pair()
    assert ended.error["lacking"] == ["side"]
    assert ended.error["old_line_left"] == ["kvm-0"]
    assert holds(users[1], new) and holds(users[1], old)
    assert not holds(users[2], old)
    JumpHost.objects.filter(pk=side.pk).update(port=sshd.port)
    rotate_rest()
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert not holds(users[1], old)
    assert OwnKeyPair.objects.get() == new


def test_a_jump_host_that_is_a_node_as_well_is_moved_in_one_go(sshd, users):
    old, nodes = fleet(sshd, users)
    uri = f"qemu+ssh://{users[0].name}@localhost:{sshd.port}/system"
    twin = make_node("twin", uri=uri, host_key=sshd.host_key().to_text())
    Credential.objects.create(node=twin, kind="nodeadmin_key", own_key=old)
    rotate()
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    new = OwnKeyPair.objects.get()
    assert holds(users[0], new) and not holds(users[0], old)
    assert all(opens(node, new) for node in [*nodes, twin])
    access.close_pool()


def test_a_host_is_known_again_by_a_key_of_another_type(users, tmp_path):
    with LoopbackSshd(tmp_path, key_types=("ed25519", "rsa")) as server:
        target = server.target(user=users[0].name)
        side_way(server, users[0], host_key=server.host_key("rsa").to_text(), own_key=None)
        assert others_on_account(target) == ["side"]
        assert others_on_account(replace(target, user=users[1].name)) == []


def test_a_host_of_the_same_image_is_another_one(sshd, users):
    fleet(sshd, users)
    uri = f"qemu+ssh://{users[1].name}@%s/system"
    key = sshd.host_key()
    one, two = (
        make_node(f"clone-{name}", uri=uri % f"192.0.2.{name}", host_key=key.to_text(), identity=name)
        for name in "12"
    )
    for node in (one, two):
        Credential.objects.create(node=node, kind="nodeadmin_key")
    target = access.target_for(one)
    assert others_on_account(target, one) == ["kvm-0"], "that one is not known to be another"
    Node.objects.filter(name="kvm-0").update(identity="3")
    assert others_on_account(target, one) == []


def test_a_node_that_comes_while_the_old_key_is_destroyed_keeps_it(sshd, users, monkeypatch):
    old, _nodes = fleet(sshd, users)
    old_lines = own_keys.old_lines

    def somebody_was_faster(current: OwnKeyPair) -> own_keys.Lacking:
        """Once all have been found to have the new key, and before the old one goes."""
        found = old_lines(current)
        if own_keys.lacking(current) == own_keys.Lacking() and not found.names:
            node = make_node("kvm-new", uri=f"qemu+ssh://root@192.0.2.7:{sshd.port}/system")
            Credential.objects.create(node=node, kind="nodeadmin_key", own_key=old)
        return found

    monkeypatch.setattr(rotate_own_key, "_remove_late_lines", lambda run, new: None, raising=False)
    monkeypatch.setattr(own_keys, "old_lines", somebody_was_faster)
    rotate()
    (ended,) = run_queued()
    assert own_keys.retiring() == old
    assert Credential.objects.get(node__name="kvm-new").own_key == old
    assert ended.error["lacking"] == ["kvm-new"]


def test_a_node_that_is_led_elsewhere_while_its_old_host_gets_the_new_key_counts_as_lacking_it(
    sshd, users, monkeypatch
):
    old, nodes = fleet(sshd, users)
    authorize_key = rotate_own_key.authorize_key

    def led_elsewhere(connection: Any, *args: Any) -> Any:
        """As update-node does it, which has logged in there with the old key."""
        found = authorize_key(connection, *args)
        if connection.user == users[1].name:
            uri = f"qemu+ssh://{users[2].name}@127.0.0.1:{sshd.port}/system"
            Node.objects.filter(pk=nodes[0].pk).update(uri=uri)
            Credential.objects.get(node=nodes[0]).save()
        return found

    monkeypatch.setattr(rotate_own_key, "authorize_key", led_elsewhere)
    Node.objects.filter(pk=nodes[1].pk).delete()
    rotate()
    (ended,) = run_queued()
    assert Credential.objects.get(node=nodes[0]).own_key == old
    assert own_keys.retiring() == old, "the only key that opens the node"
    assert ended.error["lacking"] == ["kvm-0"]
    access.connect_once(access.target_for(nodes[0])).close()
    access.close_pool()


def test_the_key_that_a_running_operation_has_installed_is_not_destroyed_under_it(sshd, users):
    old, _nodes = fleet(sshd, users)
    operation = entered_by_key(sshd, users[2], None)
    rotate()
    Operation.objects.filter(pk=operation.pk).update(status=OperationStatus.RUNNING)
    run_queued()
    assert own_keys.retiring() == old
    assert own_keys.lacking(access.own_key_pair()).names == ["kvm-01"]


def test_a_key_is_not_taken_back_from_a_host_that_is_a_node_by_another_name(sshd, users):
    user = users[0]
    entered_by_key(sshd, user, None)
    uri = f"qemu+ssh://{user.name}@localhost:{sshd.port}/system"
    node = make_node("twin", uri=uri, host_key=sshd.host_key().to_text())
    Credential.objects.create(node=node, kind="nodeadmin_key", own_key=access.own_key_pair())
    run_queued()
    assert holds(user, access.own_key_pair())


def test_a_key_that_a_jump_host_came_to_use_while_it_was_removed_is_put_back(sshd, users, monkeypatch):
    old, nodes = fleet(sshd, users)
    before = keys_of(users[1])
    revoke = key_install.revoke_key

    def somebody_was_faster(*args: Any) -> Any:
        side_way(sshd, users[1])
        return revoke(*args)

    monkeypatch.setattr(key_install, "revoke_key", somebody_was_faster)
    with pytest.raises(OwnKeyNeeded, match="side"):
        key_install.remove_own_keys(access.target_for(nodes[0]), nodes[0])
    assert keys_of(users[1]) == before
    assert holds(users[1], old)
    access.close_pool()
