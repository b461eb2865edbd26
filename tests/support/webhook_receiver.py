"""A receiver of webhooks that behaves as it is told to."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from standardwebhooks import Webhook

# Of the answers that are no status: the connection is cut, nothing is said, a little at a time is said.
CUT, SILENT, DRIP = "cut", "silent", "drip"
BIG = 10_000_000


@dataclass
class Got:
    """A request, and whether it was answered with 2xx."""

    headers: dict[str, str]
    body: bytes
    taken: bool = False

    @property
    def id(self) -> str:
        """The same each time that it comes."""
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> None:
        """Have the reference library look at it. Raises what that raises."""
        Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """Answers 204, unless `script` has other answers: those are given first. `always` is for all others."""

    script: deque[str] = field(default_factory=deque)
    always: str = "204 Thanks"
    got: list[Got] = field(default_factory=list)
    url: str = ""
    _clients: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def taken(self) -> list[str]:
        """The ids of what was answered with 2xx; one that came again stands here again."""
        return [one.id for one in self.got if one.taken]

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A request comes."""
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def close(self) -> None:
        """Let go of those that wait for an answer."""
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(await self._read(reader), reader, writer)
        finally:
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> Got:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
        got = Got(headers, await reader.readexactly(int(headers["content-length"])))
        self.got.append(got)
        return got

    async def _answer(self, got: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = self.script.popleft() if self.script else self.always
        if answer == CUT:
            return
        if answer in {SILENT, DRIP}:
            await talk(
                reader, writer, b"" if answer == SILENT else b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 600
            )
            return
        got.taken = answer.startswith("2")
        size = BIG if answer.endswith("big") else 0
        head = f"HTTP/1.1 {answer}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + b"x" * size)
        await writer.drain()
        writer.write_eof()
        await reader.read()  # until the other side has gone: whoever aborts earlier may cut off the answer


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> None:
    """Send `text`, a byte every tenth of a second, and then wait, until the other side has had enough."""
    gone = asyncio.ensure_future(reader.read())
    for at in range(len(text)):
        writer.write(text[at : at + 1])
        if (await asyncio.wait([gone], timeout=0.1))[0]:
            break
    await gone


@asynccontextmanager
async def receiving(*script: str, always: str = "204 Thanks") -> AsyncIterator[Receiver]:
    """A receiver in this process."""
    receiver = Receiver(deque(script), always)
    server = await asyncio.start_server(receiver.connected, "127.0.0.1", 0)
    receiver.url = f"http://localhost:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()
        await receiver.close()
        await server.wait_closed()
