"""A BMC of a test's own: Redfish over TLS on loopback, which does wrong what it is told to.

with MisbehavingBmc(tmp_path) as bmc, Redfish(bmc.target()) as redfish:
    bmc.instead("GET", SYSTEM, Say(503), Break())  # the next two answers
    redfish.power_state()
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nodes.hosts.bmc_target import BmcAddress, BmcTarget
from nodes.hosts.certificates import fingerprint_of
from tests.network import ANYWHERE
from tests.software_bmc import PASSWORD, USER, Issuer, write_pair

ROOT = "/redfish/v1/"
SYSTEM = "/redfish/v1/Systems/1"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
SESSIONS = "/redfish/v1/SessionService/Sessions"


@dataclass(frozen=True)
class Say:
    """An answer in place of the right one; ``carried_out``: after what was asked for has been done."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    carried_out: bool = False


@dataclass(frozen=True)
class Break:
    """The connection is reset; with ``within`` in the middle of the answer."""

    carried_out: bool = False
    within: bool = False


@dataclass(frozen=True)
class Hang:
    """No answer for so long, and then none at all."""

    seconds: float
    carried_out: bool = False


Fault = Say | Break | Hang


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    at: float

    @property
    def by_password(self) -> bool:
        return "Authorization" in self.headers


def error(message: str, message_id: str = "Base.1.8.GeneralError") -> dict[str, Any]:
    """The body of an error (DSP0266, section 8.6)."""
    detail = {"MessageId": message_id, "Message": message}
    return {
        "error": {
            "code": message_id,
            "message": "An error.",
            "@Message.ExtendedInfo": [detail],
        }
    }


