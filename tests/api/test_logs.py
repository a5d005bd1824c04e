"""Journals over the API: found, gone on with, bounded, and only for who may."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from nodes.models import Credential, Node
from nodes.permissions import VIEW, VIEW_LOGS
from tests.factories import grant, make_credential, make_node
from tests.journals import AVAILABLE, JournalHost, entry

pytestmark = [pytest.mark.django_db, pytest.mark.skipif(not AVAILABLE, reason="needs systemd-journal-remote")]


def node_of(host: JournalHost, name: str = "kvm-01") -> Node:
    """A node whose host is ``host``, with the key that it shows."""
    node = make_node(
        name,
        uri=f"qemu+ssh://root@127.0.0.1:{host.sshd.port}/system",
        host_key=host.sshd.host_key().to_text(),
        host_key_fingerprint=host.sshd.host_key().fingerprint,
    )
    make_credential(node, "ssh_key", private_key=host.sshd.user_key.read_text())
    return node


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JournalHost]:
    made = JournalHost(tmp_path_factory.mktemp("journal"))
    made.write(entry(number, f"line {number}", PRIORITY=str(number % 8)) for number in range(50))
    with made:
        yield made


@dataclass
class Asked:
    """Calls describe-node-logs on one node and gives the body, which has to be a 200."""

    call: Any

    def __call__(self, **filters: Any) -> dict[str, Any]:
        status, body = self.call("describe-node-logs", {"node": "kvm-01", **filters})
        assert status == 200, body
        return body


@pytest.fixture
def node(host: JournalHost, db: None) -> Node:
    return node_of(host)


@pytest.fixture
def logs(api, administrator, node) -> Asked:
    return Asked(api(administrator))


def lines(body: dict[str, Any]) -> list[int]:
    return [int(row["message"].split()[1]) for row in body["entries"]]


def test_the_newest_come_first_and_the_cursor_alone_goes_on_to_the_end(logs):
    body = logs(limit=20)
    found = lines(body)
    while body["more"]:
        body = logs(cursor=body["cursor"], limit=20)
        found += lines(body)
    assert found == list(range(49, -1, -1))
    assert body["cut"] is None


def test_oldest_first_waits_at_the_end_for_what_is_written_later(logs, host):
    body = logs(order="oldest", limit=5000)
    assert lines(body)[:50] == list(range(50))
    assert body["more"] is False
    host.write([entry(1000, "line 1000")], name="later")
    assert lines(logs(cursor=body["cursor"])) == [1000]


def test_an_entry_is_typed_and_leads_to_all_of_its_fields(api, administrator, logs):
    row = logs(level="3..3", order="oldest", limit=1)["entries"][0]
    assert row["time"] == "2023-11-14T22:13:20.003000Z"
    assert (row["level"], row["unit"], row["identifier"], row["pid"]) == (3, "cron.service", "cron", 103)
    status, body = api(administrator)("describe-log-entry", {"node": "kvm-01", "entry": row["cursor"]})
    assert status == 200
    fields = {field["name"]: field["value"] for field in body["fields"]}
    assert fields["_CMDLINE"] == "/usr/sbin/cron --daemon"
    assert fields["MESSAGE"] == row["message"]


def test_the_command_that_is_shown_names_the_same_query(logs):
    body = logs(services=["cron"], level="warning", keyword="a; rm -rf /", limit=7)
    assert body["entries"] == []
    assert body["command"].startswith("journalctl --reverse --lines=7 --priority=0..4 '--grep=a; rm -rf /'")


def test_sources_are_those_of_the_journal(api, administrator, node):
    status, body = api(administrator)("list-log-sources", {"node": "kvm-01"})
    assert status == 200
    assert body["units"] == ["cron.service"]
    assert body["identifiers"] == ["cron"]
    assert [boot["index"] for boot in body["boots"]] == [0]
    assert "libvirtd" in body["aliases"]


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"level": "loud"}, "level"),
        ({"last": "yesterday"}, "last"),
        ({"services": ["-x/../y"]}, "services"),
        ({"boot": "-9"}, "boot"),
        ({"keyword": "(", "regex": True}, "keyword"),
        ({"limit": 5001}, "limit"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ({"since": "2026-01-02T00:00:00"}, "since"),
        ({"until": "2026-01-02"}, "until"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_is_not_understood_names_its_field(api, administrator, node, filters, field):
    status, body = api(administrator)("describe-node-logs", {"node": "kvm-01", **filters})
    assert (status, body["code"]) == (400, "invalid_input")
    assert body["errors"][0]["field"] == field


def test_a_cursor_that_was_never_given_out_is_refused_and_one_goes_with_no_filter(api, administrator, logs):
    cursor = logs(limit=1)["cursor"]
    call = api(administrator)
    deep = b'{"v":1,"q":{"keyword":' + b"[" * 1500 + b"]" * 1500 + b'},"n":true}'
    nested = base64.urlsafe_b64encode(deep).rstrip(b"=").decode()
    for wrong in ("x", cursor[:-8], "eyJ2IjoxfQ", "é", nested):
        status, body = call("describe-node-logs", {"node": "kvm-01", "cursor": wrong})
        assert (status, body["code"]) == (400, "invalid_cursor"), wrong
    status, body = call("describe-node-logs", {"node": "kvm-01", "cursor": cursor, "level": "err"})
    assert (status, body["errors"][0]["field"]) == (400, "level")


def test_only_who_may_read_journals_does(api, operator, stranger, node):
    body = {"node": "kvm-01"}
    for endpoint in ("describe-node-logs", "list-log-sources"):
        assert api(stranger)(endpoint, body)[0] == 404
    grant(operator, node, VIEW)
    assert api(operator)("describe-node-logs", body)[1]["code"] == "permission_denied"
    assert api(operator)("describe-log-entry", {**body, "entry": "x"})[0] == 403
    grant(operator, node, VIEW_LOGS)
    assert api(operator, read_only=True)("describe-node-logs", body)[0] == 200


def test_a_host_that_cannot_be_reached_is_a_named_error(api, administrator, node):
    Node.objects.filter(pk=node.pk).update(uri="qemu+ssh://root@127.0.0.1:1/system")
    Credential.objects.filter(node=node).update(kind="nodeadmin_key", secret=None)
    status, body = api(administrator)("describe-node-logs", {"node": "kvm-01"})
    assert (status, body["code"]) == (502, "host_unreachable")
