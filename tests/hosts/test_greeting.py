"""Asking hosts for their greeting: every question has an answer, whatever the name and whoever listens."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator

import pytest

from nodes.hosts.greeting import Greeter
from tests.network import ANYWHERE
from tests.sshd import free_port


@pytest.fixture
def greeter() -> Iterator[Greeter]:
    asking = Greeter()
    yield asking
    asking.close()


def answer_of(greeter: Greeter, host: str, port: int, timeout_s: float = 5.0) -> str | None:
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    greeter.ask(host, port, timeout_s, ANYWHERE, answers.put)
    return answers.get(timeout=60)


@pytest.mark.parametrize("name", ["a..b", "x" * 70 + ".example", "ä..", "no\x00name", "[::1"])
def test_a_name_that_cannot_be_one_is_answered(greeter: Greeter, name: str) -> None:
    assert answer_of(greeter, name, 22) == "its name is not known"


def test_a_port_that_nobody_listens_at_is_answered(greeter: Greeter) -> None:
    assert "refused" in (answer_of(greeter, "127.0.0.1", free_port()) or "")


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"Welcome\r\nSSH-2.0-x\r\n", None),
        (b"HTTP/1.1 400 Bad Request\r\n" * 30, "something else than an SSH server answers"),
        (b"x" * 100_000, "something else than an SSH server answers"),
        (b"", "it closed the connection without a greeting"),
    ],
)
def test_who_listens_is_told_by_what_they_say(greeter: Greeter, said: bytes, answer: str | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=say_to_all, args=(server, said), daemon=True)
        thread.start()
        timeout_s = 20.0 if said else 1.0  # one that hangs up is asked again till then
        assert answer_of(greeter, "127.0.0.1", server.getsockname()[1], timeout_s) == answer


def test_a_server_that_drops_the_first_connections_is_asked_again(greeter: Greeter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = [b"Exceeded MaxStartups\r\n", b"", b"SSH-2.0-x\r\n"]
        thread = threading.Thread(target=say_in_turn, args=(server, said), daemon=True)
        thread.start()
        assert answer_of(greeter, "127.0.0.1", server.getsockname()[1], 20.0) is None


def test_who_accepts_and_says_nothing_does_not_answer(greeter: Greeter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert answer_of(greeter, "127.0.0.1", server.getsockname()[1], 0.5) == "it does not answer"


def say_in_turn(server: socket.socket, said: list[bytes]) -> None:
    for words in said:
        peer, _address = server.accept()
        with peer:
            peer.sendall(words)


def say_to_all(server: socket.socket, said: bytes) -> None:
    while True:
        try:
            peer, _address = server.accept()
        except OSError:
            return
        with peer:
            peer.sendall(said)
            peer.shutdown(socket.SHUT_WR)
            peer.settimeout(5)
            try:
                peer.recv(1)
            except OSError:
                continue
