"""The newest entry's number and code, kept outside of the database: ``audit-head.json`` in the data
directory.

Who can write to the database alone could cut off its last entries and nobody would miss them; against this
file they are missed. It never goes backwards.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from django.conf import settings
from django.db import connection

from nodes.models.audit_mac import fits, sign

log = structlog.get_logger(__name__)

NAME = "audit-head.json"
LARGEST = 4096


@dataclass(frozen=True, slots=True)
class Head:
    """The chain up to here: 0 and "" before its first entry."""

    number: int = 0
    chain_mac: str = ""


class HeadFileDamaged(Exception):
    """The file is there, and says nothing that was signed."""


def head_path() -> Path:
    return Path(settings.DATA_DIR) / NAME


def read_head() -> Head | None:
    """What the file says; None where there is none. Raises HeadFileDamaged."""
    try:
        with head_path().open("rb") as stream:
            raw = stream.read(LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HeadFileDamaged(f"{head_path()}: {error.strerror}") from error
    try:
        told = json.loads(raw)
        head = Head(int(told["number"]), str(told["chain_mac"]))
        signed = fits(str(told["mac"]), "head", str(head.number), head.chain_mac, str(told["time"]))
    except (ValueError, KeyError, TypeError) as error:
        raise HeadFileDamaged(f"{head_path()} is no head of an audit log") from error
    if not signed:
        raise HeadFileDamaged(f"{head_path()} was not written under NODEADMIN_AUDIT_KEY")
    return head


def write_head(head: Head, *, even_back: bool = False) -> None:
    """Put ``head`` into the file: whole, and on the disk before this returns. What is older than the file is
    not written, unless ``even_back``; neither is anything over a file that is damaged."""
    path = head_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _flush_database()
    with _locked(path.with_name(f".{NAME}.lock")):
        if not even_back:
            try:
                kept = read_head()
            except HeadFileDamaged:
                log.exception("the head of the audit log is damaged and stays as it is")
                return
            if kept is not None and kept.number >= head.number:
                return
        time = datetime.now(UTC).isoformat(timespec="microseconds")
        told = {"number": head.number, "chain_mac": head.chain_mac, "time": time}
        told["mac"] = sign("head", str(head.number), head.chain_mac, time)
        draft = path.with_name(f".{NAME}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(told, stream)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        _flush(path.parent)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Processes that share the data directory write one after another."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _flush_database() -> None:
    """SQLite's log first: after a loss of power the file would otherwise know of entries that the database
    has lost, and their absence would look like tampering (SQLite's documentation, PRAGMA synchronous)."""
    if connection.vendor == "sqlite":
        log_file = Path(f"{connection.settings_dict['NAME']}-wal")
        if log_file.exists():
            _flush(log_file)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
