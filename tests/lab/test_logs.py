"""Journals of a real host: why a VM did not start, lines as they are logged, and a host that dies."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from datetime import datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from nodes import access
from nodes.hosts.connection import HostConnection
from nodes.hosts.host_key_scan import scan_host_keys
from nodes.models import Node
from tests.api.conftest import Api
from tests.factories import make_credential, make_node, make_user
from tests.lab.host import LabHost
from tests.lab.pace import pace
from tests.lab.vm import VmSpec, define, remove
from tests.network import ANYWHERE
from tests.patience import slowness
from tests.realtime.sockets import OWN, Socket, cookie_of, opened

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.lab]
TOO_LARGE = VmSpec("greedy", memory_mib=8 << 20)


def node_of(host: LabHost, user: str = "root") -> Node:
    key = next(
        key
        for key in scan_host_keys("127.0.0.1", host.ssh_port, timeout_s=30 * slowness(), rules=ANYWHERE)
        if "25519" in key.type
    )
    node = make_node("lab", uri=host.uri(user), host_key=key.to_text(), host_key_fingerprint=key.fingerprint)
    make_credential(node, "ssh_key", private_key=host.private_key.read_text())
    return node


def test_why_a_vm_did_not_start_is_found_by_its_name_and_by_a_keyword(lab_plain):
    node_of(lab_plain)
    api = Api(make_user(is_superuser=True))
    define(lab_plain, TOO_LARGE)
    try:
        started = lab_plain.run(["virsh", "start", TOO_LARGE.name], check=False, timeout_s=120)
        assert started.returncode != 0

        def found(**filters: Any) -> list[dict[str, Any]]:
            status, body = api("describe-node-logs", {"node": "lab", "last": "10m", **filters})
            assert status == 200, body
            assert not body["problems"]
            return body["entries"]

        by_vm = found(vm=TOO_LARGE.name)
        reasons = [row for row in by_vm if "cannot set up guest memory" in (row["message"] or "")]
        assert reasons, [row["message"] for row in by_vm]
        assert {row["source"] for row in reasons} == {"vm-log"}
        by_keyword = found(services=["libvirtd"], keyword="guest memory", level="error")
        assert {row["source"] for row in by_keyword} == {"journal"}
        assert by_keyword
        assert by_keyword[0]["unit"] in ("libvirtd.service", "virtqemud.service")
    finally:
        remove(lab_plain, TOO_LARGE.name)


def test_without_the_right_the_journal_is_read_by_sudo_or_the_remedy_is_told(lab_plain):
    # journald takes lines in when it comes to it: --sync writes down only what it has already taken.
    seen = "journalctl --quiet -t nodeadmin-test | grep -q 'for eyes of root'"
    lab_plain.run(f"logger -t nodeadmin-test 'for eyes of root'; until {seen}; do sleep 0.2; done")
    api = Api(make_user(is_superuser=True))
    body = {"node": "lab", "services": ["identifier:nodeadmin-test"], "keyword": "eyes of root"}
    node = node_of(lab_plain, "ops")
    status, answer = api("describe-node-logs", body)
    assert status == 200, answer
    assert answer["entries"]
    assert api("describe-node-logs", {"node": "lab", "services": ["vm-log"]})[0] == 200
    node.delete()
    node_of(lab_plain, "limited")
    status, answer = api("describe-node-logs", body)
    assert (status, answer["code"]) == (422, "insufficient_rights_on_host")
    assert "usermod -aG systemd-journal limited" in answer["remedy"]


async def rows(socket: Socket) -> list[dict[str, Any]]:
    while True:
        event = await socket._communicator.receive_output(180)
        message = json.loads(event["text"])
        assert message["type"] != "error", message
        if message["type"] == "entries":
            return list(message["entries"])


async def a_viewer(host: LabHost) -> tuple[Any, Node]:
    node = await sync_to_async(node_of)(host)
    user = await sync_to_async(make_user)(is_superuser=True)
    return [*OWN, await sync_to_async(cookie_of)(user)], node


def clock_ahead_s(connection: HostConnection) -> float:
    """By how much the host's clock is ahead of ours, by the quickest of some answers."""
    measured = []
    for _round in range(12):
        before = time.time()
        answer = float(connection.shell.run("exec date +%s.%N", timeout_s=20).stdout)
        took = time.time() - before
        measured.append((took, answer - before - took / 2))
    return min(measured)[1]


