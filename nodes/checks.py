"""System checks: what is misconfigured, each with an id and a remedy."""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from nodeadmin.proxies import UNIX
from nodes.models.audit_mac import SHORTEST_KEY


@checks.register(checks.Tags.security)
def seal_keys(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.E001: no key to seal credentials with, or one that is none."""
    keys = settings.NODEADMIN_SEAL_KEYS.replace(",", " ").split()
    try:
        for key in keys:
            Fernet(key)
    except ValueError:
        keys = []
    if keys:
        return []
    return [
        checks.Error(
            "NODEADMIN_SEAL_KEYS holds no valid Fernet key.",
            hint="Make one with: openssl rand -base64 32 | tr '+/' '-_'",
            id="nodeadmin.E001",
        )
    ]


@checks.register(checks.Tags.security)
def audit_key(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.E021: no key to authenticate the audit log with, or one that could be guessed or is known."""
    keys = settings.NODEADMIN_AUDIT_KEY.replace(",", " ").split()
    hint = "Make one with: openssl rand -base64 48"
    if not keys or any(len(key) < SHORTEST_KEY for key in keys):
        text = f"NODEADMIN_AUDIT_KEY holds no key, or one of less than {SHORTEST_KEY} characters."
        return [checks.Error(text, hint=hint, id="nodeadmin.E021")]
    if {settings.SECRET_KEY, *settings.NODEADMIN_SEAL_KEYS.replace(",", " ").split()}.intersection(keys):
        text = "NODEADMIN_AUDIT_KEY is a key that nodeadmin uses for something else."
        return [checks.Error(text, hint=hint, id="nodeadmin.E021")]
    return []


@checks.register(checks.Tags.security)
def audit_export(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.E022: an export of the audit log that leads nowhere."""
    from nodes.audit.syslog import SyslogTarget, context_is_usable

    problems = []
    file = settings.NODEADMIN_AUDIT_FILE
    if file and (not Path(file).is_absolute() or not Path(file).parent.is_dir()):
        problems.append(f"NODEADMIN_AUDIT_FILE is {file}: no absolute path, or its directory is missing.")
    if settings.NODEADMIN_AUDIT_SYSLOG:
        try:
            context_is_usable(SyslogTarget.parse(settings.NODEADMIN_AUDIT_SYSLOG))
        except ImproperlyConfigured as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"The certificate authorities of NODEADMIN_AUDIT_SYSLOG cannot be read: {error}.")
    hint = "Correct it, or leave it out to export nothing."
    return [checks.Error(text, hint=hint, id="nodeadmin.E022") for text in problems]


@checks.register(checks.Tags.security)
def data_directory(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.E002: others may enter the data directory, which holds secrets and the database."""
    directory = Path(settings.DATA_DIR)
    if not directory.exists() or settings.NODEADMIN_PROFILE == "test":
        return []
    mode = stat.S_IMODE(directory.stat().st_mode)
    if not mode & 0o077:
        return []
    return [
        checks.Error(
            f"The data directory {directory} is open to others (mode {mode:04o}).",
            hint=f"chmod 700 {directory}",
            id="nodeadmin.E002",
        )
    ]


@checks.register(checks.Tags.security)
def local_profile(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.E003: the settings for plain HTTP on loopback serve another address."""
    loopback = {"127.0.0.1", "localhost", "[::1]"}
    foreign = sorted(set(settings.ALLOWED_HOSTS) - loopback)
    if settings.NODEADMIN_PROFILE != "local" or not foreign:
        return []
    return [
        checks.Error(
            "The local settings send cookies without TLS, but NODEADMIN_ALLOWED_HOSTS names other hosts: "
            + ", ".join(foreign),
            hint="Set DJANGO_SETTINGS_MODULE=nodeadmin.settings.production and put a TLS proxy in front.",
            id="nodeadmin.E003",
        )
    ]


@checks.register(checks.Tags.security)
def trusted_proxies(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.E008: a proxy is named by what is no address, so that its word would never count."""
    wrong = [name for name in settings.NODEADMIN_TRUSTED_PROXIES if name != UNIX and not _is_network(name)]
    if not wrong:
        return []
    return [
        checks.Error(
            f"NODEADMIN_TRUSTED_PROXIES holds what is no address: {', '.join(wrong)}.",
            hint="List IP addresses or networks, such as 10.0.0.7 or fd00::/64, and unix for a Unix socket.",
            id="nodeadmin.E008",
        )
    ]


@checks.register(checks.Tags.security, deploy=True)
def no_proxy(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.W003: nobody can say that a client came over TLS, so that all are sent to https for ever."""
    if settings.NODEADMIN_TRUSTED_PROXIES or not settings.SECURE_SSL_REDIRECT:
        return []
    return [
        checks.Warning(
            "NODEADMIN_TRUSTED_PROXIES names no proxy: every request counts as plain HTTP from the proxy's "
            "address, and is redirected to https without an end.",
            hint="List the address of the proxy that ends TLS, such as 127.0.0.1, and have it set "
            "X-Forwarded-Proto and append to X-Forwarded-For.",
            id="nodeadmin.W003",
        )
    ]


@checks.register(checks.Tags.security)
def key_sources(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.E030: a source of nodeadmin's key that is no address: hosts would refuse the key."""
    wrong = [name for name in settings.NODEADMIN_KEY_FROM if not _is_network(name) or "%" in name]
    if not wrong:
        return []
    return [
        checks.Error(
            f"NODEADMIN_KEY_FROM holds what is no address or network: {', '.join(wrong)}.",
            hint="List this machine's addresses as hosts see them, and those of jump hosts: 10.0.0.7, "
            "2001:db8::/64.",
            id="nodeadmin.E030",
        )
    ]


@checks.register(checks.Tags.security)
def networks(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.E009: a network that may or may not be reached is none, so that its rule would not hold."""
    found: list[checks.CheckMessage] = []
    for name in ("NODEADMIN_ALLOWED_NETWORKS", "NODEADMIN_DENIED_NETWORKS"):
        wrong = [text for text in getattr(settings, name) if not _is_network(text)]
        if wrong:
            found.append(
                checks.Error(
                    f"{name} holds what is no network: {', '.join(wrong)}.",
                    hint="List networks without host bits, or addresses, such as 10.0.0.0/8 or fd00::7.",
                    id="nodeadmin.E009",
                )
            )
    return found


@checks.register(checks.Tags.security)
def identity_provider(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.E020: an identity provider that is half set, or is asked without TLS."""
    issuer = settings.NODEADMIN_OIDC_ISSUER
    if not issuer:
        return []
    apps = settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"]
    parts = urlsplit(issuer)
    wrong = []
    if not (apps and apps[0]["client_id"]):
        wrong.append("NODEADMIN_OIDC_CLIENT_ID is missing")
    if not settings.NODEADMIN_OIDC_GROUP_ROLES:
        wrong.append("NODEADMIN_OIDC_GROUP_ROLES maps no group, so that nobody could sign in")
    loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        wrong.append(f"NODEADMIN_OIDC_ISSUER is {issuer!r}, and only https:// is safe")
    return [
        checks.Error(
            f"{words}.",
            hint="See “Accounts” in the README, or unset NODEADMIN_OIDC_ISSUER.",
            id="nodeadmin.E020",
        )
        for words in wrong
    ]


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


@checks.register()
def device_names(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.W001: no pci.ids, so devices are shown by number only."""
    from nodes.inventory.hwids import pci_names

    if pci_names().vendor("8086") is not None:
        return []
    return [
        checks.Warning(
            "No database of device names (pci.ids) was found: devices are shown by their numbers.",
            hint="Install the package hwdata.",
            id="nodeadmin.W001",
        )
    ]


@checks.register()
def running_as_root(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.W002: production as root."""
    if settings.NODEADMIN_PROFILE != "production" or os.geteuid() != 0:
        return []
    return [
        checks.Warning(
            "The server runs as root.",
            hint="Run it as a user of its own that is in the group libvirt.",
            id="nodeadmin.W002",
        )
    ]


@checks.register()
def engine(app_configs: Any, **kwargs: Any) -> Sequence[checks.CheckMessage]:
    """nodeadmin.E004 to E007: what the engine that is set cannot do with."""
    if settings.NODEADMIN_ENGINE == "celery":
        return [*_celery_database(), *_celery_redis(), *_celery_packages()]
    if settings.NODEADMIN_WEB_WORKERS > 1:
        return [
            checks.Error(
                f"NODEADMIN_WEB_WORKERS is {settings.NODEADMIN_WEB_WORKERS}, but the embedded engine runs "
                "in one process only.",
                hint="Set NODEADMIN_ENGINE=celery, or leave NODEADMIN_WEB_WORKERS out.",
                id="nodeadmin.E007",
            )
        ]
    return []


def _celery_database() -> Sequence[checks.CheckMessage]:
    """nodeadmin.E004: SQLite has one writer at a time, on one machine."""
    if settings.DATABASES["default"]["ENGINE"] != "django.db.backends.sqlite3":
        return []
    return [
        checks.Error(
            "NODEADMIN_ENGINE=celery works with PostgreSQL only, and the database is SQLite.",
            hint="Set NODEADMIN_DATABASE_URL=postgresql://USER:PASSWORD@HOST:PORT/NAME.",
            id="nodeadmin.E004",
        )
    ]


def _celery_redis() -> Sequence[checks.CheckMessage]:
    """nodeadmin.E005: news would not leave its process, and no worker would be told of anything."""
    missing = []
    if settings.CHANNEL_LAYERS["default"]["BACKEND"] == "channels.layers.InMemoryChannelLayer":
        missing.append("the channel layer is in memory")
    if not settings.NODEADMIN_BROKER_URL:
        missing.append("there is no broker")
    if not missing:
        return []
    return [
        checks.Error(
            f"NODEADMIN_ENGINE=celery means several processes, but {' and '.join(missing)}.",
            hint="Set NODEADMIN_REDIS_URL=redis://USER:PASSWORD@HOST:PORT/0; the broker is the same Redis "
            "unless NODEADMIN_BROKER_URL names another one.",
            id="nodeadmin.E005",
        )
    ]


def _celery_packages() -> Sequence[checks.CheckMessage]:
    """nodeadmin.E006: the virtual environment is one for the embedded engine."""
    missing = [name for name in ("celery", "redis", "channels_redis", "psycopg") if find_spec(name) is None]
    if not missing:
        return []
    return [
        checks.Error(
            f"NODEADMIN_ENGINE=celery needs Python packages that are missing: {', '.join(missing)}.",
            hint="pip install --require-hashes -r requirements/scale.txt",
            id="nodeadmin.E006",
        )
    ]
