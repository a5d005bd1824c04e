"""Who acts reaches the entries by itself: requests under ASGI, operations, the command line."""

from __future__ import annotations

import asyncio
import getpass
import threading

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.test import AsyncClient

from nodes import events
from nodes.audit import command_line
from nodes.engine.submit import submit
from nodes.events import SYSTEM, Actor, acting, current_actor
from nodes.models import Event
from nodes.models.event import Via
from nodes.operations.refresh_node import RefreshNode
from tests.engine.running import run_queued
from tests.factories import make_node, make_user


@pytest.mark.django_db(transaction=True)
def test_a_request_under_asgi_names_its_user_in_the_thread_that_serves_it():
    user = make_user("root", is_staff=True, is_superuser=True)

    async def call() -> int:
        client = AsyncClient(raise_request_exception=False)
        await client.aforce_login(user)
        answer = await client.post("/admin/auth/group/add/", {"name": "night shift"})
        return answer.status_code

    assert asyncio.run(call()) == 302
    entry = Event.objects.get(kind="group_created")
    assert (entry.user_name, entry.via, entry.source_ip) == ("root", "admin", "127.0.0.1")
    assert entry.number is not None


async def test_tasks_at_the_same_time_do_not_mix_up_who_acts():
    async def work(name: str) -> str:
        with acting(Actor(via=Via.API, token_name=name)):
            await asyncio.sleep(0.01)
            return (await sync_to_async(current_actor)()).token_name

    names = [f"token-{number}" for number in range(10)]
    assert await asyncio.gather(*(work(name) for name in names)) == names
    assert current_actor() == SYSTEM


def test_another_thread_does_not_act_for_who_started_it():
    seen = list[Actor]()
    with acting(Actor(via=Via.PAGE, token_name="x")):
        thread = threading.Thread(target=lambda: seen.append(current_actor()))
        thread.start()
        thread.join()
    assert seen == [SYSTEM]


@pytest.mark.django_db(transaction=True)
def test_what_an_operation_changes_is_told_of_who_asked_for_it(monkeypatch):
    """Whatever it calls, and though nobody passes the actor on."""
    user = make_user("ada", is_superuser=True)
    monkeypatch.setattr(RefreshNode, "execute", lambda _kind, _run: Group.objects.create(name="x") and None)
    submit("refresh-node", actor=Actor(user, "192.0.2.7", Via.API, "ci"), node=make_node())
    run_queued()
    entry = Event.objects.get(kind="group_created")
    assert (entry.user_name, entry.source_ip, entry.via, entry.token_name) == (
        "ada",
        "192.0.2.7",
        "api",
        "ci",
    )
    Group.objects.create(name="y")
    assert Event.objects.filter(kind="group_created", via="system").count() == 1


@pytest.mark.django_db
def test_the_command_line_is_named_with_the_user_of_the_operating_system(monkeypatch):
    monkeypatch.setattr(events, "_of_process", SYSTEM)
    monkeypatch.setattr("sys.argv", ["manage.py", "shell"])
    monkeypatch.setenv("SUDO_USER", "alice")
    command_line.install()
    Group.objects.create(name="night shift")
    entry = Event.objects.get(kind="group_created")
    assert (entry.via, entry.user, entry.category) == ("command", None, "audit")
    assert (entry.data["os_user"], entry.data["sudo_user"]) == (getpass.getuser(), "alice")


@pytest.mark.parametrize("program", ["manage.py", "/usr/bin/django-admin", "/lib/django/__main__.py"])
def test_each_name_of_the_command_line_is_one(monkeypatch, program):
    monkeypatch.setattr(events, "_of_process", SYSTEM)
    monkeypatch.setattr("sys.argv", [program, "changepassword"])
    command_line.install()
    assert current_actor().via == Via.COMMAND


@pytest.mark.parametrize("argv", [["manage.py", "serve"], ["manage.py"], ["pytest", "x"], ["uvicorn", "x"]])
def test_a_server_is_not_the_command_line(monkeypatch, argv):
    monkeypatch.setattr(events, "_of_process", SYSTEM)
    monkeypatch.setattr("sys.argv", argv)
    command_line.install()
    assert current_actor() == SYSTEM
