"""Readers of the environment, system checks, and what never reaches a log."""

from __future__ import annotations

import logging.config
import os
import subprocess
import sys
import threading

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from nodeadmin import env
from nodeadmin.logs import hide_secrets, logging_config


@pytest.mark.parametrize(("text", "value"), [("1", True), ("Yes", True), ("off", False), ("", None)])
def test_booleans(monkeypatch, text, value):
    monkeypatch.setenv("X", text)
    assert env.boolean("X", True) is (True if value is None else value)


@pytest.mark.parametrize("text", ["maybe", "2", "tru"])
def test_what_is_no_boolean_is_named(monkeypatch, text):
    monkeypatch.setenv("X_FLAG", text)
    with pytest.raises(ImproperlyConfigured, match=r"X_FLAG.*true or false"):
        env.boolean("X_FLAG", False)


@pytest.mark.parametrize("text", ["x", "0", "11", "1.5"])
def test_numbers_out_of_bounds_are_named_with_their_bounds(monkeypatch, text):
    monkeypatch.setenv("X_NUMBER", text)
    with pytest.raises(ImproperlyConfigured, match="X_NUMBER"):
        env.integer("X_NUMBER", 5, minimum=1, maximum=10)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_seconds_are_finite(monkeypatch, text):
    monkeypatch.setenv("X_TIME", text)
    with pytest.raises(ImproperlyConfigured, match="X_TIME"):
        env.seconds("X_TIME", 5.0)


@pytest.mark.parametrize("text", ["a=x,b=y", " a = x , b=y,", '{"a": "x", "b": "y"}'])
def test_pairs_are_read_from_words_or_json(monkeypatch, text):
    monkeypatch.setenv("X_PAIRS", text)
    assert env.pairs("X_PAIRS") == {"a": "x", "b": "y"}


@pytest.mark.parametrize("text", ["a", "=x", "a=", '{"a": 1}', '{"a"', '{"a": ["x"]}'])
def test_what_are_no_pairs_is_named(monkeypatch, text):
    monkeypatch.setenv("X_PAIRS", text)
    with pytest.raises(ImproperlyConfigured, match="X_PAIRS"):
        env.pairs("X_PAIRS")


@pytest.mark.parametrize(
    ("issuer", "client", "groups", "complaints"),
    [
        ("", "", {}, 0),
        ("https://idp.example.org", "nodeadmin", {"a": "b"}, 0),
        ("http://127.0.0.1:8080", "nodeadmin", {"a": "b"}, 0),
        ("http://idp.example.org", "nodeadmin", {"a": "b"}, 1),
        ("idp.example.org", "", {}, 3),
    ],
)
def test_an_identity_provider_that_is_half_set_is_named(settings, issuer, client, groups, complaints):
    settings.NODEADMIN_OIDC_ISSUER = issuer
    settings.NODEADMIN_OIDC_GROUP_ROLES = groups
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [{"client_id": client}]}}
    assert sum(found.id == "nodeadmin.E020" for found in run_checks()) == complaints


def test_an_empty_variable_is_an_absent_one(monkeypatch):
    monkeypatch.setenv("X_WORD", " ")
    assert env.text("X_WORD", "a", choices=("a", "b")) == "a"


@pytest.mark.parametrize("text", ["1200", "many/min", "5/fortnight", "0/min", "-1/s"])
def test_a_rate_that_is_none_is_named(monkeypatch, text):
    monkeypatch.setenv("X_RATE", "10/s")
    assert env.rate("X_RATE", "5/min") == "10/s"
    monkeypatch.setenv("X_RATE", text)
    with pytest.raises(ImproperlyConfigured, match="X_RATE"):
        env.rate("X_RATE", "5/min")


