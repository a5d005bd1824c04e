"""Bodies as they arrive at the server: in chunks, too long, or cut off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nodeadmin.bodies import BoundedBodies

LIMIT = 10


def ask(headers: dict[str, str], parts: Sequence[bytes], *, leaves: bool = False) -> tuple[Any, list[Any]]:
    """What the application was given (its headers and its body; None where it was not called), and what was
    answered."""
    seen: Any = None
    answers: list[Any] = []
    messages = [
        {"type": "http.request", "body": part, "more_body": leaves or position < len(parts) - 1}
        for position, part in enumerate(parts)
    ]
    messages.append({"type": "http.disconnect"})

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        answers.append(message)

    async def application(scope: Any, receive: Any, _send: Any) -> None:
        nonlocal seen
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        seen = (dict(scope["headers"]), body)
        assert (await receive())["type"] == "http.disconnect"

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "headers": raw}
    # In a thread of its own: a browser that other tests drive keeps a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, BoundedBodies(application, LIMIT)(scope, receive, send)).result()
    return seen, answers


def test_a_body_in_chunks_has_its_length_said() -> None:
    (headers, body), _answers = ask({"transfer-encoding": "chunked", "host": "x"}, [b"abc", b"", b"defg"])
    assert body == b"abcdefg"
    assert headers == {b"host": b"x", b"content-length": b"7"}


def test_no_body_in_chunks_is_one_without_bytes() -> None:
    (headers, body), _answers = ask({"transfer-encoding": "chunked"}, [b""])
    assert (headers[b"content-length"], body) == (b"0", b"")


def test_a_body_of_a_length_goes_through_as_it_is() -> None:
    (headers, body), _answers = ask({"content-length": "10"}, [b"01234", b"56789"])
    assert (headers, body) == ({b"content-length": b"10"}, b"0123456789")


def test_what_is_too_long_never_reaches_the_application() -> None:
    for headers in ({"content-length": "11"}, {"transfer-encoding": "chunked"}):
        seen, (start, body) = ask(headers, [b"0123456789", b"0"])
        assert seen is None
        assert start["status"] == 413
        assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
        assert json.loads(body["body"])["code"] == "body_too_large"


def test_half_a_body_is_not_acted_upon() -> None:
    assert ask({"transfer-encoding": "chunked"}, [b"abc"], leaves=True) == (None, [])
