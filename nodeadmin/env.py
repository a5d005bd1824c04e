"""Typed readers of the environment.

Every reader takes the variable's name and a default; a value that does not fit raises ImproperlyConfigured
with the name, what was found and what fits. Secrets may also come from a file, named by ``NAME_FILE``
(systemd credentials, container secrets), so that they stand in no process list.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_RATE = re.compile(r"[1-9]\d{0,8}/(s|sec|second|m|min|minute|h|hour|d|day)", re.ASCII)
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def text(name: str, default: str = "", *, choices: tuple[str, ...] = ()) -> str:
    """The variable's text without surrounding blanks, the default where empty or absent; one of ``choices``
    where given."""
    value = os.environ.get(name, "").strip() or default
    if choices and value not in choices:
        raise ImproperlyConfigured(f"{name} is {value!r}; it takes one of: {', '.join(choices)}.")
    return value


def boolean(name: str, default: bool) -> bool:
    """True for 1/true/yes/on, False for 0/false/no/off, the default where empty or absent."""
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}; it takes true or false.")


def integer(name: str, default: int, *, minimum: int = 0, maximum: int | None = None) -> int:
    """A whole number within the bounds."""
    return int(_number(name, default, int, minimum, maximum))


def seconds(name: str, default: float, *, minimum: float = 0.0, maximum: float | None = None) -> float:
    """A duration in seconds within the bounds."""
    return float(_number(name, default, float, minimum, maximum))


def _number(
    name: str, default: float, kind: Callable[[str], float], minimum: float, maximum: float | None
) -> float:
    raw = os.environ.get(name, "").strip()
    if not raw:
        return default
    try:
        value = kind(raw)
    except ValueError:
        raise ImproperlyConfigured(f"{name} is {raw!r}; it takes a number.") from None
    if not math.isfinite(value) or value < minimum or (maximum is not None and value > maximum):
        bound = f"at least {minimum}" + (f" and at most {maximum}" if maximum is not None else "")
        raise ImproperlyConfigured(f"{name} is {raw}; it must be {bound}.")
    return value


def rate(name: str, default: str) -> str:
    """So many in a time, such as ``1200/min``: the form that DRF's throttles take."""
    value = text(name, default)
    if _RATE.fullmatch(value) is None:
        raise ImproperlyConfigured(f"{name} is {value!r}; it takes a number and a time, such as 1200/min.")
    return value


def words(name: str, default: tuple[str, ...] = ()) -> list[str]:
    """A list separated by commas."""
    raw = os.environ.get(name)
    if raw is None:
        return list(default)
    return [word.strip() for word in raw.split(",") if word.strip()]


def pairs(name: str) -> dict[str, str]:
    """``key=value`` pairs separated by commas, or a JSON object of texts."""
    raw = os.environ.get(name, "").strip()
    if raw.startswith("{"):
        try:
            found = json.loads(raw)
        except ValueError:
            raise ImproperlyConfigured(f"{name} starts like JSON and is none.") from None
        texts = {key: value for key, value in found.items() if key and isinstance(value, str) and value}
        if len(texts) < len(found):
            raise ImproperlyConfigured(f"{name} takes a JSON object whose values are texts.")
        return texts
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in raw.split(","))):
        key, equals, value = (word.strip() for word in part.rpartition("="))
        if not (key and equals and value):
            raise ImproperlyConfigured(f"{name} has the part {part!r}; it takes key=value, key=value …")
        pairs[key] = value
    return pairs


def path(name: str, default: Path) -> Path:
    """An absolute path; ``~`` stands for the user's home."""
    return Path(os.environ.get(name) or default).expanduser().absolute()


def secret(name: str, default: str | None = None) -> str:
    """A secret from ``NAME``, or from the file that ``NAME_FILE`` names.

    Raises ImproperlyConfigured where both are absent and there is no default. The value is in no message.
    """
    value = os.environ.get(name, "").strip()
    if value:
        return value
    file = os.environ.get(f"{name}_FILE", "").strip()
    if file:
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE names {file}: {error.strerror}.") from error
    if default is not None:
        return default
    raise ImproperlyConfigured(f"Set {name}, or {name}_FILE to the path of a file that holds it.")


def kept_secret(name: str, file: Path, make: Callable[[], str] = lambda: secrets.token_urlsafe(50)) -> str:
    """A secret from the environment, else from ``file``, which is made at its first use (mode 0600).

    Two processes that start at once agree: the file is linked into place whole, and who comes second reads
    what the first one wrote.
    """
    value = secret(name, default="")
    if value:
        return value
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(make() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, file)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return file.read_text(encoding="utf-8").strip()


def postgresql(url: str) -> dict[str, Any]:
    """Django's settings for ``postgresql://USER:PASSWORD@HOST:PORT/NAME``, or with ``?host=DIRECTORY`` for a
    Unix socket; further parameters go to libpq (its documentation, section 34.1.1.2).

    Raises ImproperlyConfigured, without the URL, which holds a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ImproperlyConfigured("NODEADMIN_DATABASE_URL is no valid URL.") from None
    name = unquote(parts.path.lstrip("/"))
    if parts.scheme not in ("postgresql", "postgres") or not name:
        raise ImproperlyConfigured(
            "NODEADMIN_DATABASE_URL takes postgresql://USER:PASSWORD@HOST:PORT/NAME; leave it out for SQLite."
        )
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    options.setdefault("connect_timeout", 10)
    # A call ends, whatever holds a lock or takes too long; where the URL has options of its own, by those.
    lock_ms = round(seconds("NODEADMIN_DATABASE_LOCK_S", 10.0, minimum=0.1) * 1000)
    statement_ms = round(seconds("NODEADMIN_DATABASE_STATEMENT_S", 60.0) * 1000)
    options.setdefault("options", f"-c lock_timeout={lock_ms} -c statement_timeout={statement_ms}")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", "") or parts.hostname or "",
        "PORT": str(port or ""),
        "OPTIONS": options,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }


def redis(name: str) -> str:
    """A Redis server's URL, from ``NAME`` or the file that ``NAME_FILE`` names; "" where neither is set.

    ``redis://``, ``rediss://`` (TLS) or ``unix://``, as redis-py takes them. Raises ImproperlyConfigured for
    any other, without the URL, which may hold a password.
    """
    url = secret(name, default="")
    if url and not url.startswith(("redis://", "rediss://", "unix://")):
        raise ImproperlyConfigured(
            f"{name} takes redis://USER:PASSWORD@HOST:PORT/NUMBER, rediss://… or unix://PATH?db=NUMBER."
        )
    return url


def broker(redis_url: str) -> str:
    """The same Redis as Celery's broker; kombu has a scheme of its own for Unix sockets (its documentation,
    Transports, Redis)."""
    if not redis_url.startswith("unix://"):
        return redis_url
    parts = urlsplit(redis_url)
    login = f"{parts.netloc}" if parts.username or parts.password else ""
    number = dict(parse_qsl(parts.query)).get("db", "0")
    return f"redis+socket://{login}{parts.path}?virtual_host={number}"
