"""The Redis server of tests that run on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from nodeadmin.scale.databases import Redis
from nodeadmin.scale.supervisor import Process


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    server = Redis(Path(urlsplit(settings.NODEADMIN_REDIS_URL).path).parent)
    process = Process(server.service(tmp_path_factory.mktemp("redis") / "log"))
    process.start()
    process.wait_ready(threading.Event())
    yield process
    process.end(10.0)
