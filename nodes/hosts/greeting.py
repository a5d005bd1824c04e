"""Does a host answer at all? A TCP connection and the first bytes of its SSH server, for thousands at once.

A black hole costs whoever dials it the whole deadline. Here that is one timer in one loop, not a thread, so
that a hundred hosts which vanish together are found out together.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nodes.errors import AddressDenied, HostTimeout, HostUnreachable
from nodes.hosts.deadlines import Clock
from nodes.hosts.dial import permitted
from nodes.hosts.jump import jump_hosts
from nodes.hosts.network_rules import NetworkRules
from nodes.hosts.target import JumpTarget

Answer = Callable[[str | None], None]
"""Called with None where the host greeted, else with what happened, in words; in the loop's thread."""

_GREETING = b"SSH-"
_DROPPED = "it closed the connection without a greeting"
_DROPPED_PAUSE_S = 0.5
_LONGEST = 8192
_LINES = 20
"""A server may print lines before its greeting (RFC 4253, section 4.2)."""


@dataclass(frozen=True, slots=True)
class _Place:
    host: str
    port: int
    rules: NetworkRules


def greet_through(jump: JumpTarget, host: str, port: int, timeout_s: float, connect_s: float) -> None:
    """Wait for the greeting of a host behind a jump host; ``connect_s`` is for connecting to that first.

    Takes the caller's thread. Raises HostUnreachable, HostTimeout, and JumpHostError of the jump host's own.
    """
    clock = Clock(timeout_s)
    sock = jump_hosts().open(jump, host, port, timeout_s, connect_s=connect_s)
    where = f"{host}, port {port}"
    try:
        heard = b""
        while len(heard) < _LONGEST and not clock.passed:
            sock.settimeout(max(0.1, clock.left))
            chunk = sock.recv(_LONGEST)
            heard += chunk
            if heard.startswith(_GREETING) or b"\n" + _GREETING in heard:
                return
            if not chunk:
                raise HostUnreachable(f"{where}: {_DROPPED}.", extra={"reason": "closed"})
        raise HostUnreachable(f"{where}: something else than an SSH server answers.")
    except TimeoutError as silent:
        raise HostTimeout(f"{where}: it does not answer.", extra={"reason": "silent"}) from silent
    finally:
        sock.close()


class Greeter:
    """Asks hosts for their greeting, in one thread of its own."""

    def __init__(self, *, lookups: int = 16) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(lookups, thread_name_prefix="host: lookup"))
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="host: greetings", daemon=True)
        self._thread.start()

    def ask(self, host: str, port: int, timeout_s: float, rules: NetworkRules, answer: Answer) -> None:
        """Have ``answer`` called once, within ``timeout_s``. A second attempt begins after a third of it: one
        packet that was lost is then no silence. A connection that is closed without a greeting is tried again
        as well: sshd drops some where many wait for their login (MaxStartups)."""
        self._loop.call_soon_threadsafe(self._begin, _Place(host, port, rules), timeout_s, answer)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._end_tasks())
        finally:
            self._loop.close()

    async def _end_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, place: _Place, timeout_s: float, answer: Answer) -> None:
        task = self._loop.create_task(self._ask(place, timeout_s, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, place: _Place, timeout_s: float, answer: Answer) -> None:
        attempts = {
            asyncio.ensure_future(_attempt(place, 0.0)),
            asyncio.ensure_future(_attempt(place, timeout_s / 3)),
        }
        outcome: str | None = "it does not answer"
        try:
            async with asyncio.timeout(timeout_s):
                while attempts:
                    done, attempts = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
                    outcomes = [attempt.result() for attempt in done]
                    outcome = next((said for said in outcomes if said != _DROPPED), _DROPPED)
                    if outcome != _DROPPED:
                        # A refusal is an answer, and asking again would get the same one.
                        break
                    attempts.add(asyncio.ensure_future(_attempt(place, _DROPPED_PAUSE_S)))
        except TimeoutError:
            pass
        finally:
            for attempt in attempts:
                attempt.cancel()
        answer(outcome)


async def _connected(place: _Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first address that takes one, each judged before. Raises OSError, AddressDenied."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    resolved = [(family, address) for family, _, _, _, address in found]
    failure: OSError = OSError("no address")
    for family, address in permitted(place.host, resolved, place.rules, "host"):  # type: ignore[arg-type]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            return await asyncio.open_connection(sock=sock)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure


async def _attempt(place: _Place, delay_s: float) -> str | None:
    await asyncio.sleep(delay_s)
    try:
        reader, writer = await _connected(place)
    except AddressDenied as error:
        return error.message.rstrip(".")
    except OSError as error:
        return _words(error)
    except ValueError:  # UnicodeError, of a name that the domain name system cannot hold
        return "its name is not known"
    try:
        for _ in range(_LINES):
            line = await reader.readline()
            if line.startswith(_GREETING):
                return None
            if not line:
                return _DROPPED
        return "something else than an SSH server answers"
    except (OSError, ValueError) as error:
        return _words(error) if isinstance(error, OSError) else "something else than an SSH server answers"
    finally:
        writer.close()


def _words(error: OSError) -> str:
    if error.errno in (errno.ECONNREFUSED,):
        return "it refused the connection: no SSH server runs there"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "its name is not known"
