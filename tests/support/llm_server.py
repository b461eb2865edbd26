"""A stand-in for a provider of language models, which speaks like Anthropic and like OpenAI."""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

TOKENS = ("Once ", "upon ", "a ", "time\u2028", "the ", "end.")


class Dropped(Exception):
    """The client has gone."""


@dataclass
class Call:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    sent: int = 0
    dropped: bool = False
    at: float = field(default_factory=time.monotonic)


@dataclass
class LlmServer:
    """Answers with TOKENS, `pause` seconds after each, unless `script` says otherwise: the next behaviours
    are taken from it. It is busy with more than `most` calls. `in_flight` and `peak` count those that were
    under way at the same time. After `hold` answers stop when so many events are sent, until `release`: what
    has to happen in the middle of an answer happens there, however slow the machine is.
    """

    pause: float = 0.0
    tokens: tuple[str, ...] = TOKENS
    script: deque[str] = field(default_factory=deque)
    calls: list[Call] = field(default_factory=list)
    in_flight: int = 0
    peak: int = 0
    most: int = 100_000
    _stop_at: int = 0
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _clients: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=2000)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    def hold(self, after: int = 5) -> None:
        """Let answers stop after some events."""
        self._stop_at = after
        self._open.clear()

    def release(self) -> None:
        """Let them go on."""
        self._stop_at = 0
        self._open.set()

    @property
    def url(self) -> str:
        """The base address."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}/v1"

    @property
    def text(self) -> str:
        """A complete answer."""
        return "".join(self.tokens)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
            }
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            call = Call(head[0].split()[1], headers, body)
            self.calls.append(call)
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
            try:
                await self._answer(call, reader, writer)
            except (Dropped, ConnectionError):
                call.dropped = True
            finally:
                self.in_flight -= 1
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behaviour = self.script.popleft() if self.script else "well"
        if self.in_flight > self.most:
            behaviour = "429 rate_limit_error 1"
        kind, _, rest = behaviour.partition(" ")
        if kind.isdigit():
            refusal = {"error": {"type": rest.partition(" ")[0] or "some_error", "message": "secret prompt"}}
            after = f"Retry-After: {rest.partition(' ')[2]}\r\n" if " " in rest else ""
            await send(writer, head(int(kind), "application/json", after) + json.dumps(refusal).encode())
            return
        await send(writer, head(200, "text/event-stream", "request-id: req_1\r\nx-request-id: req_1\r\n"))
        openai = call.path.endswith("/chat/completions")
        write = openai_events if openai else anthropic_events
        for number, event in enumerate(write(self.tokens)):
            if kind != "well" and number == 5:
                if kind == "hang":
                    await idle(reader, 600)
                text = {
                    "cut": "",
                    "broken": "data: {oops\n\n",
                    "error": f"event: error\ndata: {error(rest)}\n\n",
                }
                await send(writer, text[kind].encode())
                return
            await send(writer, event.encode())
            call.sent += 1
            if call.sent == self._stop_at:
                await until(self._open, reader)
            if self.pause:
                await idle(reader, self.pause)


def head(status: int, kind: str, more: str = "") -> bytes:
    """The head of an answer that ends with the connection."""
    return f"HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\nConnection: close\r\n{more}\r\n".encode()


def error(kind: str) -> str:
    """An error in the middle of a stream."""
    return json.dumps({"type": "error", "error": {"type": kind, "message": "secret prompt"}})


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write, as far as the client reads."""
    writer.write(data)
    await writer.drain()


async def idle(reader: asyncio.StreamReader, seconds: float) -> None:
    """Wait; raises Dropped when the client goes in the meantime."""
    try:
        async with asyncio.timeout(seconds):
            await reader.read(1)
    except TimeoutError:
        return
    raise Dropped


async def until(event: asyncio.Event, reader: asyncio.StreamReader) -> None:
    """Wait for the event; raises Dropped when the client goes first."""
    waits = {asyncio.ensure_future(event.wait()), asyncio.ensure_future(reader.read(1))}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    if not event.is_set():
        raise Dropped


def anthropic_events(tokens: tuple[str, ...]) -> list[str]:
    """An answer in Anthropic's words."""
    found: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {"id": "msg_1", "usage": {"input_tokens": 11, "output_tokens": 1}},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}}
            for t in tokens
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": len(tokens)},
        },
        {"type": "message_stop"},
    ]
    return [f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n" for e in found]


def openai_events(tokens: tuple[str, ...]) -> list[str]:
    """An answer in OpenAI's words."""
    found: list[dict[str, Any]] = [
        {
            "id": "c",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
        },
        *(
            {"id": "c", "choices": [{"index": 0, "delta": {"content": t}, "finish_reason": None}]}
            for t in tokens
        ),
        {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None},
        {"id": "c", "choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": len(tokens)}},
    ]
    return [f"data: {json.dumps(e, ensure_ascii=False)}\r\n\r\n" for e in found] + ["data: [DONE]\n\n"]


@asynccontextmanager
async def running_llm(**options: Any) -> AsyncIterator[LlmServer]:
    """A provider in this process."""
    async with LlmServer(**options) as server:
        yield server
