"""TLS certificates of BMCs: shown without trusting them, and pinned.

A BMC's certificate is mostly one that it signed itself, so that no authority vouches for it. Then a person
compares its fingerprint once, as with an SSH host key, and every later connection insists on it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
import ssl
import threading
import time
import weakref
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509

from nodes.errors import BmcFailed, BmcUnreachable, HostTimeout
from nodes.hosts.deadlines import Clock, run_within
from nodes.hosts.dial import connect
from nodes.hosts.network_rules import NetworkRules

_LABEL = re.compile(r"^\s*(?:sha-?256)?\s*(?:fingerprint)?\s*[=:]?\s*", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]{64}")
_NAME_CHARACTERS = 200
_PAUSE_S = 0.5

BROKEN_OFF = (
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
)
"""A connection that the other side has ended: the next one may be taken."""

COMPARE = (
    "Compare it with the one that the BMC's own web page shows, or with what this prints on a machine beside "
    "the BMC: openssl s_client -connect HOST:PORT </dev/null | openssl x509 -noout -fingerprint -sha256"
)


def read_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint as 64 lower-case hexadecimal digits.

    Takes the forms that people copy: with colons or blanks, in either case, and with openssl's
    ``sha256 Fingerprint=`` in front. Raises ValueError for anything else.
    """
    digits = re.sub(r"[\s:]", "", _LABEL.sub("", text, count=1)).lower()
    if not _HEX.fullmatch(digits):
        raise ValueError("a certificate's SHA-256 fingerprint has 64 hexadecimal digits")
    return digits


def write_fingerprint(digits: str) -> str:
    """The fingerprint as ``openssl x509 -fingerprint`` prints it: ``AB:CD:…``, to be compared by eye."""
    upper = digits.upper()
    return ":".join(upper[start : start + 2] for start in range(0, len(upper), 2))


def fingerprint_of(der: bytes) -> str:
    """SHA-256 of a certificate in its DER form, 64 hexadecimal digits."""
    return hashlib.sha256(der).hexdigest()


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """What a BMC shows. ``fingerprint`` as :func:`write_fingerprint` writes it.

    ``vouched_for`` says whether an authority that this machine trusts stands behind it, for this address;
    ``doubt`` why not. Names and expiry are None where the certificate does not tell them readably.
    """

    fingerprint: str
    subject: str | None
    issuer: str | None
    expires_at: datetime | None
    vouched_for: bool
    doubt: str


