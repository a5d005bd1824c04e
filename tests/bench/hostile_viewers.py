"""Everybody else: viewers of the logs of enemies and of honest nodes, and callers who ask for enemies' logs.

Run: ``python -m tests.bench.hostile_viewers PORT NAME…`` with the token in BENCH_TOKEN. Each name has two
viewers and a caller. A line on standard input has all of them begin again.
"""

from __future__ import annotations

import asyncio
import random
import sys

import httpx
from websockets.exceptions import WebSocketException

from tests.bench.hostile_client import FAILURES, HEADERS, next_entries, subscribed

CALL_EVERY_S = 10.0
"""More often, and the server has no idle time while all hosts are honest: all would wait for all."""
AGAIN_S = 1.0


async def view(port: int, name: str) -> None:
    while True:
        try:
            socket = await subscribed(port, name, 100)
        except FAILURES:
            await asyncio.sleep(AGAIN_S)
            continue
        try:
            while True:
                await next_entries(socket)
        except (RuntimeError, OSError, WebSocketException):
            await asyncio.sleep(AGAIN_S)
        finally:
            await socket.close()


async def call(port: int, name: str, client: httpx.AsyncClient) -> None:
    # Thirty callers that all ask at once are a burst that no thirty people make.
    await asyncio.sleep(random.uniform(0, CALL_EVERY_S))
    while True:
        try:
            await client.post("/api/describe-node-logs", json={"node": name})
        except httpx.HTTPError:
            pass
        await asyncio.sleep(CALL_EVERY_S)


async def work(port: int, names: list[str]) -> None:
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers=HEADERS,
        timeout=60,
        limits=httpx.Limits(max_connections=None),
    ) as client:
        viewers = (view(port, name) for name in [*names, *names])
        await asyncio.gather(*viewers, *(call(port, name, client) for name in names))


async def main(port: int, names: list[str]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        working = asyncio.create_task(work(port, names))
        line = await loop.run_in_executor(None, sys.stdin.readline)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        if not line:
            return


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
