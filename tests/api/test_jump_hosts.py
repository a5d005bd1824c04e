"""Jump hosts over the API: a real sshd in front, the same checks and refusals for every way in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes import access
from nodes.hosts.target import HostKey
from nodes.models import Event, JumpHost, Node, Operation
from tests.factories import NOBODYS_KEY, grant, make_credential, make_node
from tests.sshd import ME, LoopbackSshd, free_port, make_key

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path_factory.mktemp("bastion"), key_types=("ed25519",)) as server:
        yield server


def body(server: LoopbackSshd, **changes: Any) -> dict[str, Any]:
    return {
        "name": "bastion",
        "host": "127.0.0.1",
        "port": server.port,
        "host_key_fingerprint": server.host_key().fingerprint,
        "host_key_type": "ssh-ed25519",
        "credential": {"kind": "ssh_key", "user": ME, "private_key": server.user_key.read_text()},
    } | changes


def make_jump_host(name: str = "bastion", **fields: Any) -> JumpHost:
    """A row that nobody connects to."""
    return JumpHost.objects.create(
        **{
            "name": name,
            "host": "192.0.2.1",
            "host_key": NOBODYS_KEY.to_text(),
            "host_key_fingerprint": NOBODYS_KEY.fingerprint,
            "credential_kind": "nodeadmin_key",
        }
        | fields
    )


def test_a_jump_host_is_kept_once_its_key_and_the_login_were_proved(administrator, api, bastion):
    call = api(administrator)
    status, answer = call("add-jump-host", body(bastion))
    assert status == 200, answer
    assert (answer["user"], answer["node_count"], answer["through"]) == (ME, 0, None)
    assert bastion.user_key.read_text().split("\n")[1] not in str(answer)
    row = JumpHost.objects.get()
    assert row.host_key == bastion.host_key().to_text()
    event = Event.objects.get(kind="jump_host_added")
    assert (event.target_type, event.target_name, event.user) == ("jump_host", "bastion", administrator)
    assert "private" not in str(event.data)
    assert call("list-jump-hosts")[1]["count"] == 1
    assert call("describe-jump-host", {"jump_host": "bastion"})[1] == answer


def test_nodeadmins_own_key_opens_a_jump_host_and_it_is_noted_which(administrator, api, bastion):
    bastion.authorize(access.own_key_pair().public_key)
    credential = {"kind": "nodeadmin_key", "user": ME}
    status, answer = api(administrator)("add-jump-host", body(bastion, credential=credential))
    assert status == 200, answer
    assert answer["own_key_fingerprint"] == access.own_key_pair().fingerprint


def test_nothing_is_contacted_without_a_fingerprint(administrator, api, bastion):
    given = body(bastion, port=free_port())
    del given["host_key_fingerprint"]
    status, answer = api(administrator)("add-jump-host", given)
    assert (status, answer["code"]) == (422, "host_key_required")


def test_a_jump_host_that_shows_another_key_or_refuses_the_login_is_not_kept(
    administrator, api, bastion, settings, tmp_path: Path
):
    call = api(administrator)
    wrong = body(bastion, host_key_fingerprint="SHA256:" + "A" * 43)
    assert call("add-jump-host", wrong)[1]["code"] == "host_key_mismatch"
    key = make_key(tmp_path / "stranger").read_text()
    refused = body(bastion, credential={"kind": "ssh_key", "user": ME, "private_key": key})
    assert call("add-jump-host", refused)[1]["code"] == "authentication_failed"
    settings.NODEADMIN_HOST_TIMEOUT_S = 2.0
    assert call("add-jump-host", body(bastion, port=free_port()))[0] == 502
    assert not JumpHost.objects.exists()
    assert not Event.objects.filter(kind="jump_host_added").exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "Bad Name"}, "name"),
        ({"host": "a b"}, "host"),
        ({"host": "root@bastion"}, "host"),
        ({"host": "bastion/system?command=x"}, "host"),
        ({"port": 0}, "port"),
        ({"through": "nowhere"}, "through"),
        ({"host_key_fingerprint": "SHA256:short"}, "host_key_fingerprint"),
        (
            {"credential": {"kind": "password", "password": "x", "install_key": True}},
            "credential.install_key",
        ),
        ({"credential": {"kind": "nodeadmin_key", "user": "-oProxyCommand=x"}}, "user"),
    ],
)
def test_bad_input_names_its_field(administrator, api, bastion, changes, field):
    status, answer = api(administrator)("add-jump-host", body(bastion, **changes))
    assert status in (400, 404), answer
    assert answer["errors"][0]["field"] == field, answer


def test_who_may_not_manage_them_neither_changes_them_nor_learns_what_there_is(operator, api, bastion):
    make_jump_host()
    call = api(operator)
    for endpoint, given in (
        ("add-jump-host", body(bastion)),
        ("update-jump-host", {"jump_host": "bastion", "name": "other"}),
        ("update-jump-host", {"jump_host": "nowhere", "name": "other"}),
        ("remove-jump-host", {"jump_host": "bastion"}),
        ("remove-jump-host", {"jump_host": "nowhere"}),
        ("describe-jump-host", {"jump_host": "bastion"}),
        ("list-jump-hosts", {}),
    ):
        status, answer = call(endpoint, given)
        assert (status, answer["code"]) == (403, "permission_denied"), endpoint


def test_a_stored_secret_is_sent_nowhere_but_where_it_was_given_for(
    administrator, api, bastion, tmp_path: Path
):
    call = api(administrator)
    assert call("add-jump-host", body(bastion))[0] == 200
    with LoopbackSshd(tmp_path / "other", key_types=("ed25519",)) as other:
        moved = {"port": other.port, "host_key_fingerprint": other.host_key().fingerprint}
        for change in (moved, {"user": "somebody"}, {"host_key_fingerprint": "SHA256:" + "B" * 43}):
            status, answer = call("update-jump-host", {"jump_host": "bastion", **change})
            assert (status, answer["code"]) == (400, "invalid_input"), answer
            assert answer["errors"][0]["field"] == "credential"
        unconfirmed = call("update-jump-host", {"jump_host": "bastion", "port": other.port})
        assert unconfirmed[1]["code"] == "host_key_required"
        assert other.log.count("Connection from") == 1, "only the one of its own start"
        credential = {"kind": "ssh_key", "user": ME, "private_key": other.user_key.read_text()}
        status, answer = call("update-jump-host", {"jump_host": "bastion", "credential": credential, **moved})
        assert (status, answer["port"]) == (200, other.port), answer
    event = Event.objects.get(kind="jump_host_changed")
    assert event.data["before"]["port"] == bastion.port
    assert event.data["after"]["credential"] == "replaced"


def test_what_is_given_as_it_is_leaves_no_entry_and_the_stored_secret_as_it_is(administrator, api, bastion):
    call = api(administrator)
    call("add-jump-host", body(bastion))
    Event.objects.all().delete()
    same = {"jump_host": "bastion", "name": "bastion", "host_key_fingerprint": bastion.host_key().fingerprint}
    assert call("update-jump-host", same)[0] == 200
    assert call("update-jump-host", {"jump_host": "bastion", "name": "renamed"})[0] == 200
    [entry] = Event.objects.filter(kind__startswith="jump_host")
    assert (entry.data["before"], entry.data["after"]) == ({"name": "bastion"}, {"name": "renamed"})


def test_a_change_that_does_not_work_leaves_what_was_in_force(administrator, api, bastion, tmp_path: Path):
    call = api(administrator)
    call("add-jump-host", body(bastion))
    key = make_key(tmp_path / "stranger").read_text()
    credential = {"kind": "ssh_key", "user": ME, "private_key": key}
    assert call("update-jump-host", {"jump_host": "bastion", "credential": credential})[0] == 422
    assert access.jump_target(JumpHost.objects.get()).credential.private_key == bastion.user_key.read_text()
    assert call("update-jump-host", {"jump_host": "bastion", "name": "renamed"})[1]["name"] == "renamed"
    assert call("update-jump-host", {"jump_host": "renamed"})[1]["code"] == "invalid_input"


def test_chains_have_no_cycle_and_three_links_at_most(administrator, api):
    first = make_jump_host("first")
    second = make_jump_host("second", jump_host=first)
    third = make_jump_host("third", jump_host=second)
    make_jump_host("alone")
    call = api(administrator)
    for name, through in (
        ("first", "first"),
        ("first", "second"),
        ("first", "third"),
        ("first", "alone"),
        ("alone", "third"),
    ):
        status, answer = call("update-jump-host", {"jump_host": name, "through": through})
        assert (status, answer["errors"][0]["field"]) == (400, "jump_host"), (name, through, answer)
    assert [link.name for link in third.chain()] == ["third", "second", "first"]


def test_a_jump_host_in_use_is_not_removed(administrator, api):
    row = make_jump_host()
    node = make_node("kvm-01", jump_host=row)
    inner = make_jump_host("inner", jump_host=row)
    call = api(administrator)
    status, answer = call("remove-jump-host", {"jump_host": "bastion"})
    assert (status, answer["code"], answer["nodes"], answer["jump_hosts"]) == (409, "jump_host_in_use", 1, 1)
    node.delete()
    inner.delete()
    assert call("remove-jump-host", {"jump_host": "bastion"})[0] == 200
    assert Event.objects.get(kind="jump_host_removed", user=administrator).target_name == "bastion"
    assert call("remove-jump-host", {"jump_host": "bastion"})[1]["code"] == "unknown_jump_host"


def test_nodes_tell_their_jump_host_in_as_many_queries_as_without(
    administrator, api, django_assert_max_num_queries
):
    row = make_jump_host()
    make_node("kvm-01", jump_host=row)
    make_node("kvm-02", jump_host=row)
    make_node("kvm-03")
    call = api(administrator)
    call("list-nodes")
    with django_assert_max_num_queries(6):
        answer = call("list-nodes")[1]
    assert [node["jump_host"] for node in answer["results"]] == ["bastion", "bastion", None]
    assert call("list-nodes", {"jump_host": "bastion"})[1]["count"] == 2
    assert call("describe-node", {"node": "kvm-01"})[1]["jump_host"] == "bastion"
    assert call("export-node", {"node": "kvm-01"})[1]["node"]["jump_host"] == "bastion"
    assert call("list-jump-hosts")[1]["results"][0]["node_count"] == 2


def test_another_jump_host_needs_no_secret_again_and_the_right_to_change_the_node(operator, api):
    make_jump_host()
    node = make_node("kvm-01", uri="qemu+ssh://root@192.0.2.9/system")
    access.pin(node, HostKey.from_blob(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32))
    node.save()
    make_credential(node, "password", password="hunter2hunter2")
    grant(operator, node, "view_node")
    call = api(operator)
    assert call("update-node", {"node": "kvm-01", "jump_host": "bastion"})[0] == 403
    grant(operator, node, "change_node")
    assert call("update-node", {"node": "kvm-01", "jump_host": "nowhere"})[1]["code"] == "unknown_jump_host"
    status, answer = call("update-node", {"node": "kvm-01", "jump_host": "bastion"})
    assert status == 202, answer
    assert Operation.objects.get().params["jump_host"] == JumpHost.objects.get().pk
    assert Node.objects.get().jump_host is None, "not before it has proved to work"


def test_an_address_without_ssh_takes_no_jump_host(administrator, api):
    make_jump_host()
    given = {"name": "kvm-01", "uri": "qemu:///system", "jump_host": "bastion"}
    status, answer = api(administrator)("add-node", given)
    assert (status, answer["errors"][0]["field"]) == (400, "jump_host")
