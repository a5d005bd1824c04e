"""A database that is held by somebody else, and callers who wait as long as they are let."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, ProgrammingError, connection
from django.test import Client
from django.urls import reverse

from nodes.database_faults import unavailable
from nodes.engine.waits import waiting, waits
from nodes.errors import RateLimited
from nodes.events import Actor
from nodes.models import Node, User
from nodes.realtime import access as socket_access
from tests.api.conftest import Api
from tests.factories import make_node, make_user
from tests.realtime.sockets import OWN, Socket, cookie_of

LOCK_S = 0.2
PASSWORD = "correct horse battery"

sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="locks SQLite's file")


@pytest.fixture
def locked(transactional_db: None) -> Iterator[Any]:
    """``locked()`` takes the database's write lock and keeps it; nobody waits for it for long."""
    options = connection.settings_dict["OPTIONS"]
    patient = options["timeout"]
    connection.close()
    options["timeout"] = LOCK_S
    with ExitStack() as stack:
        holder = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        stack.callback(holder.close)

        def lock() -> None:
            holder.execute("BEGIN IMMEDIATE")

        yield lock
    options["timeout"] = patient
    connection.close()


@sqlite
def test_a_locked_database_is_an_answer_to_come_back(locked: Any) -> None:
    user = make_user(is_superuser=True, is_staff=True)
    user.set_password(PASSWORD)
    user.save()
    node = make_node("kvm-01")
    call, page = Api(user), Client(raise_request_exception=False)
    anonymous = Client(raise_request_exception=False)
    page.force_login(user)
    locked()
    settings_page = reverse("node-settings", args=["kvm-01"])
    answers = {
        "API": call.raw("update-node", {"node": "kvm-01", "notes": "x"}),
        "page": page.post(settings_page, {"name": "kvm-01", "type": "compute", "notes": "x"}),
        "htmx": page.post(reverse("node-refresh", args=["kvm-01"]), headers={"HX-Request": "true"}),
        "sign-in": anonymous.post(reverse("login"), {"username": user.get_username(), "password": PASSWORD}),
        "admin": page.post(reverse("admin:nodes_node_delete", args=[node.pk]), {"post": "yes"}),
    }
    for name, answer in answers.items():
        assert (answer.status_code, answer["Retry-After"]) == (503, "3"), name
    assert answers["API"].json()["code"] == "database_unavailable"
    assert answers["API"].json()["retryable"] is True
    assert answers["htmx"]["HX-Retarget"] == "#flash"
    assert b"does not answer in time" in answers["page"].content


@sqlite
def test_reading_goes_on_while_somebody_writes(locked: Any) -> None:
    user = make_user(is_superuser=True)
    make_node("kvm-01")
    call = Api(user)
    locked()
    assert call("list-nodes")[0] == 200, "though the token's last use cannot be noted"


def _cause(cause: BaseException, kind: type[Exception] = OperationalError) -> Exception:
    error = kind(str(cause))
    error.__cause__ = cause
    return error


def _sqlite(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "comes_back"),
    [
        (_cause(_sqlite(sqlite3.SQLITE_BUSY)), True),
        (_cause(_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT)), True),
        (_cause(_sqlite(sqlite3.SQLITE_LOCKED)), True),
        (_cause(_sqlite(sqlite3.SQLITE_ERROR)), False),
        (_cause(_sqlite(sqlite3.SQLITE_CORRUPT)), False),
        (_cause(psycopg.errors.LockNotAvailable("x")), True),
        (_cause(psycopg.errors.QueryCanceled("x")), True),
        (_cause(psycopg.errors.TooManyConnections("x")), True),
        (_cause(psycopg.errors.AdminShutdown("x")), True),
        (_cause(psycopg.errors.DeadlockDetected("x")), True),
        (_cause(psycopg.OperationalError("connection refused")), True),
        (_cause(psycopg.errors.UndefinedTable("x"), ProgrammingError), False),
        (_cause(psycopg.errors.UniqueViolation("x")), False),
        (OperationalError("database is locked"), True),
        (OperationalError("no such table: x"), False),
        (ValueError("database is locked"), False),
    ],
)
def test_only_what_a_later_try_may_not_meet_is_one(error: Exception, comes_back: bool) -> None:
    assert (unavailable(error) is not None) is comes_back


