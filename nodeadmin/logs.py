"""Structured logs: one event a line, with the request's and the operation's id bound to it."""

from __future__ import annotations

import logging.config
import re
from collections.abc import MutableMapping
from io import StringIO
from typing import Any, TextIO

import structlog

from nodes.inventory.parsing.visible import visible

_SECRET_NAME = re.compile(
    r"pass(word|phrase)|secret|private_?key|token|authorization|cookie|credential", re.I
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace values whose name tells of a secret, and private keys in any text."""
    for name, value in list(event.items()):
        if isinstance(name, str) and _SECRET_NAME.search(name) and name != "token_name":
            event[name] = "[hidden]"
        elif isinstance(value, str) and "PRIVATE KEY" in value:
            event[name] = _PRIVATE_KEY.sub("[hidden]", value)
    return event


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    hide_secrets,
]


def write_out(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What a host or a request put into a value or its name: written out, so that it neither forges a line
    nor speaks to the terminal that the log is read on, and no stream refuses the line for what it cannot
    encode."""
    written: MutableMapping[str, Any] = {}
    for name, value in event.items():
        shown = value
        if isinstance(value, str):
            shown = visible(value)
        elif not isinstance(value, int | float | None) and name not in ("exc_info", "exception", "stack"):
            shown = visible(repr(value))
        written[visible(name)] = shown
    return written


def _traceback(stream: TextIO, exc_info: Any) -> None:
    """A traceback, indented: an exception quotes the host's words, of which none may begin a line."""
    text = StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write("\n" + "\n".join(f"    {visible(line)}" for line in text.getvalue().strip().split("\n")))


def _for_people() -> structlog.dev.ConsoleRenderer:
    """One line an event. Tracebacks are plain: the pretty ones print local variables, and so passwords."""
    return structlog.dev.ConsoleRenderer(colors=False, exception_formatter=_traceback)


def logging_config(*, json: bool, level: str) -> dict[str, Any]:
    """The dictionary for Django's LOGGING: to standard error, as JSON or for people."""
    renderer: Any = structlog.processors.JSONRenderer() if json else _for_people()
    chain: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if json:
        chain.append(structlog.processors.format_exc_info)
    chain += [hide_secrets, *([] if json else [write_out]), renderer]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": chain,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Paramiko logs what peers say, and every connection at INFO.
            "paramiko": {"level": "CRITICAL"},
            # httpx tells every request at INFO, and a BMC is asked every few seconds.
            "httpx": {"level": "WARNING"},
            "django.request": {"level": "ERROR"},
            "django_structlog": {"level": "WARNING"},
            "axes": {"level": "WARNING"},
            "uvicorn.access": {"level": "WARNING"},
        },
    }


def configure(config: dict[str, Any]) -> None:
    """Django's LOGGING_CONFIG hook: the standard library's loggers and structlog write alike."""
    logging.config.dictConfig(config)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
