"""``python -m nodeadmin.scale``: PostgreSQL, Redis, web, workers and monitors on this machine."""

from __future__ import annotations

import argparse
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeadmin.scale.databases import Postgres, Redis
from nodeadmin.scale.supervisor import Service, SetupFailed, Supervisor

MANAGE = Path(__file__).resolve().parents[2] / "manage.py"
WEB_WORKERS = 2
WORKERS = 2
MONITORS = 2


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run until a signal; 1 with the reason where something of it cannot be started."""
    options = arguments()
    data_dir: Path = options.data_dir.expanduser().absolute()
    os.umask(0o077)
    supervisor = Supervisor(say)
    supervisor.stop_on_signals()
    try:
        with only_one(data_dir), supervisor:
            run(supervisor, data_dir, options.port)
    except SetupFailed as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def run(supervisor: Supervisor, data_dir: Path, port: int) -> None:
    logs = data_dir / "log"
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    postgres, redis = Postgres.beside(data_dir), Redis(data_dir / "redis")
    if not postgres.data.exists():
        say(f"Making a PostgreSQL cluster in {postgres.directory} …")
    postgres.prepare()
    redis.prepare()
    environment = {
        "NODEADMIN_ENGINE": "celery",
        "NODEADMIN_MONITOR": "separate",
        "NODEADMIN_LOCAL_NODE": "true",
        "NODEADMIN_WEB_WORKERS": str(WEB_WORKERS),
        "NODEADMIN_DATA_DIR": str(data_dir),
        "NODEADMIN_DATABASE_URL": postgres.url,
        "NODEADMIN_REDIS_URL": redis.url,
    }

    def service(name: str, *command: str) -> Service:
        return Service(name, (sys.executable, str(MANAGE), *command), environment)

    supervisor.start(postgres.service(logs / "postgresql.log"), redis.service(logs / "redis.log"))
    web = service("web", "serve", "--port", str(port), "--data-dir", str(data_dir))
    # First of all, as it brings the database's tables up to date.
    supervisor.start(Service(web.name, web.command, web.environment, is_ready=lambda: listens(port)))
    workers = (service(f"worker {number}", "worker") for number in range(1, WORKERS + 1))
    monitors = (service(f"monitor {number}", "monitor") for number in range(1, MONITORS + 1))
    supervisor.start(*workers, *monitors)
    supervisor.run()


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Nobody else does this on the data directory meanwhile. Raises SetupFailed where somebody does."""
    descriptor = os.open(data_dir / "scale.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupFailed(f"script/server --scale runs on {data_dir} already.") from None
        yield
    finally:
        os.close(descriptor)


def listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex(("127.0.0.1", port)) == 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/server --scale")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--data-dir", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