@pytest.mark.django_db(transaction=True)
async def test_a_socket_is_closed_with_the_code_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    user = await sync_to_async(make_user)(is_superuser=True)
    cookie = await sync_to_async(cookie_of)(user)

    def busy(_caller: Any) -> None:
        raise _cause(_sqlite(sqlite3.SQLITE_BUSY))

    monkeypatch.setattr(socket_access.Caller, "user", busy)
    socket = Socket("/ws/fleet/", [*OWN, cookie])
    answer = await socket.open()
    if answer["type"] != "websocket.close":
        assert await socket.close_code() == 1013
    else:
        assert answer["code"] == 1013
    await socket.close()


# -- waiting ----------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_who_takes_all_their_places_holds_up_nobody_else(administrator: User, settings: Any) -> None:
    settings.NODEADMIN_WAITS_PER_USER, settings.NODEADMIN_WAITS = 2, 4
    other = make_user(is_superuser=True)
    make_node("kvm-01", uri="test:///default")
    mine, theirs = Api(administrator), Api(other)
    refresh = {"node": "kvm-01", "refresh": True, "wait_s": 0}
    with _held(administrator, 2):
        for endpoint, body, headers in (
            ("describe-node", refresh, {}),
            ("refresh-node", {"node": "kvm-01"}, {"Prefer": "wait=1"}),
            ("describe-node-logs", {"node": "kvm-01"}, {}),
            ("list-log-sources", {"node": "kvm-01"}, {}),
            ("reboot-node", {"node": "kvm-01"}, {}),
            ("scan-host-key", {"uri": "qemu+ssh://127.0.0.1:1/system"}, {}),
        ):
            raw = mine.raw(endpoint, body, **headers)
            assert (raw.status_code, raw.json()["code"], raw["Retry-After"]) == (429, "rate_limited", "2"), (
                endpoint
            )
        started = time.monotonic()
        assert mine("describe-node", {"node": "kvm-01"})[0] == 200, "what is read is read"
        assert mine("list-nodes")[0] == 200
        assert theirs("describe-node", refresh)[0] == 200
        assert theirs("reboot-node", {"node": "kvm-01"})[0] in (409, 428)
        assert time.monotonic() - started < 20
    assert waits().held == 0
    assert mine("describe-node", refresh)[0] == 200


@pytest.mark.django_db
def test_a_call_that_is_refused_has_done_nothing(administrator: User, settings: Any) -> None:
    settings.NODEADMIN_WAITS_PER_USER = 1
    make_node("kvm-01", uri="test:///default")
    with _held(administrator, 1):
        raw = Api(administrator).raw("refresh-node", {"node": "kvm-01"}, Prefer="wait=5")
    assert raw.status_code == 429
    assert not Node.objects.get().operations.exists()


@pytest.mark.django_db
def test_all_places_together_are_bounded(administrator: User, operator: User, settings: Any) -> None:
    settings.NODEADMIN_WAITS_PER_USER, settings.NODEADMIN_WAITS = 2, 3
    refused = pytest.raises(RateLimited, match="server")
    with _held(administrator, 2), _held(operator, 1), refused, waiting(Actor(operator)):
        raise AssertionError("there was no place")
    assert waits().held == 0


def _held(user: User, count: int) -> ExitStack:
    """So many places of the user's, as calls in other threads hold them."""
    stack = ExitStack()
    for _number in range(count):
        held, free = threading.Event(), threading.Event()

        def hold(held: threading.Event = held, free: threading.Event = free) -> None:
            with waiting(Actor(user)):
                held.set()
                free.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(10)
        stack.callback(thread.join)
        stack.callback(free.set)
    return stack
