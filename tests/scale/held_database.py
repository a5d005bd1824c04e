"""A PostgreSQL that holds a row or ends a connection: run by test_scale.py in a pytest of its own."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from tests.api.conftest import Api
from tests.factories import make_node, make_user


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_locks_on_postgresql_is_an_answer_to_come_back() -> None:
    user = make_user(is_superuser=True, is_staff=True)
    node = make_node("kvm-01")
    call = Api(user)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '200ms'")
    with psycopg.connect(**_parameters()) as holder:
        holder.execute("SELECT 1 FROM nodes_node WHERE id = %s FOR UPDATE", [node.pk])
        answer = call.raw("update-node", {"node": "kvm-01", "notes": "x"})
        assert (answer.status_code, answer["Retry-After"]) == (503, "3")
        assert answer.json()["code"] == "database_unavailable"
        holder.rollback()
    connection.close()
    assert call("update-node", {"node": "kvm-01", "notes": "x"})[0] == 200


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_postgresql_ended_is_an_answer_to_come_back_and_the_next_one_is_well() -> None:
    user = make_user(is_superuser=True, is_staff=True)
    make_node("kvm-01")
    call, page = Api(user), Client(raise_request_exception=False)
    page.force_login(user)
    for ask in (lambda: call.raw("list-nodes", {}), lambda: page.get(reverse("node-list"))):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            own = cursor.fetchone()[0]
        with psycopg.connect(**_parameters()) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [own])
        answer = ask()
        assert (answer.status_code, answer["Retry-After"]) == (503, "3")
        connection.close()
        assert ask().status_code == 200


def _parameters() -> dict[str, Any]:
    settings = connection.settings_dict
    return {"host": settings["HOST"], "user": settings["USER"], "dbname": settings["NAME"]}
