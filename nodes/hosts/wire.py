"""paramiko's transport, made to fit: the pinned key is checked where it arrives, channels open side by side
without mixing up their errors, and ``direct-streamlocal@openssh.com`` is spoken.

Sources: RFC 4253 (transport), RFC 4254 (channels), OpenSSH's PROTOCOL, section 2.4 (streamlocal).
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import paramiko
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    cMSG_CHANNEL_CLOSE,
    cMSG_CHANNEL_OPEN,
    cMSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_WINDOW_ADJUST,
)

from nodes.hosts.command_frame import CommandFrame, FrameReader
from nodes.hosts.deadlines import Clock
from nodes.hosts.host_budget import Bucket, HostBudget
from nodes.hosts.shell import MAX_STDERR
from nodes.hosts.target import HostKey

WIRE_LOG = "nodes.hosts.wire"
"""paramiko logs here. It logs tracebacks of failures that we answer ourselves, so it is off by default."""

WINDOW_BYTES = 1 << 20
"""What one channel buffers at most when its reader stops."""

MAX_PACKET = 256 << 10
"""Bytes of a packet, as in OpenSSH (PACKET_MAX_SIZE). paramiko would take up to 4 GiB."""
MAX_GREETING = 8 << 10
"""Bytes of a line before the key exchange (RFC 4253, section 4.2, allows 255)."""
MAX_PAUSE_S = 0.05
"""At a time, where the host is over its budget: what is for others on the same connection is behind it."""

UNREAD_BYTES_PER_S, UNREAD_BURST = 1 << 20, 8 << 20
"""Bytes of a channel that no reader paces: standard error, and what comes beside the command."""
SINK_BYTES_PER_S, SINK_BURST = 32 << 10, 512 << 10
"""The same of one whose output goes to a sink: a heartbeat takes some hundred bytes every few seconds."""

_CHANNEL_NUMBERS = 1 << 12
_POLL_S = 2.0

_CIPHERS = (
    "aes128-gcm@openssh.com",  # one call into OpenSSL a packet; CTR needs the MAC besides, in Python
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
_MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)


class PinnedKeyMismatch(paramiko.SSHException):
    """The server proved that it holds another key than the pinned one."""

    def __init__(self, shown: HostKey) -> None:
        super().__init__("host key mismatch")
        self.shown = shown


class ChannelRefused(paramiko.SSHException):
    """The server did not open a channel; ``reason`` is a number of RFC 4254, section 5.1.

    ``sessions`` is how many it had open at that moment, those included whose end it has not confirmed;
    ``said`` are its own words, printable and at most 100 characters of them.
    """

    def __init__(self, reason: int, sessions: int = 0, said: str = "") -> None:
        super().__init__(f"channel refused ({reason})")
        self.reason = reason
        self.sessions = sessions
        self.said = said


class ChannelTimeout(paramiko.SSHException):
    """The server did not say whether it opens the channel."""


def algorithms_of(key_type: str) -> tuple[str, ...]:
    """Signature algorithms to ask for so that the server shows its key of this type (RFC 8332 for RSA)."""
    return ("rsa-sha2-512", "rsa-sha2-256") if key_type == "ssh-rsa" else (key_type,)


class SocketLike(Protocol):
    """What an SSH connection runs over: a TCP socket, or a channel through a jump host."""

    def settimeout(self, value: float | None, /) -> None: ...
    def send(self, data: bytes, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class Wire(paramiko.Transport):
    """One SSH connection.

    ``key_types`` are the host key types asked for; ``pinned`` is compared inside the key exchange, right
    after the server's signature over it has been verified and before anything encrypted is sent.
    """

    _active_check_timeout = _POLL_S  # paramiko wakes this often when idle; ten times a second by default
    _CLIENT_ID = "nodeadmin"
    _preferred_ciphers = _CIPHERS
    _preferred_macs = _MACS

    if TYPE_CHECKING:  # parts of paramiko.Transport that its type stubs leave out
        preferred_kex: Sequence[str]
        preferred_ciphers: Sequence[str]
        preferred_macs: Sequence[str]
        _channels: Any
        _channel_counter: int

        _channel_handler_table: dict[int, Callable[..., None]]

        def _send_user_message(self, message: paramiko.Message) -> None: ...

    def __init__(
        self, sock: SocketLike, key_types: tuple[str, ...], pinned: HostKey | None, budget: HostBudget
    ) -> None:
        super().__init__(cast(socket.socket, sock), default_window_size=WINDOW_BYTES)
        self.budget = budget
        self._paid_at = 0.0
        self._shut = threading.Event()
        self.withholding: set[WireChannel] = set()
        """Channels whose server may not send more for now. Used in the connection's own thread alone."""
        self._bound_packets()
        self.set_log_channel(WIRE_LOG)
        logging.getLogger(WIRE_LOG).setLevel(logging.CRITICAL)
        self._key_algorithms = tuple(name for kind in key_types for name in algorithms_of(kind))
        self._pinned = pinned
        self._refusals: dict[int, ChannelRefused] = {}
        self.shown_key: HostKey | None = None
        self.login_key: HostKey | None = None
        """The public half of the key by which the user was let in; None for a password."""
        self.said_instead = ""
        """The line, if any, that the server sent in place of its greeting: “Exceeded MaxStartups”."""
        self.offered_key_algorithms: tuple[str, ...] = ()
        self.offered: dict[str, tuple[str, ...]] = {}
        """By kind, the algorithms that the server offers (RFC 4253, section 7.1)."""

    def _bound_packets(self) -> None:
        """Have each packet paid for by the thread that reads it, and refuse one that no server sends."""
        packetizer = self.packetizer
        read_message, read_all = packetizer.read_message, packetizer.read_all

        def paid() -> tuple[int, paramiko.Message]:
            spent, self._paid_at = self._spent()
            pause = self.budget.spend(spent)
            if pause:
                # Not longer than its own work asks for: most of the debt may be another thread's.
                pause = min(pause, MAX_PAUSE_S)
                self._shut.wait(pause)
                self.budget.note_pause(pause)
            for channel in tuple(self.withholding):
                # At the latest with the answer to the next keep-alive.
                channel.release_credit()
            return read_message()

        def bounded(n: int, check_rekey: bool = False) -> bytes:
            if n > MAX_PACKET:
                raise paramiko.SSHException("the server sends a packet that is larger than any")
            return read_all(n, check_rekey)

        packetizer.read_message = paid  # type: ignore[method-assign]
        packetizer.read_all = bounded  # type: ignore[method-assign]

    def _spent(self) -> tuple[float, float]:
        now = time.thread_time()
        # The first packet is read in the thread that has just begun: all of its work so far is the host's.
        return now - self._paid_at, now

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        return self._key_algorithms

    def _really_parse_kex_init(self, m: paramiko.Message, ignore_first_byte: bool = False) -> dict[str, Any]:
        parsed: dict[str, Any] = super()._really_parse_kex_init(m, ignore_first_byte)  # type: ignore[misc]
        self.offered_key_algorithms = tuple(parsed["server_key_algo_list"])
        self.offered = {
            "key exchange method": tuple(parsed["kex_algo_list"]),
            "cipher": tuple(parsed["server_encrypt_algo_list"]),
            "message authentication code (MAC)": tuple(parsed["server_mac_algo_list"]),
        }
        return parsed

    def _check_banner(self) -> None:
        def noting(timeout: float) -> str:
            line = self._greeting_line(timeout)
            if not line.startswith("SSH-"):
                self.said_instead = "".join(c for c in line.strip() if c.isprintable())[:100]
            return line

        # paramiko logs such lines and forgets them.
        self.packetizer.readline = noting  # type: ignore[method-assign]
        super()._check_banner()  # type: ignore[misc]
        self.said_instead = ""

    def _greeting_line(self, timeout: float) -> str:
        """A line before the key exchange, as paramiko reads it, of :data:`MAX_GREETING` bytes at most."""
        clock, line = Clock(timeout), bytearray()
        while not line.endswith(b"\n"):
            if len(line) >= MAX_GREETING:
                raise paramiko.SSHException("Invalid SSH banner: a line without an end")
            if clock.passed:
                raise TimeoutError
            # Byte by byte: what follows the line is the first packet, and stays in the socket.
            line += self.packetizer.read_all(1)
        return line.rstrip(b"\r\n").decode("utf-8", errors="replace")

    @property
    def known(self) -> dict[str, tuple[str, ...]]:
        """What this side knows of each kind in ``offered``."""
        return {
            "key exchange method": tuple(self.preferred_kex),
            "cipher": tuple(self.preferred_ciphers),
            "message authentication code (MAC)": tuple(self.preferred_macs),
        }

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        super()._verify_key(host_key, sig)  # type: ignore[misc]
        self.shown_key = HostKey.from_blob(host_key)
        if self._pinned is not None and self.shown_key.blob != self._pinned.blob:
            raise PinnedKeyMismatch(self.shown_key)

    def _next_channel(self) -> int:
        # paramiko remembers every number it ever used: a beat a second would fill 8 MB a day and host.
        number = self._channel_counter
        while self._channels.get(number) is not None:
            number = (number + 1) % _CHANNEL_NUMBERS
        self._channel_counter = (number + 1) % _CHANNEL_NUMBERS
        return number

    def _parse_channel_open_failure(self, m: paramiko.Message) -> None:
        number, reason, said = m.get_int(), m.get_int(), m.get_binary()
        words = "".join(c for c in said.decode("utf-8", "replace") if c.isprintable())[:100]
        with self.lock:
            # By channel: paramiko's one field for the last exception hands it to whoever asks first.
            self._channels.delete(number)
            self._refusals[number] = ChannelRefused(reason, self._open_sessions(), words)
            event = self.channel_events.pop(number, None)
        if event is not None:
            event.set()

    def _parse_channel_open_success(self, m: paramiko.Message) -> None:
        rest = m.get_remainder()
        number, theirs = m.get_int(), m.get_int()
        if self._channels.get(number) is None:
            # Given up meanwhile. The server would count the session for as long as the connection stands.
            self._close_unasked(theirs)
            return
        super()._parse_channel_open_success(paramiko.Message(rest))  # type: ignore[misc]

    def _close_unasked(self, their_number: int) -> None:
        # In the middle of a key exchange sending would block this thread, which is the one that ends it.
        if self.clear_to_send.is_set():
            message = paramiko.Message()
            message.add_byte(cMSG_CHANNEL_CLOSE)
            message.add_int(their_number)
            self._send_user_message(message)

    def _give_up(self, number: int) -> bool:
        """Forget a channel that is not open yet; False where it has been opened at this very moment."""
        with self.lock:
            if self.channel_events.pop(number, None) is None:
                return False
            self._channels.delete(number)
            return True

    def _open_sessions(self) -> int:
        return sum(channel.is_session and channel.active for channel in self._channels.values())

    def open(self, kind: str, timeout_s: float, payload: bytes = b"") -> WireChannel:
        """Open a channel of ``kind``; ``payload`` is the part of the request that is particular to the kind.

        Raises ChannelRefused, ChannelTimeout, or EOFError when the connection has ended.
        """
        clock = Clock(timeout_s)
        event = threading.Event()
        with self.lock:
            number = self._next_channel()
            channel = WireChannel(number, is_session=kind == "session")
            self._channels.put(number, channel)
            self.channel_events[number] = event
            self.channels_seen[number] = True
            self._refusals.pop(number, None)
            channel.attach(self, WINDOW_BYTES, self.default_max_packet_size)
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_OPEN)
        message.add_string(kind)
        message.add_int(number)
        message.add_int(WINDOW_BYTES)
        message.add_int(self.default_max_packet_size)
        message.add_bytes(payload)
        self._send_user_message(message)
        while not event.wait(min(clock.left, 0.5)):
            # A connection that died just before the event was registered sets none.
            if not self.is_active():
                raise EOFError("connection lost")
            if clock.passed and self._give_up(number):
                raise ChannelTimeout("no answer to the opening of a channel")
        if (refused := self._refusals.pop(number, None)) is not None:
            raise refused
        if not self.is_active():
            raise EOFError("connection lost")
        return channel

    def open_exec(self, frame: CommandFrame, timeout_s: float, sink: Sink | None = None) -> WireChannel:
        """A session channel running the command of ``frame``, which gives that command's output alone.

        A refusal shows as a channel that closes without status. With ``sink`` the output goes there as it
        arrives, and nobody has to read the channel.
        """
        channel = self.open("session", timeout_s)
        channel.output, channel.error_output = frame.output(), frame.errors()
        channel.sink = sink
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("exec")
        message.add_boolean(True)
        message.add_string(frame.line)
        # The answer is not awaited: input may follow at once, which saves a round trip a command.
        self._send_user_message(message)
        return channel

    def open_streamlocal(self, path: str, timeout_s: float) -> WireChannel:
        """A channel to the Unix socket ``path`` of the host (OpenSSH's PROTOCOL, section 2.4)."""
        raw = path.encode("utf-8")
        payload = struct.pack(">I", len(raw)) + raw + struct.pack(">II", 0, 0)
        return self.open("direct-streamlocal@openssh.com", timeout_s, payload)

    def open_tcp(self, host: str, port: int, timeout_s: float) -> WireChannel:
        """A channel to a TCP port as the server sees it (RFC 4254, section 7.2)."""
        raw, origin = host.encode("utf-8"), b"127.0.0.1"
        payload = struct.pack(">I", len(raw)) + raw + struct.pack(">I", port)
        payload += struct.pack(">I", len(origin)) + origin + struct.pack(">I", 0)
        return self.open("direct-tcpip", timeout_s, payload)

    def answers(self, timeout_s: float) -> bool:
        """Whether the server answers at all: asked for a channel of a kind that nobody knows, it refuses."""
        try:
            self.open("presence@nodeadmin", timeout_s)
        except ChannelRefused:
            return True
        except (ChannelTimeout, EOFError, OSError, paramiko.SSHException):
            return False
        return True

    def shut(self) -> None:
        """End the connection now; the reader thread wakes at once instead of at its next poll."""
        self._shut.set()
        sock = self.sock
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # ended already
            pass
        self.close()
        sock.close()


