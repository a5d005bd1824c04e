"""A real rsyslogd as a process of its own, which writes what it receives to a file in RFC 5424's form."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.patience import Deadline

PROGRAM = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin")
LINE = re.compile(
    r"<(?P<pri>\d+)>1 (?P<time>\S+) (?P<host>\S+) (?P<app>\S+) (?P<proc>\S+) (?P<msgid>\S+) "
    r"(?P<data>\[(?:[^\]\"]|\"(?:[^\"\\]|\\.)*\")*\]|-) ?(?P<text>.*)"
)
PARAM = re.compile(r'([^ =\]"]+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Received:
    """One message as rsyslog understood it."""

    priority: int
    app: str
    msgid: str
    data: dict[str, str]
    text: str

    @property
    def number(self) -> int:
        return int(self.data["number"])


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


class Rsyslog:
    """Listens on UDP, TCP, a Unix socket, and with a certificate on TLS; can be stopped and started again."""

    def __init__(self, directory: Path, certificate: tuple[Path, Path, Path] | None = None) -> None:
        self.directory = directory
        self.output = directory / "received.log"
        self.socket = directory / "log.sock"
        self.tcp, self.udp = free_port(), free_port(socket.SOCK_DGRAM)
        self.tls = free_port() if certificate else 0
        self._certificate = certificate
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.directory / "rsyslog.conf"
        config.write_text(self._config())
        self._process = subprocess.Popen(
            [PROGRAM or "rsyslogd", "-n", "-f", config, "-i", self.directory / "pid"],
            stdout=subprocess.DEVNULL,
            stderr=(self.directory / "errors.log").open("ab"),
        )
        wait = Deadline(10)
        while not self._listens():
            assert self._process.poll() is None, (self.directory / "errors.log").read_text()
            assert not wait.over(), "rsyslogd does not listen"
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        self._process = None

    def received(self) -> list[Received]:
        """All messages that are in its file; a line that is none of RFC 5424 fails."""
        if not self.output.exists():
            return []
        found = []
        for line in self.output.read_text(encoding="utf-8").splitlines():
            parts = LINE.fullmatch(line)
            assert parts is not None, line
            data = {name: re.sub(r"\\(.)", r"\1", value) for name, value in PARAM.findall(parts["data"])}
            text = parts["text"].removeprefix("\ufeff")
            found.append(Received(int(parts["pri"]), parts["app"], parts["msgid"], data, text))
        return found

    def wait_for(self, numbers: set[int]) -> list[Received]:
        """Until entries of all these numbers are there."""
        wait = Deadline(10)
        while not numbers <= {message.number for message in self.received()}:
            assert not wait.over(), sorted(numbers - {message.number for message in self.received()})
            time.sleep(0.05)
        return self.received()

    def _listens(self) -> bool:
        ports = [self.tcp, *([self.tls] if self.tls else [])]
        try:
            for port in ports:
                socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return self.socket.exists()

    def _config(self) -> str:
        lines = [f'global(workDirectory="{self.directory}" maxMessageSize="64k")']
        if self._certificate is not None:
            ca, cert, key = self._certificate
            lines.append(
                f'global(defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{cert}" '
                f'defaultNetstreamDriverKeyFile="{key}")'
            )
            tls = ' streamdriver.name="gtls" streamdriver.mode="1" streamdriver.authmode="anon"'
            lines.append('module(load="imtcp")')
            lines.append(f'input(type="imtcp" address="127.0.0.1" port="{self.tls}"{tls})')
        else:
            lines.append('module(load="imtcp")')
        lines += [
            f'input(type="imtcp" address="127.0.0.1" port="{self.tcp}")',
            'module(load="imudp")',
            f'input(type="imudp" address="127.0.0.1" port="{self.udp}")',
            'module(load="imuxsock" SysSock.Use="off")',
            f'input(type="imuxsock" Socket="{self.socket}" UseSpecialParser="off" ParseHostname="on" '
            'RateLimit.Interval="0")',
            f'action(type="omfile" file="{self.output}" template="RSYSLOG_SyslogProtocol23Format")',
        ]
        return "\n".join(lines) + "\n"
