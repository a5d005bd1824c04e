"""OpenSSH's client, pointed at one lab host: independent of the code under test, which has a client of its
own.
"""

import base64
import hashlib
import shlex
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.patience import Deadline

# Longer than a busy emulated host takes; until its network is up, QEMU holds the connection for it.
_BANNER_DEADLINE_S = 5.0


@dataclass(frozen=True)
class SshClient:
    """How to reach the sshd of a lab host as one of the users whom its key opens."""

    port: int
    private_key: Path
    known_hosts: Path

    def command(self, user: str, *, check_host_key: bool = True) -> list[str]:
        """The client's command line, up to and with the host; options and keys of whoever runs it do not
        count.
        """
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "ConnectTimeout": "20",
            "ServerAliveInterval": "15",
            "LogLevel": "ERROR",
            "GlobalKnownHostsFile": "/dev/null",
            "UserKnownHostsFile": f'"{self.known_hosts}"' if check_host_key else "/dev/null",
            "StrictHostKeyChecking": "yes" if check_host_key else "no",
        }
        arguments = [f"-o{name}={value}" for name, value in options.items()]
        return [
            "ssh",
            "-F",
            "none",
            *arguments,
            "-i",
            str(self.private_key),
            "-p",
            str(self.port),
            f"{user}@127.0.0.1",
        ]

    def answers(self) -> bool:
        """Whether an SSH server shows its banner: QEMU itself accepts connections before the host is up."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_BANNER_DEADLINE_S) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def run(
        self,
        command: str | Sequence[str],
        *,
        user: str = "root",
        stdin: str | None = None,
        timeout_s: float = 60,
        check: bool = True,
        check_host_key: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command: a string goes to the user's shell, a list is quoted for it.

        Raises subprocess.CalledProcessError where it fails (exit status 255: the connection did), unless
        `check` is off, and subprocess.TimeoutExpired.
        """
        remote = command if isinstance(command, str) else shlex.join(command)
        result = _run(
            [*self.command(user, check_host_key=check_host_key), "--", remote], stdin or "", timeout_s
        )
        if check and result.returncode != 0:
            error = subprocess.CalledProcessError(result.returncode, remote, result.stdout, result.stderr)
            # pytest shows notes; what the command said would otherwise be hidden in an attribute.
            error.add_note(result.stderr.strip() or result.stdout.strip())
            raise error
        return result

    def remember(self, public_keys: str) -> None:
        """Writes the host's public keys, as they stand in /etc/ssh, as those known for this port."""
        lines = []
        for line in public_keys.splitlines():
            kind, key = line.split()[:2]
            lines.append(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        self.known_hosts.write_text("".join(sorted(lines)))

    def fingerprints(self) -> dict[str, str]:
        """Key type, as `ssh-ed25519`, to fingerprint, as `SHA256:…`, of the host keys that are known."""
        found = {}
        for line in self.known_hosts.read_text().splitlines():
            _, kind, key = line.split()
            digest = hashlib.sha256(base64.b64decode(key)).digest()
            found[kind] = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
        return found


def _run(command: list[str], stdin: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Runs it to its end. Raises subprocess.TimeoutExpired after ``timeout_s`` of a machine at rest."""
    deadline = Deadline(timeout_s)
    pipe, given = subprocess.PIPE, [stdin]
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace"
    ) as process:
        while True:
            try:
                left_s = max(1.0, deadline.seconds - deadline.waited_s)
                stdout, stderr = process.communicate(given.pop() if given else None, left_s)
                return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
            except subprocess.TimeoutExpired:
                if deadline.over():
                    process.kill()
                    raise
            except BaseException:
                process.kill()
                raise