class MisbehavingBmc:
    """One machine, behind a Redfish service.

    ``basic``, ``sessions``: which logins it takes. ``etags``: "header" or "body" demands If-Match with the
    ETag that it gives there. ``late_s``: for so long it tells of the power state before a change.
    ``switch_on`` is called where it switches the machine on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        basic: bool = True,
        sessions: bool = True,
        etags: str = "",
        late_s: float = 0.0,
        switch_on: Callable[[], None] | None = None,
        system: str = SYSTEM,
    ) -> None:
        self.basic, self.has_sessions, self.etags, self.late_s = basic, sessions, etags, late_s
        self.requests: list[Request] = []
        self.resets: list[str] = []
        """The commands that were carried out."""
        self.open_sessions: dict[str, str] = {}
        """Tokens by the path of their sessions."""
        self.most_sessions = 4
        self.named = ""
        """The address that it takes for its own, where that is another one."""
        self.broken_handshakes = 0
        """So many of the next connections are reset before TLS is spoken."""
        self.state = "Off"
        self.system = system
        self._switch_on = switch_on
        self._told: tuple[str, float] | None = None
        self._etag = 1
        self._faults: dict[tuple[str, str], deque[Fault]] = {}
        self._moved: dict[str, tuple[int, str]] = {}
        self._guard = threading.Lock()
        issuer = Issuer()
        certificate, key = write_pair(folder, issuer.certificate, issuer.key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self.fingerprint = fingerprint_of(ssl.PEM_cert_to_DER_cert(certificate.read_text()))
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self.address = BmcAddress("127.0.0.1", self._server.server_address[1])

    # -- what a test says -------------------------------------------------------------------------

    def target(self, **changes: Any) -> BmcTarget:
        """How to reach it, its certificate pinned; ``changes`` are fields of BmcTarget."""
        made = BmcTarget(self.address, USER, PASSWORD, self.fingerprint, self.system, rules=ANYWHERE)
        return replace(made, **changes)

    def instead(self, method: str, path: str, *faults: Fault) -> None:
        """Answer the next requests of this kind so."""
        self._faults.setdefault((method, path), deque()).extend(faults)

    def always(self, method: str, path: str, fault: Fault) -> None:
        self.instead(method, path, *[fault] * 10_000)

    def move(self, path: str, location: str, status: int = 308) -> None:
        """Answer every request at ``path`` with a redirection."""
        self._moved[path] = status, location

    def asked(self, method: str, path: str) -> int:
        return sum(1 for request in self.requests if (request.method, request.path) == (method, path))

    def end_sessions(self) -> None:
        self.open_sessions.clear()

    # -- the machine ------------------------------------------------------------------------------

    @property
    def on(self) -> bool:
        return self.state == "On"

    def set_state(self, state: str) -> None:
        """The machine's power changes, of which the BMC tells ``late_s`` later."""
        self._told = self.told_state(), time.monotonic() + self.late_s
        self.state = state
        self._etag += 1

    def told_state(self) -> str:
        if self._told is not None and time.monotonic() < self._told[1]:
            return self._told[0]
        return self.state

    def carry_out(self, body: Mapping[str, Any]) -> None:
        self.resets.append(str(body.get("ResetType")))
        if self._switch_on is not None:
            self._switch_on()
        self.set_state("On")

    # -- the service ------------------------------------------------------------------------------

    def fault(self, method: str, path: str) -> Fault | None:
        with self._guard:
            waiting = self._faults.get((method, path))
            return waiting.popleft() if waiting else None

    def right_answer(self, request: Request, body: Mapping[str, Any]) -> Say:
        if request.path in self._moved:
            status, location = self._moved[request.path]
            return Say(status, {"Location": location})
        if request.path in (ROOT, ROOT.rstrip("/")):
            links = {"Sessions": {"@odata.id": SESSIONS}} if self.has_sessions else {}
            return Say(200, body={"Systems": {"@odata.id": "/redfish/v1/Systems"}, "Links": links})
        if request.path == SESSIONS and request.method == "POST":
            return self._session(body)
        if not self._admitted(request):
            return Say(401, body=error("Not logged in."))
        if request.method == "DELETE":
            known = self.open_sessions.pop(request.path, None)
            return Say(204 if known else 404)
        if request.path == "/redfish/v1/Systems":
            return Say(200, body={"Members": [{"@odata.id": self.system}]})
        if request.path == self.system:
            return self._system_answer()
        if request.path == self._reset_path and request.method == "POST":
            return self._reset(request, body)
        return Say(404, body=error("No such resource."))

    @property
    def _reset_path(self) -> str:
        return f"{self.system}/Actions/ComputerSystem.Reset"

    def _admitted(self, request: Request) -> bool:
        if request.headers.get("X-Auth-Token", "") in self.open_sessions.values():
            return True
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.basic and request.headers.get("Authorization") == f"Basic {pair}"

    def _session(self, body: Mapping[str, Any]) -> Say:
        if not self.has_sessions:
            return Say(404)
        if (body.get("UserName"), body.get("Password")) != (USER, PASSWORD):
            return Say(401, body=error("The user or the password is wrong."))
        if len(self.open_sessions) >= self.most_sessions:
            return Say(400, body=error("No session is free.", "Base.1.8.SessionLimitExceeded"))
        path, token = f"{SESSIONS}/{len(self.requests)}", secrets.token_hex(16)
        self.open_sessions[path] = token
        headers = {"X-Auth-Token": token, "Location": f"{self.named or self.address.url}{path}"}
        return Say(201, headers, {} if self.named else {"@odata.id": path})

    def _system_answer(self) -> Say:
        tag = f'"{self._etag}"'
        actions = {
            "#ComputerSystem.Reset": {"target": self._reset_path, "ResetType@Redfish.AllowableValues": ["On"]}
        }
        body = {"Id": "1", "Name": "machine", "PowerState": self.told_state(), "Actions": actions}
        if self.etags == "body":
            body["@odata.etag"] = tag
        return Say(200, {"ETag": tag} if self.etags == "header" else {}, body)

    def _reset(self, request: Request, body: Mapping[str, Any]) -> Say:
        if self.etags and request.headers.get("If-Match") is None:
            return Say(428, body=error("If-Match is required.", "Base.1.8.PreconditionRequired"))
        if self.etags and request.headers["If-Match"] != f'"{self._etag}"':
            return Say(412, body=error("The ETag does not match.", "Base.1.8.PreconditionFailed"))
        if self.on:
            return Say(409, body=error("Server is already powered ON.", "IDRAC.2.8.PSU501"))
        if self.state == "PoweringOff":
            return Say(409, body=error("The system is being switched off.", "Base.1.8.ResourceInUse"))
        self.carry_out(body)
        return Say(204)

    # -- running ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wrap(self, client: socket.socket) -> ssl.SSLSocket:
        with self._guard:
            broken, self.broken_handshakes = self.broken_handshakes > 0, max(0, self.broken_handshakes - 1)
        if broken:
            reset(client)
            raise ConnectionResetError
        return self._context.wrap_socket(client, server_side=True)


def reset(connection: socket.socket) -> None:
    """End it by RST: closed with what is unsent thrown away, SO_LINGER in socket(7)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.socket.close(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes, or a connection that was broken: nothing to print."""


def _handler_of(bmc: MisbehavingBmc) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def setup(self) -> None:
            self.request = bmc.wrap(self.request)  # here, in a thread of its own
            super().setup()

        def log_message(self, *_arguments: Any) -> None:
            pass

        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(size)
            body = json.loads(raw) if raw else {}
            request = Request(self.command, self.path, dict(self.headers), time.monotonic())
            bmc.requests.append(request)
            fault = bmc.fault(self.command, self.path)
            if fault is None:
                self.say(bmc.right_answer(request, body))
                return
            if fault.carried_out:
                bmc.right_answer(request, body)
            match fault:
                case Say():
                    self.say(fault)
                case Hang(seconds):
                    time.sleep(seconds)
                    self.cut()
                case Break(_carried_out, within):
                    if within:
                        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
                        self.wfile.flush()
                    self.cut()

        def say(self, answer: Say) -> None:
            raw = json.dumps(answer.body).encode() if answer.body is not None else b""
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def cut(self) -> None:
            self.close_connection = True
            reset(self.connection)

        do_GET = do_POST = do_DELETE = answer

    return Handler
