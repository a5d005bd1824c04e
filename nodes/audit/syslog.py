"""The audit log as syslog messages (RFC 5424), over UDP (RFC 5426), TCP (RFC 6587, octet counting), TLS (RFC
5425) or a Unix datagram socket.

TCP says nothing of what a receiver has read. So each portion has a connection of its own, which is closed on
our side and counts as delivered once the receiver has closed it, too: one that ends with messages unread
answers with a reset instead, and they are sent again. UDP and Unix datagrams have nothing of the kind.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from nodes.models import Event
from nodes.models.audit_mac import canonical

APP = "nodeadmin"
SD_ID = "nodeadmin@32473"
"""32473 is the enterprise number for examples (RFC 5612); nodeadmin has none of its own."""
FACILITY = 13
"""Log audit."""
SEVERITIES = {"error": 3, "warning": 4, "info": 6}
DEADLINE_S = 10.0
LONGEST_VALUE, LONGEST_DATA = 512, 4096
PORTS = {"udp": 514, "tcp": 601, "tls": 6514}
FORM = "udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT?ca=/PATH/OF/CA.pem or unix:///PATH"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7e]")


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """Where messages go. ``ca`` is a file of certificate authorities; the system's ones where it is ""."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    ca: str = ""

    @classmethod
    def parse(cls, url: str) -> SyslogTarget:
        """Raises ImproperlyConfigured for what is none."""
        wrong = ImproperlyConfigured(f"NODEADMIN_AUDIT_SYSLOG takes {FORM}; it is {url!r}.")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise wrong from None
        if parts.scheme == "unix":
            if not parts.path.startswith("/") or parts.netloc:
                raise wrong
            return cls("unix", path=unquote(parts.path))
        options = dict(parse_qsl(parts.query))
        ca = options.pop("ca", "")
        odd = options or parts.path not in ("", "/") or parts.username or (ca and parts.scheme != "tls")
        if parts.scheme not in PORTS or not parts.hostname or odd:
            raise wrong
        return cls(parts.scheme, parts.hostname, port or PORTS[parts.scheme], ca=ca)

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def message_of(entry: Event, hostname: str = "") -> bytes:
    """The entry as one syslog message. Control characters are replaced: no text of an entry ends a
    message."""
    priority = FACILITY * 8 + SEVERITIES.get(entry.severity, 6)
    time = entry.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    host = _header(hostname or socket.gethostname(), 255)
    head = f"<{priority}>1 {time} {host} {APP} - {_header(entry.kind, 32)} {_structured(entry)}"
    text = _CONTROL.sub("\ufffd", entry.message)[:LONGEST_DATA]
    # The mark says that what follows is UTF-8 (RFC 5424, section 6.4); ASCII needs none.
    return head.encode() + b" " + (b"" if text.isascii() else b"\xef\xbb\xbf") + text.encode()


def _header(text: str, longest: int) -> str:
    return _NOT_PRINTABLE.sub("_", text)[:longest] or "-"


def _structured(entry: Event) -> str:
    facts = entry.facts()
    data = canonical(facts.pop("data"))
    told = {name: value for name, value in facts.items() if value and name not in ("time", "message", "kind")}
    told = {"number": entry.number, **told, "content_mac": entry.content_mac, "chain_mac": entry.chain_mac}
    if data != "{}":
        told |= {"data": data[:LONGEST_DATA]} | ({"data_cut": "1"} if len(data) > LONGEST_DATA else {})
    values = " ".join(f'{name}="{_value(name, value)}"' for name, value in told.items())
    return f"[{SD_ID} {values}]"


def _value(name: str, value: object) -> str:
    longest = LONGEST_DATA if name == "data" else LONGEST_VALUE
    text = _CONTROL.sub("\ufffd", str(value))[:longest]
    return re.sub(r'(["\\\]])', r"\\\1", text)


def send(target: SyslogTarget, messages: Sequence[bytes]) -> None:
    """Deliver them, in order. Raises OSError (ssl.SSLError is one) where that was not possible; some of them
    may have arrived then."""
    if target.scheme == "unix":
        _send_datagrams(socket.AF_UNIX, target.path, messages)
    elif target.scheme == "udp":
        family, _type, _proto, _name, address = _resolve(target, socket.SOCK_DGRAM)
        _send_datagrams(family, address, messages)
    else:
        _send_stream(target, messages)


def _resolve(target: SyslogTarget, kind: socket.SocketKind) -> tuple[int, int, int, str, object]:
    found = socket.getaddrinfo(target.host, target.port, type=kind)
    return found[0]


def _send_datagrams(family: int, address: object, messages: Sequence[bytes]) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(DEADLINE_S)
        sender.connect(address)  # type: ignore[arg-type]  # a path or a pair
        for message in messages:
            sender.send(message)


def _send_stream(target: SyslogTarget, messages: Sequence[bytes]) -> None:
    frames = b"".join(b"%d %s" % (len(message), message) for message in messages)
    with socket.create_connection((target.host, target.port), timeout=DEADLINE_S) as plain:
        if target.scheme == "tcp":
            plain.sendall(frames)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(4096):  # raises where the receiver ended with messages unread
                pass
            return
        context = ssl.create_default_context(cafile=target.ca or None)
        with context.wrap_socket(plain, server_hostname=target.host) as tls:
            tls.sendall(frames)
            try:
                tls.unwrap().close()
            except ssl.SSLEOFError:
                pass  # it has read our end of the connection, and ended it without another word


def context_is_usable(target: SyslogTarget) -> None:
    """Raise OSError where the file of certificate authorities cannot be read."""
    if target.scheme == "tls":
        ssl.create_default_context(cafile=target.ca or None)
