"""A PostgreSQL cluster and a Redis server of our own, reached through Unix sockets in closed directories.

Nothing of them listens on a network address, and Debian's own cluster and server are left alone.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from nodeadmin.scale.supervisor import Service, SetupFailed

POSTGRESQL = Path("/usr/lib/postgresql")
ROLE = "nodeadmin"
SOCKET_PATH_MAX = 107
"""``sun_path`` of a socket address holds 108 bytes with the one that ends it (unix(7))."""
INITDB_S = 120
CONNECT_S = 2.0


@dataclass(frozen=True, slots=True)
class Postgres:
    """A cluster in ``directory``, run by the system user ``user``; who starts it enters without a password.

    PostgreSQL refuses to run as root, and another user cannot enter root's data directory: then the cluster
    lies beside it and belongs to PostgreSQL's own user.
    """

    directory: Path
    user: str
    may_create: bool = False
    """Whether nodeadmin's role may make further databases, which tests do."""

    @classmethod
    def beside(cls, data_dir: Path) -> Postgres:
        """The cluster that belongs to a data directory of nodeadmin."""
        if os.geteuid() == 0:
            return cls(data_dir.with_name(f"{data_dir.name}-postgresql"), "postgres")
        return cls(data_dir / "postgresql", pwd.getpwuid(os.geteuid()).pw_name)

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}@/{ROLE}?host={quote(str(self.directory), safe='/')}"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def socket(self) -> Path:
        return self.directory / ".s.PGSQL.5432"

    def prepare(self) -> None:
        """Make the cluster where it is missing. Raises SetupFailed with what is in the way.

        It is made under another name and renamed when it is whole, so that one that was interrupted is no
        cluster yet.
        """
        _check_socket_path(self.socket)
        if self.data.exists():
            self.binary("postgres")
            return
        self._make_directory()
        draft = self.directory / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        self._run(
            "initdb", "--pgdata", str(draft), "--username", "postgres", "--encoding", "UTF8",
            "--locale", "C.UTF-8", "--auth-host", "reject", "--auth-local", "peer",
        )  # fmt: skip
        invoker = pwd.getpwuid(os.geteuid()).pw_name
        (draft / "pg_hba.conf").write_text(f"local all {ROLE} peer map=nodeadmin\n")
        (draft / "pg_ident.conf").write_text(f'nodeadmin "{invoker}" {ROLE}\n')
        rights = "LOGIN CREATEDB" if self.may_create else "LOGIN"
        statements = f"CREATE ROLE {ROLE} {rights};\nCREATE DATABASE {ROLE} OWNER {ROLE};\n"
        self._run("postgres", "--single", "-D", str(draft), "postgres", stdin=statements)
        draft.rename(self.data)

    def service(self, log: Path) -> Service:
        """The server process. SIGINT ends it at once and cleanly, SIGTERM would wait for all clients
        (PostgreSQL's documentation, 19.5)."""
        return Service(
            name="postgresql",
            command=(
                str(self.binary("postgres")), "-D", str(self.data),
                "-c", "listen_addresses=", "-c", f"unix_socket_directories={self.directory}",
                "-c", "unix_socket_permissions=0700", "-c", "max_connections=200",
            ),
            user=self.user,
            stop_signal="INT",
            log=log,
            is_ready=lambda: _answers(self.socket),
        )  # fmt: skip

    def binary(self, name: str) -> Path:
        """A program of the version that the cluster was made with, else of the newest."""
        version_file = self.data / "PG_VERSION"
        if version_file.exists():
            version = version_file.read_text().strip()
            found = POSTGRESQL / version / "bin" / name
            if found.exists():
                return found
            raise SetupFailed(
                f"{self.data} is a cluster of PostgreSQL {version}, which is not installed: install "
                f"postgresql-{version}, or move the cluster away to begin anew."
            )
        versions = [path for path in POSTGRESQL.glob("*/bin") if (path / name).exists()]
        if not versions:
            raise SetupFailed(f"There is no {name} in {POSTGRESQL}: install postgresql.")
        return max(versions, key=lambda path: float(path.parent.name)) / name

    def _make_directory(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.directory, self.user, self.user)
        entered = subprocess.run(
            ["/usr/bin/test", "-w", self.directory], user=self._other_user, check=False, timeout=CONNECT_S
        )
        if entered.returncode:
            raise SetupFailed(
                f"The user {self.user}, which runs PostgreSQL, cannot enter {self.directory}: choose a data "
                "directory that all may pass through on the way to it."
            )

    @property
    def _other_user(self) -> str | None:
        return self.user if os.geteuid() == 0 else None

    def _run(self, name: str, *arguments: str, stdin: str = "") -> None:
        ended = subprocess.run(
            [self.binary(name), *arguments],
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            user=self._other_user,
            cwd=self.directory,
            check=False,
            timeout=INITDB_S,
        )
        # The single-user server goes on after a statement that fails, and says so.
        if ended.returncode or "ERROR:" in ended.stdout:
            raise SetupFailed(f"{name} failed:\n{ended.stdout.strip()}")


@dataclass(frozen=True, slots=True)
class Redis:
    """A server with its socket in ``directory``. It keeps nothing on disk: what it carries is news."""

    directory: Path

    @property
    def socket(self) -> Path:
        return self.directory / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket), safe='/')}?db=0"

    def prepare(self) -> None:
        _check_socket_path(self.socket)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def service(self, log: Path) -> Service:
        binary = shutil.which("redis-server")
        if binary is None:
            raise SetupFailed("There is no redis-server here: install redis-server.")
        return Service(
            name="redis",
            command=(
                binary, "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
                "--dir", str(self.directory), "--save", "", "--appendonly", "no", "--daemonize", "no",
            ),
            log=log,
            is_ready=lambda: _answers(self.socket, b"PING\r\n", b"+PONG"),
        )  # fmt: skip


def _check_socket_path(path: Path) -> None:
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise SetupFailed(f"{path} is too long for a socket: choose a data directory with a shorter path.")


def _answers(path: Path, question: bytes = b"", answer: bytes = b"") -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(CONNECT_S)
        try:
            client.connect(str(path))
            client.sendall(question)
            return not answer or client.recv(64).startswith(answer)
        except OSError:
            return False
