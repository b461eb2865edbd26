"""Asks an API, one request after the other, each way in turn, over one connection.

    python -m benchmarks.asking HOST:PORT COUNT WAY…

Prints JSON: the seconds of each request, by way. The order of the ways changes from round to round.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from urllib.parse import quote

WARMUP = 20


class Client:
    """An HTTP connection that stays open; it reads no more than this API writes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    async def post(self, way: str) -> float:
        """The seconds that the answer took. Raises RuntimeError for another one than 202."""
        begin = time.perf_counter()
        head = f"POST /ways/{quote(way)} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: 0\r\n\r\n"
        self._writer.write(head.encode())
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        if b" 202 " not in answer[:20]:
            raise RuntimeError(f"{way}: {answer[:40].decode()}")
        return time.perf_counter() - begin


async def main(place: str, count: int, ways: Sequence[str]) -> None:
    """Ask, and print."""
    host, _, port = place.partition(":")
    client = Client(*await asyncio.open_connection(host, int(port)), place)
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(count + WARMUP):
        first = number % len(ways)
        for way in (*ways[first:], *ways[:first]):
            seconds = await client.post(way)
            if number >= WARMUP:
                found[way].append(seconds)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
