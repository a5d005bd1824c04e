"""A viewer that reads one line a second while 100,000 are logged: the server's memory, and every line once.

The long version of the test in tests/realtime, with the server in a process of its own. A second viewer of
the same stream reads as fast as it can, so the slow one falls out of what they share and goes on alone.
Run by ``script/soak logs``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

from websockets.asyncio.client import ClientConnection

from tests.bench.bench_logs import FOLDER, MEMORY_MB, Bench, entries, server, subscribe
from tests.bench.figures import Report
from tests.journals import JournalHost, entry, export

PADDING = "x" * 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--lines", type=int, default=100_000)
    options = parser.parse_args()
    host = JournalHost(Path(FOLDER.name) / "host")
    host.write([entry(0, "line 0")])
    report = Report()
    with host, server(host) as bench:
        asyncio.run(watch(report, bench, options.seconds, options.lines))
    report.finish()


async def watch(report: Report, bench: Bench, seconds: int, lines: int) -> None:
    slow: list[int] = []
    quick: list[int] = []
    async with bench.open() as first, bench.open() as second:
        await subscribe(first, backlog=1, batch=1)
        await subscribe(second, backlog=1)
        slow += numbers(await entries(first))
        quick += numbers(await entries(second))
        # What the server needs for two viewers at all is there after some lines; the figure is what is added.
        await log(bench, 1, 1000)
        async for found in until(second, quick, 1000):
            quick += found
        slow += numbers(await entries(first))
        before = peak = bench.memory_mb()
        logging = asyncio.create_task(log(bench, 1001, lines, pace_s=seconds / 2 / (lines / 500)))
        reading = asyncio.create_task(read_on(second, quick, lines))
        begun = time.monotonic()
        tenths = [before]
        while (passed := time.monotonic() - begun) < seconds:
            await asyncio.sleep(1)
            raw = await entries(first)
            slow += numbers(raw)
            peak = max(peak, bench.memory_mb())
            if passed >= seconds / 10 * len(tenths):
                tenths.append(bench.memory_mb())
        cursor = json.loads(raw)["cursor"]
        await asyncio.gather(logging, reading)
    read = len(slow)
    async with bench.open() as again:
        await subscribe(again, cursor=cursor)
        async for found in until(again, slow, lines):
            slow += found
    assert quick == list(range(lines + 1)), "the quick viewer lost or repeated lines"
    assert slow == list(range(lines + 1)), "the slow viewer lost or repeated lines"
    report.figure(
        "memory_grown_by_a_viewer_of_1_line_a_second_mb",
        peak - before,
        MEMORY_MB,
        f"{read} of {lines:,} lines read in {seconds} s, the rest after it; "
        f"MB by tenths of that time: {' '.join(f'{tenth:.0f}' for tenth in tenths)}",
    )


async def read_on(socket: ClientConnection, into: list[int], last: int) -> None:
    async for found in until(socket, into, last):
        into += found


async def until(socket: ClientConnection, seen: list[int], last: int) -> AsyncIterator[list[int]]:
    """The numbers of each message until ``last`` has been seen."""
    while seen[-1] < last:
        yield numbers(await entries(socket))


def numbers(raw: bytes) -> list[int]:
    return [int(row["message"].split()[1]) for row in json.loads(raw)["entries"]]


async def log(bench: Bench, first: int, last: int, pace_s: float = 0.0) -> None:
    """Write the numbered lines in blocks, each of which takes ``pace_s``."""
    writer = bench.host.writer()
    assert writer.stdin is not None
    for start in range(first, last + 1, 500):
        block = range(start, min(start + 500, last + 1))
        data = b"".join(export(entry(number, f"line {number} {PADDING}")) for number in block)
        await asyncio.to_thread(writer.stdin.write, data)
        await asyncio.to_thread(writer.stdin.flush)
        await asyncio.sleep(pace_s)
    writer.stdin.close()
    await asyncio.to_thread(writer.wait, 60)


if __name__ == "__main__":
    main()
