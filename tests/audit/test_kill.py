"""SIGKILL at every transition of audited changes: no committed change is without its one, numbered entry.

As in tests/engine/test_kill.py: a forked process makes the changes and kills itself right before or right
after its n-th commit. What it left is then numbered as a server does at its start, and the log is verified.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from guardian.shortcuts import assign_perm, remove_perm

from nodes.audit import head_file
from nodes.audit.counted import count, tell_ended
from nodes.audit.retention import purge_events
from nodes.audit.sealer import seal_waiting
from nodes.audit.verification import verify
from nodes.events import Actor, acting
from nodes.models import CountedEntry, Credential, Event, Node, NodeUserObjectPermission, User
from nodes.models.event import Via
from tests.engine.test_kill import in_a_process
from tests.factories import make_node

pytestmark = pytest.mark.django_db(transaction=True)
ACTOR = Actor(source_ip="192.0.2.7", via=Via.ADMIN)


def dying_at(moment: int, work: Callable[[], None]) -> Callable[[], None]:
    """``work``, killed at the ``moment``-th point: even ones lie right before a commit, odd ones behind it.
    Writing the head file is a point as well."""

    def run() -> None:
        points = 0

        def pass_point() -> None:
            nonlocal points
            if points == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            points += 1

        commit, replace = BaseDatabaseWrapper._commit, head_file._flush

        def committing(self: BaseDatabaseWrapper) -> None:
            pass_point()
            commit(self)
            pass_point()

        def flushing(path: object) -> None:
            pass_point()
            replace(path)  # type: ignore[arg-type]

        BaseDatabaseWrapper._commit = committing  # type: ignore[method-assign]
        head_file._flush = flushing  # type: ignore[assignment]
        work()

    return run


def changes() -> None:
    """Of each kind one, outside of any transaction of the caller's."""
    with acting(ACTOR):
        eve = User.objects.create_user("eve", password="x")
        eve.is_superuser = True
        eve.save()
        group = Group.objects.create(name="admins")
        eve.groups.add(group)
        node = Node.objects.get()
        assign_perm("power_node", eve, node)
        remove_perm("power_node", eve, node)
        Credential.objects.create(node=node, kind="nodeadmin_key")
        count("sign_in_failed", "Failed.", key=("eve",), actor=ACTOR)
        count("sign_in_failed", "Failed.", key=("eve",), actor=ACTOR)
        eve.delete()


def facts() -> dict[str, bool]:
    """By kind of entry: whether the database shows the change that it tells of."""
    eve = User.objects.filter(username="eve").first()
    gone = Event.objects.filter(kind="user_deleted").exists()
    return {
        "user_created": eve is not None or gone,
        "user_changed": bool(eve and eve.is_superuser) or gone,
        "group_created": Group.objects.exists(),
        "user_groups_changed": bool(eve and eve.groups.exists()) or gone,
        "credential_stored": Credential.objects.exists(),
        "sign_in_failed": CountedEntry.objects.exists(),
    }


def afresh() -> None:
    for model in (Credential, CountedEntry, Event, NodeUserObjectPermission, Group, User, Node):
        model.objects.all().delete()
    Event.objects.all().delete()
    make_node()
    head_file.head_path().unlink(missing_ok=True)


def test_changes_killed_anywhere_have_each_their_one_entry():
    for moment in range(300):
        afresh()
        connection.close()
        status = in_a_process(dying_at(moment, changes))
        seal_waiting()
        for kind, happened in facts().items():
            assert Event.objects.filter(kind=kind).count() == int(happened), (moment, kind)
        granted = Event.objects.filter(kind="access_granted").count()
        withdrawn = Event.objects.filter(kind="access_withdrawn").count()
        assert granted - withdrawn == NodeUserObjectPermission.objects.count(), moment
        assert not Event.objects.unsealed().exists()
        found = verify()
        assert found.is_clean, (moment, found.problems)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert moment >= 40
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
    pytest.fail("the changes never ended by themselves")


def test_retention_killed_anywhere_leaves_a_log_that_verifies(settings):
    settings.NODEADMIN_AUDIT_DAYS = 0
    for moment in range(100):
        afresh()
        with acting(ACTOR):
            for number in range(6):
                Group.objects.create(name=f"group {number}")
        connection.close()
        status = in_a_process(dying_at(moment, lambda: purge_events() and None))
        seal_waiting()
        found = verify()
        assert found.is_clean, (moment, found.problems)
        if os.WIFEXITED(status):
            assert Event.objects.filter(kind="audit_log_purged").count() == 1
            return
    pytest.fail("retention never ended by itself")


def test_what_was_only_counted_survives_the_process():
    for _round in range(3):
        count("sign_in_failed", "Failed.", key=("eve",), actor=ACTOR)
    connection.close()
    CountedEntry.objects.update(until="2020-01-01T00:00:00Z")
    assert in_a_process(lambda: tell_ended() and None) == 0
    assert Event.objects.filter(kind="sign_in_failed").order_by("pk").last().data["count"] == 2
