"""A host that falls silent without closing anything: said within a bounded time, and gone on with after."""

from __future__ import annotations

import asyncio
import time

import pytest
from asgiref.sync import sync_to_async

from nodes.hosts import qemu_logs
from nodes.models import Node
from nodes.permissions import VIEW, VIEW_LOGS
from nodes.realtime import log_stream
from tests.factories import move_node
from tests.forwarder import Forwarder
from tests.journals import AVAILABLE
from tests.realtime.sockets import opened
from tests.realtime.test_logs import LOGS, host, numbers, subscribe, viewer, writer

__all__ = ["host", "writer"]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not AVAILABLE, reason="needs systemd-journal-remote"),
]
PROMISED_S = 30
QUIET_S, ANSWER_S = 1.0, 4.0


def test_as_it_is_set_a_viewer_knows_in_time():
    assert log_stream._QUIET_S + log_stream._IDLE_S + log_stream._ANSWER_S <= PROMISED_S


@pytest.mark.parametrize("filters", [{}, {"services": ["cron", "vm-log"]}], ids=["journal", "with files"])
async def test_a_black_hole_is_told_and_the_stream_goes_on_from_its_place(
    host, writer, monkeypatch, tmp_path, filters
) -> None:
    monkeypatch.setattr(qemu_logs, "DIRECTORY", str(tmp_path))  # no VM of this machine
    monkeypatch.setattr(log_stream, "_QUIET_S", QUIET_S)
    monkeypatch.setattr(log_stream, "_ANSWER_S", ANSWER_S)
    headers = await viewer(host, VIEW, VIEW_LOGS)
    with Forwarder(host.sshd.port) as link:
        uri = f"qemu+ssh://root@127.0.0.1:{link.port}/system"
        await sync_to_async(lambda: move_node(Node.objects.get(name="kvm-01"), uri))()
        async with opened(LOGS, headers) as socket:
            await subscribe(socket, backlog=1, **filters)
            assert (await numbers(socket, 1))[0] == [49]
            writer.write(100, 101)
            assert (await numbers(socket, 2))[0] == [100, 101]
            # A host that only has nothing to say is not taken for lost.
            assert await socket.is_quiet(3 * QUIET_S)
            link.swallow()
            writer.write(102, 103)
            begun = time.monotonic()
            assert (await socket.message(15))["state"] == "reconnecting"
            assert time.monotonic() - begun < QUIET_S + log_stream._IDLE_S + ANSWER_S + 2
            writer.write(104)
            await asyncio.sleep(0.5)
            link.recover()
            assert (await numbers(socket, 3))[0] == [102, 103, 104]
            writer.write(105)
            assert (await numbers(socket, 1))[0] == [105]
