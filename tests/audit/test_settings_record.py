"""A start with other settings than the last one is an entry; what is secret is in none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.audit.keeper import verify_daily
from nodes.audit.settings_record import effective_settings, record_settings
from nodes.events import Actor, record
from nodes.models import Chore, Event, RecordedSettings
from nodes.models.event import Via

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).parents[2]


def test_the_first_start_records_and_the_same_again_says_nothing():
    assert record_settings("web") is False
    assert record_settings("web") is False
    [entry] = Event.objects.filter(kind__startswith="settings_")
    assert (entry.kind, entry.category) == ("settings_recorded", "audit")


def test_a_changed_setting_is_told_with_before_and_after(settings):
    record_settings("web")
    settings.NODEADMIN_AUDIT_DAYS = 7
    settings.ALLOWED_HOSTS = ["nodeadmin.example"]
    assert record_settings("web") is True
    entry = Event.objects.get(kind="settings_changed")
    assert entry.data["before"]["NODEADMIN_AUDIT_DAYS"] == "1095"
    assert entry.data["after"] == {"ALLOWED_HOSTS": '["nodeadmin.example"]', "NODEADMIN_AUDIT_DAYS": "7"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "hunter2hunter2"),
        ("NODEADMIN_SEAL_KEYS", "hunter2hunter2"),
        ("NODEADMIN_METRICS_TOKEN", "hunter2hunter2"),
        ("NODEADMIN_BROKER_URL", "redis://me:hunter2hunter2@host/0"),
        ("NODEADMIN_REDIS_URL", "redis://:hunter2hunter2@host/0"),
        ("SOCIALACCOUNT_PROVIDERS", {"openid_connect": {"APPS": [{"secret": "hunter2hunter2"}]}}),
    ],
)
def test_a_secret_that_changed_is_told_as_a_digest(settings, name, value):
    record_settings("web")
    setattr(settings, name, value)
    assert record_settings("web") is True
    entry = Event.objects.get(kind="settings_changed")
    assert entry.data["after"][name].startswith("digest:")
    assert "hunter2" not in json.dumps([*Event.objects.values_list("data", flat=True)])
    assert "hunter2" not in json.dumps(RecordedSettings.objects.get().values)


def test_the_password_of_the_database_is_in_no_entry(settings, monkeypatch):
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", "hunter2hunter2")
    assert "hunter2" not in json.dumps(effective_settings())


def test_two_processes_with_the_same_settings_tell_the_same(tmp_path):
    """Nothing in it depends on the process: neither addresses in memory nor the order of a set."""
    code = (
        "import django, json; django.setup(); from nodes.audit.settings_record import effective_settings;"
        "print(json.dumps(effective_settings()))"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "nodeadmin.settings.test", "NODEADMIN_DATA_DIR": str(tmp_path)}
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert " at 0x" not in told[0].decode()


@pytest.mark.django_db(transaction=True)
def test_the_daily_verification_says_what_it_finds_once_a_day():
    record("tried", "x", actor=Actor(via=Via.PAGE))
    verify_daily()
    assert not Event.objects.filter(kind="audit_log_damaged").exists()
    Event.objects.filter(kind="tried").update(message="y")
    verify_daily()
    assert not Event.objects.filter(kind="audit_log_damaged").exists()  # it was verified today
    Chore.objects.all().delete()
    verify_daily()
    entry = Event.objects.get(kind="audit_log_damaged")
    assert (entry.severity, entry.data["problems"]) == (
        "error",
        ["Entry 2 was altered: it is not what was authenticated."],
    )