class Sink(Protocol):
    """Takes a channel's output in the connection's own thread: it hands on and returns at once."""

    def data(self, chunk: bytes) -> None: ...
    def ended(self) -> None:
        """Nothing more will come. Called at least once, however the channel ends."""
        ...


class WireChannel(paramiko.Channel):
    """A channel that gives the output of its command alone, and whose standard error is kept up to a bound.

    What a login shell prints beside the command is taken out where it arrives (:class:`FrameReader`), so that
    no reader ever sees it. Standard error can never stall standard output: both share one window (RFC 4254,
    section 5.2), and with paramiko alone a command that fills it with errors would wait for ever while its
    reader waits for output.
    """

    if TYPE_CHECKING:

        def _set_transport(self, transport: paramiko.Transport) -> None: ...
        def _set_window(self, window: int, max_packet: int) -> None: ...
        def _check_add_window(self, n: int) -> int: ...

    def __init__(self, number: int, *, is_session: bool = False) -> None:
        super().__init__(number)
        self.is_session = is_session
        self.output: FrameReader | None = None
        """None for a channel behind which there is no command."""
        self.error_output: FrameReader | None = None
        self.errors = bytearray()
        self.messages_of_end: tuple[paramiko.Message | None, ...] = ()
        """What is still to be sent of a channel that was closed on our side alone."""
        self.closed_by_server = False
        self.ended_by_server = False
        """The server said that no more output will come."""
        self.sink: Sink | None = None
        self.decided = threading.Event()
        """The command has begun, or it is clear that it will not."""
        self.errors_ended = threading.Event()
        self._credit = 0
        self._unread = Bucket(UNREAD_BURST, time.monotonic())
        self._withheld = 0

    @property
    def started(self) -> bool:
        return self.output is None or self.output.started

    @property
    def ended(self) -> bool:
        """The command has ended by itself, and its output is whole."""
        return self.output is not None and self.output.ended

    @property
    def flooded(self) -> bool:
        """Too much came, on either output, and the command has not begun."""
        return any(reader.flooded for reader in (self.output, self.error_output) if reader)

    @property
    def command_status(self) -> int | None:
        """The exit status of the command, once there is one: that of its closing line, where it has one."""
        if self.output is not None and self.ended:
            return self.output.exit_status
        relayed = self.output is None or not self.output.ends
        return self.exit_status if relayed and self.exit_status >= 0 else None

    @property
    def outside(self) -> bytes:
        """The end of what was printed beside the command: standard output's, then standard error's."""
        readers = (self.output, self.error_output)
        return b"\n".join(bytes(reader.outside) for reader in readers if reader and reader.outside)

    @property
    def lost(self) -> bool:
        """Whether it ended without a status and without the server's word: with the connection."""
        return self.exit_status < 0 and not self.closed_by_server

    def attach(self, wire: Wire, window: int, max_packet: int) -> None:
        self._wire = wire
        self._set_transport(wire)
        self._set_window(window, max_packet)

    def _handle_close(self, m: paramiko.Message) -> None:
        # Told apart from a channel that ends because its connection does.
        self.closed_by_server = True
        super()._handle_close(m)  # type: ignore[misc]

    def _request_failed(self, m: paramiko.Message) -> None:
        self.closed_by_server = True
        super()._request_failed(m)  # type: ignore[misc]

    def _handle_eof(self, m: paramiko.Message) -> None:
        self.ended_by_server = True
        self._both_ended()
        super()._handle_eof(m)  # type: ignore[misc]

    def _set_closed(self) -> None:
        self._both_ended()
        super()._set_closed()  # type: ignore[misc]

    def _both_ended(self) -> None:
        if self.error_output is not None:
            self.errors += self.error_output.finish()
        self.errors_ended.set()
        self._output_ended()

    def _output_ended(self) -> None:
        """No more output will come, by the command's closing line or by the end of the channel."""
        if self.output is not None and (rest := self.output.finish()):
            self._pass_on(rest)
        self.in_buffer.close()
        self.decided.set()
        if self.sink is not None:
            self.sink.ended()

    def _feed(self, m: paramiko.Message) -> None:
        chunk = m.get_binary()
        output = self.output
        own = chunk if output is None else output.feed(chunk)
        self._pass_on(own)
        # A reader gives back what it takes; what nobody will read is given back here.
        self._give_back(len(chunk) - (0 if self.sink is not None else len(own)))
        if output is not None and output.started:
            self.decided.set()
            if output.ended:
                self._output_ended()
        self._end_flood()

    def _pass_on(self, own: bytes) -> None:
        if self.sink is not None:
            if own:
                self.sink.data(own)
            return
        self.in_buffer.feed(own)
        if len(self.in_buffer) > 2 * WINDOW_BYTES:
            # paramiko takes whatever comes; a host that ignores the window would fill our memory.
            raise paramiko.SSHException("the server sends more than its window allows")

    def _feed_extended(self, m: paramiko.Message) -> None:
        m.get_int()
        chunk = m.get_binary()
        own = chunk if self.error_output is None else self.error_output.feed(chunk)
        self.errors += own[: MAX_STDERR - len(self.errors)]
        self._give_back(len(chunk))
        if self.error_output is not None and self.error_output.ended:
            # Says nothing of standard output, whose beginning may come behind it.
            self.errors_ended.set()
        self._end_flood()

    def _end_flood(self) -> None:
        if self.flooded and not self.started:
            self._output_ended()

    def _give_back(self, count: int) -> None:
        """Let the server send ``count`` bytes more, now or with one of the next; none of a flood.

        Nobody's reading paces it, so the time does: what comes faster waits at the host.
        """
        if not count or (self.flooded and not self.started):
            return
        self._withheld += count
        self.release_credit()

    def release_credit(self) -> None:
        """Let the server send what may be sent by now. In the connection's own thread."""
        to_sink = self.sink is not None
        rate = SINK_BYTES_PER_S if to_sink else UNREAD_BYTES_PER_S
        burst = SINK_BURST if to_sink else UNREAD_BURST
        self._unread.draw(0, rate, burst, time.monotonic())
        count = min(self._withheld, max(0, int(self._unread.level)))
        self._withheld -= count
        self._unread.level -= count
        if self._withheld and not self.closed:
            self._wire.withholding.add(self)
        else:
            self._wire.withholding.discard(self)
        if not count:
            return
        self._credit += self._check_add_window(count)
        # In the middle of a key exchange sending would block this thread, which is the one that ends it.
        if self._credit and self._wire.clear_to_send.is_set():
            message = paramiko.Message()
            message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
            message.add_int(self.remote_chanid)
            message.add_int(self._credit)
            self._credit = 0
            self._wire._send_user_message(message)


# paramiko dispatches to the functions of its own Channel, past what a subclass overrides.
Wire._channel_handler_table = Wire._channel_handler_table | {
    MSG_CHANNEL_CLOSE: WireChannel._handle_close,
    MSG_CHANNEL_DATA: WireChannel._feed,
    MSG_CHANNEL_EOF: WireChannel._handle_eof,
    MSG_CHANNEL_EXTENDED_DATA: WireChannel._feed_extended,
    MSG_CHANNEL_FAILURE: WireChannel._request_failed,
}