async def test_a_line_that_is_logged_is_shown_within_half_a_second(lab_plain) -> None:
    headers, node = await a_viewer(lab_plain)
    delays = []
    async with opened("/ws/nodes/lab/logs/", headers) as socket:
        # Nothing of what other tests have logged under this name.
        wanted = {"services": ["identifier:nodeadmin-test"], "backlog": 0}
        await socket.send(json.dumps({"type": "subscribe", **wanted}))
        assert (await socket.message())["state"] == "live"
        await asyncio.sleep(3)
        connection = await sync_to_async(lambda: access.connect(access.target_for(node)))()
        ahead_s = await asyncio.to_thread(clock_ahead_s, connection)
        for number in range(8):
            command = f"logger -t nodeadmin-test 'line {number}'"
            running = asyncio.to_thread(connection.shell.run, command, timeout_s=20)
            task = asyncio.create_task(running)
            (row,) = await rows(socket)
            arrived = time.time()
            assert row["message"] == f"line {number}"
            logged = datetime.fromisoformat(row["time"]).timestamp() - ahead_s
            delays.append(arrived - logged)
            await task
            await asyncio.sleep(0.4)
    # journald itself tells its readers of new entries only every 250 ms.
    slow = await asyncio.to_thread(pace, lab_plain)
    assert sorted(delays)[len(delays) // 2] < 0.5 * slow, delays


async def test_a_cut_network_is_told_and_what_was_logged_meanwhile_comes_once(lab_plain) -> None:
    headers, _node = await a_viewer(lab_plain)
    lines = "sleep 6; for n in 1 2 3; do logger -t nodeadmin-cut line $n; done"
    async with opened("/ws/nodes/lab/logs/", headers) as socket:
        wanted = {"services": ["identifier:nodeadmin-cut"], "backlog": 0}
        await socket.send(json.dumps({"type": "subscribe", **wanted}))
        assert (await socket.message())["state"] == "live"
        await asyncio.sleep(3)
        command = f"systemd-run --collect --quiet sh -c {shlex.quote(lines)}"
        await asyncio.to_thread(lab_plain.run, command)
        lab_plain.cut_network()
        try:
            begun = time.monotonic()
            event = await socket._communicator.receive_output(120)
            told_s = time.monotonic() - begun
            assert json.loads(event["text"])["state"] == "reconnecting"
        finally:
            lab_plain.restore_network()
        assert told_s < 30 * await asyncio.to_thread(pace, lab_plain)
        found: list[str] = []
        while len(found) < 3:
            found += [row["message"] for row in await rows(socket)]
        assert found == ["line 1", "line 2", "line 3"]


async def test_the_stream_goes_on_when_a_host_that_died_is_back(lab_plain) -> None:
    headers, _node = await a_viewer(lab_plain)
    async with opened("/ws/nodes/lab/logs/", headers) as socket:
        await socket.send(json.dumps({"type": "subscribe", "services": ["kernel"], "backlog": 5}))
        before = {row["boot_id"] for row in await rows(socket)}
        await asyncio.to_thread(lab_plain.power_cut)
        while (message := await socket.message())["type"] != "state" or message["state"] != "reconnecting":
            pass
        assert message["code"] in ("host_unreachable", "timeout")
        await asyncio.to_thread(lab_plain.start)
        after = {row["boot_id"] for row in await rows(socket)}
        assert after - before, "lines of the new boot are shown without anybody having asked again"
    await asyncio.to_thread(lab_plain.wait_until_ready)
