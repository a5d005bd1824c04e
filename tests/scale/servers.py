"""A PostgreSQL cluster for tests, and a place for a Redis server, on Unix sockets in a scratch folder."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodeadmin.scale.databases import Postgres, Redis
from nodeadmin.scale.supervisor import Process


@dataclass(frozen=True, slots=True)
class Servers:
    """``redis`` is started by the tests that use it: they stop it, too."""

    postgres: Postgres
    redis: Redis

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process of nodeadmin needs in order to use them."""
        return {
            "NODEADMIN_ENGINE": "celery",
            "NODEADMIN_MONITOR": "separate",
            "NODEADMIN_DATABASE_URL": self.postgres.url,
            "NODEADMIN_REDIS_URL": self.redis.url,
        }


@contextmanager
def servers() -> Iterator[Servers]:
    """PostgreSQL running. The folder is one that PostgreSQL's own user may pass, which pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="nodeadmin-scale-"))
    folder.chmod(0o755)
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    found = Servers(Postgres(folder / "postgresql", user, may_create=True), Redis(folder / "redis"))
    found.postgres.prepare()
    found.redis.prepare()
    process = Process(found.postgres.service(folder / "postgresql.log"))
    try:
        process.start()
        process.wait_ready(threading.Event())
        yield found
    finally:
        process.end(10.0)
        shutil.rmtree(folder)
