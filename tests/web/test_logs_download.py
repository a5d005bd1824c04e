"""A whole query of a journal as a file: complete, or saying where it was cut; no faster than it is read."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
import uvicorn
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.test import AsyncClient, Client

from nodeadmin.asgi import application
from nodes.hosts import journal_tool
from nodes.hosts.journal_entries import Entry
from nodes.hosts.journal_filters import read_filters
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_query import LogPage
from nodes.models import Node, NodeUserObjectPermission, User
from nodes.permissions import VIEW, VIEW_LOGS
from nodes.web import log_download
from tests.api.conftest import Api
from tests.api.test_logs import node_of
from tests.factories import grant, make_user
from tests.journals import AVAILABLE, JournalHost, entry
from tests.realtime.sockets import cookie_of
from tests.sshd import free_port

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not AVAILABLE, reason="needs systemd-journal-remote"),
]
ADDRESS = "/nodes/kvm-01/logs/download/"
LINES = 60


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JournalHost]:
    made = JournalHost(tmp_path_factory.mktemp("host"))
    made.write(
        entry(
            number,
            f"line {number}\nand more" if number == 7 else f"line {number}",
            boot=("ab" if number < 30 else "cd") * 16,
            PRIORITY=str(number % 8),
        )
        for number in range(LINES)
    )
    with made:
        yield made


@pytest.fixture
def reader(host, transactional_db) -> User:
    user = make_user()
    grant(user, node_of(host), VIEW, VIEW_LOGS)
    return user


async def asked(user: User, **query: Any) -> Any:
    client = AsyncClient()
    await client.aforce_login(user)
    return await client.get(ADDRESS, query)


async def lines(user: User, **query: Any) -> list[str]:
    response = await asked(user, **query)
    assert response.status_code == 200
    return (b"".join([piece async for piece in response])).decode().splitlines()


async def test_the_text_is_all_that_the_query_finds_with_boots_and_an_end(reader) -> None:
    found = await lines(reader, format="text")
    assert found[0].startswith("-- kvm-01: journalctl")
    assert found[1] == "2023-11-14T22:13:20.000000Z cron[100]: line 0"
    assert "2023-11-14T22:13:20.007000Z cron[107]: line 7\\x0aand more" in found
    assert found.index(f"-- Boot {'cd' * 16} --") < found.index(
        "2023-11-14T22:13:20.030000Z cron[130]: line 30"
    )
    assert found[-1] == f"-- End: {LINES} entries --"
    assert len(found) == LINES + 3


def test_nothing_in_the_text_speaks_to_a_terminal() -> None:
    row = Entry(None, None, None, "x\x1b[2J", None, "a\x1b]0;title\x07\tb\r\nc\rd\x9b", None, "")
    page = LogPage([], LogCursor(read_filters({})), False, "", False, (), {})
    file = log_download.Download(User(), "", Node(), "text", page, "", "en")
    assert file._text([row]) == b"- x\\x1b[2J: a\\x1b]0;title\\x07\tb\\x0d\\x0ac\\x0dd\\x9b\n"


async def test_json_lines_are_entries_and_one_that_says_that_this_was_all(reader, monkeypatch) -> None:
    monkeypatch.setattr(log_download, "MAX_LIMIT", 7)
    *rows, end = [json.loads(line) for line in await lines(reader, format="json", level="3")]
    numbers = [int(row["message"].split()[1]) for row in rows]
    assert numbers == [number for number in range(LINES) if number % 8 <= 3]
    assert {"time", "level", "unit", "cursor"} <= set(rows[0])
    assert end == {
        "type": "end", "complete": True, "cut": None, "entries": len(rows), "cursor": None, "problems": {},
    }  # fmt: skip


async def test_a_literal_and_an_expression_are_searched_where_the_host_cannot(reader, monkeypatch) -> None:
    real = journal_tool.tool_of
    monkeypatch.setattr(log_download, "tool_of", real)
    for name in ("journal", "log_query"):
        module = __import__(f"nodes.hosts.{name}", fromlist=["tool_of"])
        monkeypatch.setattr(
            module, "tool_of", lambda *given: journal_tool.JournalTool(real(*given).sudo, False, 0.0)
        )
    for query in ({"keyword": "LINE 4"}, {"keyword": "line 4[0-9]?$", "regex": "true"}):
        found = await lines(reader, format="json", **query)
        assert json.loads(found[-1])["entries"] == 11, query


async def test_where_it_is_cut_it_says_so_and_with_what_to_go_on(reader, monkeypatch) -> None:
    monkeypatch.setattr(log_download, "MAX_ENTRIES", 25)
    monkeypatch.setattr(log_download, "MAX_LIMIT", 10)
    *rows, end = [json.loads(line) for line in await lines(reader, format="json")]
    assert (len(rows), end["complete"], end["cut"], end["entries"]) == (25, False, "entries", 25)
    wanted = {"node": "kvm-01", "cursor": end["cursor"]}
    status, body = await sync_to_async(lambda: Api(reader)("describe-node-logs", wanted))()
    assert status == 200
    assert [row["message"] for row in body["entries"]] == [f"line {number}" for number in range(25, LINES)]
    *_rows, tail, hint, cursor = await lines(reader, format="text")
    assert tail == "-- Cut after 25 entries, the most that one file takes --"
    assert "describe-node-logs" in hint
    assert cursor.strip("- ") != end["cursor"], "another moment, so another end of the query"
    monkeypatch.setattr(log_download, "MAX_BYTES", 100)
    assert json.loads((await lines(reader, format="json"))[-1])["cut"] == "bytes"
    monkeypatch.setattr(log_download, "MAX_S", 0.0)
    monkeypatch.setattr(log_download, "MAX_BYTES", 1 << 20)
    assert json.loads((await lines(reader, format="json"))[-1])["cut"] == "time"


async def pieces_of(user: User) -> AsyncIterator[bytes]:
    response = await asked(user, format="json")
    try:
        async for piece in response:
            yield piece
    finally:
        response.close()  # as the server does when the browser is gone


async def test_a_host_that_is_lost_on_the_way_ends_the_file_with_the_reason(
    reader, host, monkeypatch
) -> None:
    monkeypatch.setattr(log_download, "MAX_LIMIT", 20)
    async with aclosing(pieces_of(reader)) as pieces:
        found = [await anext(pieces), await anext(pieces)]
        await sync_to_async(host.sshd.stop)()
        try:
            found += [piece async for piece in pieces]
        finally:
            await sync_to_async(host.sshd.start)()
    end = json.loads(b"".join(found).splitlines()[-1])
    assert end["complete"] is False
    assert end["cut"] == "host_unreachable"
    assert end["problems"]["host_unreachable"]


async def test_a_right_that_is_withdrawn_ends_the_file(reader, monkeypatch) -> None:
    monkeypatch.setattr(log_download, "MAX_LIMIT", 20)
    async with aclosing(pieces_of(reader)) as pieces:
        found = [await anext(pieces), await anext(pieces)]
        rows = NodeUserObjectPermission.objects.filter(permission__codename=VIEW_LOGS)
        await sync_to_async(rows.delete)()
        found += [piece async for piece in pieces]
    lines = b"".join(found).splitlines()
    assert json.loads(lines[-1])["cut"] == "permission_denied"
    assert len(lines) < LINES


async def test_a_session_that_is_ended_ends_the_file(reader, monkeypatch) -> None:
    monkeypatch.setattr(log_download, "MAX_LIMIT", 20)
    async with aclosing(pieces_of(reader)) as pieces:
        found = [await anext(pieces), await anext(pieces)]
        await sync_to_async(Session.objects.all().delete)()
        found += [piece async for piece in pieces]
    lines = b"".join(found).splitlines()
    assert json.loads(lines[-1])["cut"] == "not_authenticated"
    assert len(lines) < LINES


async def test_no_user_takes_more_than_some_at_once(reader, monkeypatch) -> None:
    monkeypatch.setattr(log_download, "AT_ONCE", 1)
    async with aclosing(pieces_of(reader)) as pieces:
        await anext(pieces)
        assert (await asked(reader)).status_code == 429
    assert (await asked(reader)).status_code == 200


def test_what_cannot_be_read_is_a_page_and_no_file(reader, host):
    client = Client()
    client.force_login(reader)
    assert client.get(ADDRESS, {"format": "pdf"}).status_code == 400
    wrong = client.get(ADDRESS, {"keyword": "(", "regex": "true"})
    assert wrong.status_code == 400
    assert "does not compile" in wrong.content.decode()
    stranger = Client()
    assert stranger.get(ADDRESS).status_code == 302
    stranger.force_login(make_user())
    assert stranger.get(ADDRESS).status_code == 404
    NodeUserObjectPermission.objects.filter(permission__codename=VIEW_LOGS).delete()
    assert client.get(ADDRESS).status_code == 403


# -- through a real server --------------------------------------------------------------------------

BIG_LINES, BIG = 12_000, "x" * 3000


@pytest.fixture
def port() -> Iterator[int]:
    chosen = free_port()
    server = uvicorn.Server(uvicorn.Config(application, port=chosen, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.02)
    yield chosen
    server.should_exit = True
    thread.join(20)


def test_the_host_is_read_no_faster_than_the_browser_takes_it(tmp_path, transactional_db, port, monkeypatch):
    asked_for: list[int] = []
    real = log_download.query

    def counted(*given: Any, **options: Any) -> Any:
        asked_for.append(options["limit"])
        return real(*given, **options)

    monkeypatch.setattr(log_download, "query", counted)
    monkeypatch.setattr(log_download, "MAX_LIMIT", 2000)
    made = JournalHost(tmp_path)
    made.write(entry(number, f"line {number} {BIG}") for number in range(BIG_LINES))
    user = make_user()
    with made, socket.socket() as browser:
        grant(user, node_of(made), VIEW, VIEW_LOGS)
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        browser.settimeout(60)
        browser.connect(("127.0.0.1", port))
        cookie = b": ".join(cookie_of(user)).decode()
        request = f"GET {ADDRESS}?format=json HTTP/1.0\r\nHost: localhost\r\n{cookie}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", port), 20) as impatient:
            impatient.sendall(request)
            assert impatient.recv(1000).startswith(b"HTTP/1.1 200")
        browser.sendall(request)
        first = browser.recv(1000)
        assert first.startswith(b"HTTP/1.1 200")
        threading.Event().wait(4)
        deadline = time.monotonic() + 20
        while log_download._under_way[user.pk] > 1:
            assert time.monotonic() < deadline, "the one that has left goes on"
            threading.Event().wait(0.1)
        assert len(asked_for) <= 6, "of twice six pages of 6 MB, no more than fit into the sockets' buffers"
        body = bytearray(first)
        while piece := browser.recv(1 << 20):
            body += piece
    *_rows, end = bytes(body).rstrip(b"0\r\n").splitlines()
    assert json.loads(end)["entries"] == BIG_LINES
    assert json.loads(end)["complete"] is True
    assert len(asked_for) >= BIG_LINES // 2000