class BmcContext(ssl.SSLContext):
    """A TLS context for a BMC: with a pin, its connections stand only with that one certificate.

    The comparison is part of the handshake: nothing is sent, and so no credential, before it.
    """

    pinned = ""

    def __init__(self, *_protocol: Any) -> None:
        super().__init__()
        self._guard = threading.Lock()
        self._opened: weakref.WeakSet[ssl.SSLSocket] = weakref.WeakSet()
        self._is_cut = False

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        wrapped = super().wrap_socket(*args, **{**options, "do_handshake_on_connect": False})
        try:
            with self._guard:
                self._opened.add(wrapped)
                if self._is_cut:
                    raise TimeoutError("cut off before the handshake")
            wrapped.do_handshake()
            shown = fingerprint_of(wrapped.getpeercert(binary_form=True) or b"")
            if self.pinned and not hmac.compare_digest(shown, self.pinned):
                raise certificate_differs(self.pinned, shown)
        except BaseException:
            wrapped.close()
            raise
        return wrapped

    def cut(self) -> None:
        """End what goes over its connections, whichever thread waits for it; that thread then closes them.

        Closing them here would free their numbers for other connections while OpenSSL, in that thread, still
        reads from the numbers.
        """
        with self._guard:
            self._is_cut = True
            standing = tuple(self._opened)
        for opened in standing:
            try:
                socket.socket.shutdown(opened, socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended already


def bmc_context(fingerprint: str = "") -> BmcContext:
    """A context for the certificate of this fingerprint (64 hexadecimal digits): names, dates and signatures
    are not looked at, as it is the very certificate that was confirmed. Without one, this machine's
    authorities have to vouch for it, for the address."""
    context = BmcContext(ssl.PROTOCOL_TLS_CLIENT)
    if fingerprint:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.pinned = fingerprint
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def certificate_differs(confirmed: str, shown: str) -> BmcFailed:
    """The error of a pin that does not fit; both are 64 hexadecimal digits."""
    return BmcFailed(
        f"The BMC shows the certificate {write_fingerprint(shown)}; confirmed was "
        f"{write_fingerprint(confirmed)}. Nothing was sent.",
        remedy="If its certificate was replaced, confirm the new one; if not, somebody may be in between. "
        + COMPARE,
        field="bmc.certificate_fingerprint",
        extra={
            "reason": "certificate_differs",
            "confirmed": write_fingerprint(confirmed),
            "shown": write_fingerprint(shown),
        },
    )


def show_certificate(host: str, port: int, *, rules: NetworkRules, timeout_s: float) -> ShownCertificate:
    """The certificate that ``host`` shows now. Two handshakes, nothing sent over them, nothing trusted.

    One that is broken off is tried again within ``timeout_s``.

    Raises AddressDenied, BmcUnreachable, BmcFailed where something else than TLS answers.
    """
    clock = Clock(timeout_s)
    der = _der_of(host, port, clock, rules)
    doubt = _doubt(host, port, clock, rules)
    subject, issuer, expires_at = _read(der)
    shown = write_fingerprint(fingerprint_of(der))
    return ShownCertificate(shown, subject, issuer, expires_at, not doubt, doubt)


def _der_of(host: str, port: int, clock: Clock, rules: NetworkRules) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return _handshake(context, host, port, clock, rules)
    except OSError as error:
        raise unreachable(f"{host}:{port}", error) from error


def _doubt(host: str, port: int, clock: Clock, rules: NetworkRules) -> str:
    try:
        _handshake(ssl.create_default_context(), host, port, clock, rules)
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except OSError as error:
        raise unreachable(f"{host}:{port}", error) from error
    return ""


def _handshake(context: ssl.SSLContext, host: str, port: int, clock: Clock, rules: NetworkRules) -> bytes:
    def work() -> bytes:
        with (
            connect(host, port, clock.left or 0.001, rules, "bmc") as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            return wrapped.getpeercert(binary_form=True) or b""

    while True:
        try:
            # Name resolution knows no time-out of its own.
            return run_within(work, clock.left, f"The TLS handshake with {host}:{port}")
        except HostTimeout as error:
            raise TimeoutError(error.message) from None
        except BROKEN_OFF:
            # A BMC whose web server is starting, or has no connection free.
            if clock.left <= _PAUSE_S:
                raise
        time.sleep(_PAUSE_S)


def unreachable(address: str, error: BaseException) -> BmcFailed:
    """Our error for a connection that did not come about."""
    if isinstance(error, ssl.SSLError):
        return BmcFailed(
            f"{address} answers, but does not speak TLS as it should: {error.reason or 'handshake failed'}.",
            remedy="Give the address of the BMC's HTTPS service.",
            field="bmc.url",
            extra={"reason": "not_tls"},
        )
    if isinstance(error, TimeoutError):
        words = "does not answer"
    elif isinstance(error, ConnectionRefusedError):
        words = "refused the connection"
    elif isinstance(error, socket.gaierror):
        words = "is a name that is not known"
    else:
        strerror = error.strerror if isinstance(error, OSError) else None
        words = f"cannot be reached: {strerror or 'the connection ended'}"
    return BmcUnreachable(
        f"{address} {words}.",
        remedy="Look whether the BMC has power and this machine a way into its network.",
        field="bmc.url",
        extra={"reason": "unreachable"},
    )


def _read(der: bytes) -> tuple[str | None, str | None, datetime | None]:
    """Subject, issuer and end; each None where the certificate cannot be read: BMCs sign odd ones."""
    try:
        found = x509.load_der_x509_certificate(der)
        return _name(found.subject), _name(found.issuer), found.not_valid_after_utc
    except ValueError:
        return None, None, None


def _name(name: x509.Name) -> str:
    text = "".join(c if c.isprintable() else "?" for c in name.rfc4514_string())
    return text[:_NAME_CHARACTERS]
