"""A real OpenSSH server on loopback, with a configuration, host keys and authorized keys of its own.

Used wherever a test needs a host behind SSH::

    with LoopbackSshd(tmp_path) as sshd:
        with connect(sshd.target()) as connection: ...

As root it can let other users in, by key or password; as anybody else only the user who runs it, by key. It
can run in a mount namespace of its own (``mounts``), which then has a /run/libvirt of its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nodes.hosts.target import HostKey, HostTarget, PasswordCredential, SshKeyCredential
from tests.network import ANYWHERE

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin") or ""
KEY_TYPES = ("ed25519", "ecdsa", "rsa")
IS_ROOT = os.geteuid() == 0
ME = pwd.getpwuid(os.geteuid()).pw_name


class LoopbackSshd:
    """One sshd. ``options`` are lines of sshd_config(5) that take the place of the defaults below."""

    def __init__(
        self,
        folder: Path,
        *,
        key_types: tuple[str, ...] = KEY_TYPES,
        options: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.address = address
        self.port = free_port(address)
        self.options = dict(options or {})
        self.key_types = list(key_types)
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.authorized_keys = folder / "authorized_keys"
        self.log_path = folder / "sshd.log"
        self.user_key = make_key(folder / "user_key")
        self.authorize(public_of(self.user_key))
        for kind in self.key_types:
            self.change_host_key(kind, restart=False)

    # -- running ----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it and wait until it greets."""
        if IS_ROOT:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(self._config())
        log = self.log_path.open("ab")
        with log:
            self._process = subprocess.Popen(
                [*self._prefix, SSHD, "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"sshd ended: {self.log_path.read_text()[-2000:]}")
            try:
                with socket.create_connection((self.address, self.port), 1) as probe:
                    probe.settimeout(2)
                    if probe.recv(4) == b"SSH-":
                        return self
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("sshd did not start")

    def stop(self) -> None:
        """End the server and the connections that stand."""
        process, self._process = self._process, None
        if process is None:
            return
        for child in reversed(descendants(process.pid)):
            _kill(child)
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def reap(self) -> None:
        """Take note that somebody else has ended it."""
        if self._process is not None:
            self._process.poll()

    def restart(self) -> None:
        self.stop()
        self.start()

    def drop_connections(self) -> None:
        """End the standing connections, the server itself goes on.

        All stand still first: an sshd that saw its command end would still say so over the connection.
        """
        if self._process is not None:
            children = descendants(self._process.pid)
            for child in children:
                _signal(child, signal.SIGSTOP)
            for child in reversed(children):
                _kill(child)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Its connections stand still for a while: what is sent to them arrives, and is answered later."""
        standing = descendants(self.pid)
        for child in standing:
            _signal(child, signal.SIGSTOP)
        try:
            yield
        finally:
            for child in standing:
                _signal(child, signal.SIGCONT)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- keys -------------------------------------------------------------------------------------

    def authorize(self, public_key: str) -> None:
        """Let a further key in, for every user."""
        with self.authorized_keys.open("a") as keys:
            keys.write(public_key.strip() + "\n")
        self.authorized_keys.chmod(0o644)

    def change_host_key(self, kind: str = "ed25519", *, restart: bool = True) -> None:
        """Give the server another host key of this type."""
        make_key(self._host_key_path(kind), kind)
        if kind not in self.key_types:
            self.key_types.append(kind)
        if restart:
            self.restart()

    def host_key(self, kind: str = "ed25519") -> HostKey:
        return HostKey.parse(self._host_key_path(kind).with_suffix(".pub").read_text())

    def target(self, **changes: Any) -> HostTarget:
        """How to reach it as the user who runs the tests; ``changes`` are fields of HostTarget."""
        values: dict[str, Any] = {
            "key": "",
            "transport": "ssh",
            "host": self.address,
            "port": self.port,
            "user": ME,
            "credential": SshKeyCredential(self.user_key.read_text()),
            "host_key": self.host_key(self.key_types[0]),
            "rules": ANYWHERE,
        }
        return HostTarget(**(values | changes))

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def _host_key_path(self, kind: str) -> Path:
        return self.folder / f"host_{kind}"

    def _where_keys_are(self) -> dict[str, str]:
        if not IS_ROOT:
            return {"AuthorizedKeysFile": str(self.authorized_keys)}
        # A test's folder is closed to other users, as whom sshd reads their files; this it runs as root.
        return {
            "AuthorizedKeysFile": ".ssh/authorized_keys",
            "AuthorizedKeysCommand": f"/bin/cat {self.authorized_keys}",
            "AuthorizedKeysCommandUser": "root",
        }

    def _config(self) -> str:
        lines = (
            {
                "Port": str(self.port),
                "ListenAddress": self.address,
                "PidFile": "none",
                "StrictModes": "no",
                "UsePAM": "no",
                "PermitRootLogin": "yes",
                "PasswordAuthentication": "no",
                "KbdInteractiveAuthentication": "no",
                "MaxStartups": "200:30:400",
                "UseDNS": "no",
                "PrintMotd": "no",
                "LogLevel": "VERBOSE",
                # bash reads ~/.bashrc in a session of sshd where it is the outermost shell: whatever the
                # user who runs the tests has in it would be run, and measured, with every command.
                "SetEnv": "SHLVL=2",
            }
            | self._where_keys_are()
            | self.options
        )
        keys = [f"HostKey {self._host_key_path(kind)}" for kind in self.key_types]
        return "\n".join([*keys, *(f"{name} {value}" for name, value in lines.items())]) + "\n"


class TemporaryUser:
    """A user of this machine for one test: made with useradd, with a password, and removed again."""

    def __init__(self, name: str, *, shell: str = "/bin/sh") -> None:
        self.name = f"{name}-{os.getpid() % 100_000}"  # two runs of the tests may stand side by side
        self.password = "correct horse battery"
        self._shell = shell

    def __enter__(self) -> Self:
        self._remove()
        subprocess.run(["useradd", "-m", "-s", self._shell, self.name], check=True, capture_output=True)
        subprocess.run(
            ["chpasswd"], input=f"{self.name}:{self.password}\n".encode(), check=True, capture_output=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if process.stat().st_uid == self.uid:
                    _kill(int(process.name))
            except FileNotFoundError:
                continue
        self._remove()

    @property
    def uid(self) -> int:
        return pwd.getpwnam(self.name).pw_uid

    @property
    def gid(self) -> int:
        return pwd.getpwnam(self.name).pw_gid

    @contextmanager
    def sudoers(self, rule: str) -> Iterator[None]:
        """The user may use sudo by ``rule`` (what follows the name in sudoers(5))."""
        path = Path("/etc/sudoers.d") / self.name
        path.write_text(f"{self.name} {rule}\n")
        path.chmod(0o440)
        try:
            subprocess.run(["visudo", "-c", "-q", "-f", str(path)], check=True, capture_output=True)
            yield
        finally:
            path.unlink()

    @property
    def home(self) -> Path:
        return Path(pwd.getpwnam(self.name).pw_dir)

    @property
    def credential(self) -> PasswordCredential:
        return PasswordCredential(self.password)

    def _remove(self) -> None:
        if any(entry.pw_name == self.name for entry in pwd.getpwall()):
            home = self.home
            subprocess.run(["userdel", "-f", "-r", self.name], check=False, capture_output=True)
            subprocess.run(["groupdel", self.name], check=False, capture_output=True)
            # userdel leaves a home alone that a test has given to somebody else.
            shutil.rmtree(home, ignore_errors=True)


def make_key(path: Path, kind: str = "ed25519", *, passphrase: str = "", pem: bool = False) -> Path:
    """A key pair by ssh-keygen at ``path`` and ``path.pub``, in place of one that is there.

    ``kind`` is rsa, ecdsa or ed25519, with its size in bits where it is not the usual one: ecdsa-384.
    """
    path.unlink(missing_ok=True)
    path.with_suffix(".pub").unlink(missing_ok=True)
    kind, _dash, size = kind.partition("-")
    bits = ["-b", size] if size else {"rsa": ["-b", "2048"], "ecdsa": ["-b", "256"]}.get(kind, [])
    form = ["-m", "PEM"] if pem else []
    command = ["ssh-keygen", "-q", "-t", kind, *bits, *form, "-N", passphrase, "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def public_of(private: Path) -> str:
    return private.with_suffix(".pub").read_text().strip()


def free_port(address: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``, parents first."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def _kill(pid: int) -> None:
    _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