def test_a_secret_comes_from_a_file_and_an_unreadable_file_is_named(monkeypatch, tmp_path):
    file = tmp_path / "key"
    file.write_text("hush\n")
    monkeypatch.setenv("X_KEY_FILE", str(file))
    assert env.secret("X_KEY") == "hush"
    monkeypatch.setenv("X_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(ImproperlyConfigured, match="X_KEY_FILE"):
        env.secret("X_KEY")
    monkeypatch.delenv("X_KEY_FILE")
    with pytest.raises(ImproperlyConfigured, match="X_KEY"):
        env.secret("X_KEY")


def test_a_kept_secret_is_made_once_with_closed_rights_even_by_many_at_once(tmp_path):
    file = tmp_path / "secrets" / "key"
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(env.kept_secret("X_NONE", file))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["key"]


def ids(messages) -> set[str]:
    return {message.id for message in messages}


def test_a_data_directory_open_to_others_is_an_error(settings, tmp_path):
    settings.NODEADMIN_PROFILE = "production"
    settings.DATA_DIR = tmp_path
    tmp_path.chmod(0o755)
    assert "nodeadmin.E002" in ids(run_checks())
    tmp_path.chmod(0o700)
    assert "nodeadmin.E002" not in ids(run_checks())


def test_local_settings_on_a_foreign_address_are_an_error(settings):
    settings.NODEADMIN_PROFILE = "local"
    settings.ALLOWED_HOSTS = ["kvm.example.org"]
    assert "nodeadmin.E003" in ids(run_checks())


def test_proxies_that_are_no_addresses_are_an_error(settings):
    settings.NODEADMIN_TRUSTED_PROXIES = ["10.0.0.7", "fd00::/64", "proxy.example.org"]
    [found] = [message for message in run_checks() if message.id == "nodeadmin.E008"]
    assert "proxy.example.org" in found.msg
    settings.NODEADMIN_TRUSTED_PROXIES = ["10.0.0.7", "fd00::/64"]
    assert "nodeadmin.E008" not in ids(run_checks())


@pytest.mark.parametrize("name", ["NODEADMIN_ALLOWED_NETWORKS", "NODEADMIN_DENIED_NETWORKS"])
def test_networks_that_are_none_are_an_error(settings, name):
    setattr(settings, name, ["10.0.0.0/8", "fd00::7", "10.0.0.7/8", "kvm.example.org"])
    [found] = [message for message in run_checks() if message.id == "nodeadmin.E009"]
    assert (name in found.msg, "10.0.0.7/8, kvm.example.org" in found.msg) == (True, True)
    setattr(settings, name, ["10.0.0.0/8", "fd00::7"])
    assert "nodeadmin.E009" not in ids(run_checks())


@pytest.mark.parametrize("keys", ["", "nonsense", "AAAA,"])
def test_seal_keys_that_are_none_are_an_error(settings, keys):
    settings.NODEADMIN_SEAL_KEYS = keys
    assert "nodeadmin.E001" in ids(run_checks())


@pytest.mark.parametrize("keys", ["", "short", "short " + "x" * 40])
def test_an_audit_key_that_is_none_or_short_is_an_error(settings, keys):
    settings.NODEADMIN_AUDIT_KEY = keys
    assert "nodeadmin.E021" in ids(run_checks())


def test_an_audit_key_that_is_used_for_something_else_is_an_error(settings):
    settings.NODEADMIN_AUDIT_KEY = settings.SECRET_KEY
    assert "nodeadmin.E021" in ids(run_checks())


def test_celery_wants_postgresql_a_shared_channel_layer_and_a_broker(settings, monkeypatch):
    settings.NODEADMIN_ENGINE = "celery"
    assert {"nodeadmin.E004", "nodeadmin.E005"} <= ids(run_checks())
    redis = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer"}}
    settings.CHANNEL_LAYERS, settings.NODEADMIN_BROKER_URL = redis, "redis://127.0.0.1/0"
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")
    assert ids(run_checks()) & {"nodeadmin.E004", "nodeadmin.E005", "nodeadmin.E006"} == set()
    settings.NODEADMIN_BROKER_URL = ""
    assert "nodeadmin.E005" in ids(run_checks())
    monkeypatch.setattr("nodes.checks.find_spec", lambda name: None)
    assert "nodeadmin.E006" in ids(run_checks())


def test_several_web_processes_with_the_embedded_engine_are_an_error(settings):
    settings.NODEADMIN_WEB_WORKERS = 2
    assert "nodeadmin.E007" in ids(run_checks())
    settings.NODEADMIN_ENGINE = "celery"
    assert "nodeadmin.E007" not in ids(run_checks())


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("", ""),
        ("redis://:pw@redis.example.org:6380/2", "redis://:pw@redis.example.org:6380/2"),
        ("rediss://redis.example.org/0", "rediss://redis.example.org/0"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix://user:pw@/run/redis.sock?db=3", "redis+socket://user:pw@/run/redis.sock?virtual_host=3"),
    ],
)
def test_one_redis_is_channel_layer_and_broker(monkeypatch, url, broker):
    monkeypatch.setenv("X_URL", url)
    assert env.broker(env.redis("X_URL")) == broker


def test_a_redis_url_that_is_none_is_refused_without_being_shown(monkeypatch):
    monkeypatch.setenv("X_URL", "http://user:hush@redis")
    with pytest.raises(ImproperlyConfigured, match="X_URL") as refused:
        env.redis("X_URL")
    assert "hush" not in str(refused.value)


def test_values_with_secret_names_and_private_keys_are_hidden():
    key = "x -----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY----- y"
    event = hide_secrets(
        None, "", {"password": "p", "Api_Token": "t", "note": key, "token_name": "ci", "n": 1}
    )
    assert event == {
        "password": "[hidden]",
        "Api_Token": "[hidden]",
        "note": "x [hidden] y",
        "token_name": "ci",
        "n": 1,
    }


@pytest.mark.parametrize("json", [True, False])
def test_tracebacks_in_the_log_carry_no_local_variables(json):
    config = logging_config(json=json, level="INFO")
    formatter = logging.config.DictConfigurator(config).configure_formatter(
        config["formatters"]["structured"]
    )
    logger = logging.getLogger("test")

    def fail(password: str) -> None:
        raise ValueError(f"of length {len(password)}")

    try:
        fail("local-" + "secret")
    except ValueError:
        record = logger.makeRecord("test", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    text = formatter.format(record)
    assert "ValueError: of length 12" in text
    assert "local-secret" not in text


@pytest.mark.parametrize("word", ["required", "on", "true", "Require"])
def test_a_word_that_is_none_for_the_encryption_of_migrations_stops_the_start(word):
    environment = {**os.environ, "NODEADMIN_MIGRATION_TLS": word}
    start = [sys.executable, "-c", "import nodeadmin.settings.test"]
    ended = subprocess.run(start, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "NODEADMIN_MIGRATION_TLS" in ended.stderr
    assert "require, prefer, off" in ended.stderr
