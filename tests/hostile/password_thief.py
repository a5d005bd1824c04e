"""An SSH server that lets nobody in and writes down everything that is offered to it.

with PasswordThief() as thief:
    ...  # make nodeadmin go to thief.uri
    assert thief.passwords == []
"""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

import paramiko

from nodes.hosts.target import HostKey


class PasswordThief:
    """``passwords`` and ``keys`` (fingerprints) are what was offered, ``greeted`` how often somebody came."""

    def __init__(self) -> None:
        self.passwords: list[str] = []
        self.keys: list[str] = []
        self.greeted = 0
        self._own_key = paramiko.ECDSAKey.generate()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._transports: list[paramiko.Transport] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def uri(self) -> str:
        return f"qemu+ssh://root@127.0.0.1:{self.port}/system"

    @property
    def host_key(self) -> HostKey:
        return HostKey.from_blob(self._own_key.asbytes())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for transport in self._transports:
            transport.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            self.greeted += 1
            transport = paramiko.Transport(client)
            self._transports.append(transport)
            transport.add_server_key(self._own_key)
            try:
                transport.start_server(event=threading.Event(), server=_Ears(self))
            except (paramiko.SSHException, EOFError, OSError):
                continue


class _Ears(paramiko.ServerInterface):
    def __init__(self, thief: PasswordThief) -> None:
        self._thief = thief

    def get_allowed_auths(self, username: str) -> str:
        return "publickey,password"

    def check_auth_password(self, username: str, password: str) -> int:
        self._thief.passwords.append(password)
        return paramiko.AUTH_FAILED

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._thief.keys.append(HostKey.from_blob(key.asbytes()).fingerprint)
        return paramiko.AUTH_FAILED
