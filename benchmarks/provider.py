"""A provider of language models that costs little, so that who calls it is measured and not it.

    python -m benchmarks.provider SECONDS PIECES

Each answer is a stream in Anthropic's format: PIECES pieces, evenly over SECONDS. Prints its address as JSON,
and for each line on its input how many calls were in flight at once, at most, since the line before.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(data: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


BEGIN = event({"type": "message_start", "message": {"usage": {"input_tokens": 11, "output_tokens": 1}}})
PIECE = event(
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Once upon a time. "}}
)
END = event(
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
) + event({"type": "message_stop"})


class Gauge:
    """Calls in flight."""

    def __init__(self) -> None:
        self.now = self.peak = self.answered = 0

    def change(self, by: int) -> None:
        """One more, or one fewer."""
        self.now += by
        self.peak = max(self.peak, self.now)

    def read(self) -> dict[str, int]:
        """The figures; the peak begins anew."""
        peak, self.peak = self.peak, self.now
        return {"peak": peak, "answered": self.answered}


class Call(asyncio.Protocol):
    """One connection, which has one request."""

    def __init__(self, gauge: Gauge, seconds: float, pieces: int) -> None:
        self._gauge, self._pause, self._left = gauge, seconds / pieces, pieces
        self._request = b""
        self._transport: Any = None
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._request += data
        head, found, body = self._request.partition(b"\r\n\r\n")
        if not self._begun and found and len(body) >= length_of(head):
            self._begun = True
            self._gauge.change(1)
            self._transport.write(HEAD + BEGIN)
            self._later()

    def _later(self) -> None:
        asyncio.get_running_loop().call_later(self._pause, self._go_on)

    def _go_on(self) -> None:
        if self._transport.is_closing():
            return
        self._left -= 1
        self._transport.write(PIECE)
        if self._left:
            self._later()
        else:
            self._transport.write(END)
            self._gauge.answered += 1
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._begun:
            self._gauge.change(-1)


def length_of(head: bytes) -> int:
    """What a request says of its body."""
    fields = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in fields if name == b"content-length"), 0)


async def main(seconds: float, pieces: int) -> None:
    """Serve until the input ends."""
    gauge = Gauge()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Call(gauge, seconds, pieces), "127.0.0.1", 0, backlog=4096)
    host, port = server.sockets[0].getsockname()[:2]
    say({"url": f"http://{host}:{port}/v1"})
    while await asyncio.to_thread(sys.stdin.readline):
        say(gauge.read())


def say(line: dict[str, Any]) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), int(sys.argv[2])))
