"""Who is measured: a user of the honest nodes, in a process of their own.

Asks in turn for the list of nodes, one node and the first lines of a live log, and watches the lines of
another live log come. Prints ``KIND BEGUN SECONDS`` a line, by the monotonic clock; ``failed`` as KIND where
there was no answer. Run: ``python -m tests.bench.hostile_client PORT`` with the token in BENCH_TOKEN.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

TICK = "tick "
HEADERS = {"Authorization": f"Bearer {os.environ.get('BENCH_TOKEN', '')}"}
FAILURES = (OSError, TimeoutError, RuntimeError, httpx.HTTPError, WebSocketException)


def say(kind: str, begun: float, took: float) -> None:
    sys.stdout.write(f"{kind} {begun:.6f} {took:.6f}\n")
    sys.stdout.flush()


async def subscribed(port: int, name: str, backlog: int) -> ClientConnection:
    address = f"ws://127.0.0.1:{port}/ws/nodes/{name}/logs/"
    socket = await connect(
        address, additional_headers=HEADERS, compression=None, max_size=None, ping_interval=None
    )
    await socket.send(json.dumps({"type": "subscribe", "backlog": backlog}))
    return socket


async def next_entries(socket: ClientConnection) -> bytes:
    """The next message of entries. Raises RuntimeError where there is an error, or the end, instead."""
    async for message in socket:
        raw = message.encode() if isinstance(message, str) else message
        if raw.startswith(b'{"type":"entries"'):
            return raw
        if raw.startswith(b'{"type":"error"'):
            raise RuntimeError(raw.decode())
    raise RuntimeError("the socket was closed")


async def ask(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=HEADERS, timeout=30) as client:

        async def post(verb: str, body: dict[str, object]) -> None:
            response = await client.post(f"/api/{verb}", json=body)
            if response.status_code != 200:
                raise RuntimeError(f"{verb}: {response.status_code} {response.text[:200]}")

        async def first_lines() -> None:
            async with asyncio.timeout(30):
                socket = await subscribed(port, "honest-0", 20)
                await next_entries(socket)
            closing.append(asyncio.create_task(socket.close()))
            del closing[:-20]

        closing: list[asyncio.Task[None]] = []
        calls: dict[str, Callable[[], Awaitable[None]]] = {
            "list": lambda: post("list-nodes", {}),
            "describe": lambda: post("describe-node", {"node": "honest-1"}),
            "live_log": first_lines,
        }
        while True:
            for kind, call in calls.items():
                begun = time.monotonic()
                try:
                    await call()
                except FAILURES as error:
                    sys.stderr.write(f"{kind}: {error!r}\n")
                    kind = "failed"
                say(kind, begun, time.monotonic() - begun)
                await asyncio.sleep(random.uniform(0.02, 0.06))


async def watch(port: int) -> None:
    """How long after it was written each line of a live log is here."""
    while True:
        try:
            socket = await subscribed(port, "honest-2", 1)
            while True:
                raw = await next_entries(socket)
                now = time.monotonic()
                for entry in json.loads(raw)["entries"]:
                    word, _space, written = (entry["message"] or "").partition(" ")
                    if word + " " == TICK and now - float(written) < 60:
                        say("live_line", float(written), now - float(written))
        except FAILURES as error:
            sys.stderr.write(f"live line: {error!r}\n")
            say("failed", time.monotonic(), 0)
            await asyncio.sleep(0.5)


async def main(port: int) -> None:
    await asyncio.gather(ask(port), watch(port))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
