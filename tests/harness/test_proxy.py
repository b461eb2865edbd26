"""Every mode of the fault proxy, in front of a small echo server whose every byte is known."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from support.proxy import FaultProxy
from support.wait import eventually

SILENCE_S = 0.3


class EchoServer:
    """Sends every line back, with "answer to " before it, and remembers it."""

    def __init__(self) -> None:
        self.received = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.received += line
                writer.write(b"answer to " + line)
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[EchoServer, int]]:
    echo = EchoServer()
    async with await asyncio.start_server(echo.serve, "127.0.0.1", 0) as server:
        yield echo, server.sockets[0].getsockname()[1]


@pytest.fixture
def server(echo: tuple[EchoServer, int]) -> EchoServer:
    return echo[0]


@pytest.fixture
def proxy(echo: tuple[EchoServer, int]) -> Iterator[FaultProxy]:
    with FaultProxy(echo[1]) as proxy:
        yield proxy


class Connection:
    """A client that says a line and listens for one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, line: bytes) -> None:
        self.writer.write(line + b"\n")
        await self.writer.drain()

    async def hear(self, within_s: float = 5) -> bytes:
        async with asyncio.timeout(within_s):
            return (await self.reader.readline()).rstrip()

    async def ask(self, line: bytes) -> bytes:
        await self.say(line)
        return await self.hear()


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


async def ask_anew(proxy: FaultProxy, line: bytes) -> bytes:
    """Ask over a new connection; it may break while it is made or when it is used."""
    async with connected(proxy) as connection:
        return await connection.ask(line)


async def test_it_passes_bytes_and_the_end_of_a_connection(proxy: FaultProxy) -> None:
    async with connected(proxy) as connection:
        assert await connection.ask(b"a") == b"answer to a"
        assert proxy.connections == 1
        connection.writer.write_eof()
        assert await connection.hear() == b""
    await eventually(lambda: proxy.connections == 0, 5, "the proxy forgets the connection")
    assert proxy.accepted == 1


async def test_half_open_keeps_everything_and_forwards_nothing(proxy: FaultProxy, server: EchoServer) -> None:
    async with connected(proxy) as old:
        await old.ask(b"a")
        proxy.half_open()
        async with connected(proxy) as new:
            # When both connections ask
            await old.say(b"b")
            await new.say(b"c")
            # Then they hear neither an answer nor an end, and the server hears nothing
            for connection in (old, new):
                with pytest.raises(TimeoutError):
                    await connection.hear(SILENCE_S)
            assert server.received == b"a\n"
            # And all of it arrives when the line is mended
            proxy.pass_through()
            assert await old.hear() == b"answer to b"
            assert await new.hear() == b"answer to c"


async def test_half_open_hides_the_end_of_the_other_side(proxy: FaultProxy) -> None:
    async with connected(proxy) as connection:
        await connection.ask(b"a")
        proxy.half_open()
        connection.writer.write_eof()
        with pytest.raises(TimeoutError):
            await connection.hear(SILENCE_S)


async def test_reset_cuts_and_refuses_until_the_next_mode(proxy: FaultProxy) -> None:
    async with connected(proxy) as connection:
        await connection.ask(b"a")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await connection.hear()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(proxy.host, proxy.port)
    proxy.pass_through()
    assert await ask_anew(proxy, b"b") == b"answer to b"


async def test_reset_connections_cuts_once(proxy: FaultProxy) -> None:
    async with connected(proxy) as connection:
        await connection.ask(b"a")
        proxy.reset_connections()
        with pytest.raises(ConnectionResetError):
            await connection.hear()
    assert await ask_anew(proxy, b"b") == b"answer to b"


async def test_latency_delays_each_direction(proxy: FaultProxy) -> None:
    proxy.latency(100)
    clock = asyncio.get_running_loop()
    async with connected(proxy) as connection:
        began = clock.time()
        assert await connection.ask(b"a") == b"answer to a"
        assert clock.time() - began >= 0.2


async def test_drop_responses_lets_requests_through_and_swallows_answers(
    proxy: FaultProxy, server: EchoServer
) -> None:
    async with connected(proxy) as connection:
        proxy.drop_responses()
        await connection.say(b"a")
        await eventually(lambda: server.received == b"a\n", 5, "the server has the request")
        with pytest.raises(TimeoutError):
            await connection.hear(SILENCE_S)
        # A connection that lost answers cannot go on: the next answer would belong to an earlier question
        proxy.pass_through()
        with pytest.raises(ConnectionResetError):
            await connection.hear()
    assert await ask_anew(proxy, b"b") == b"answer to b"


@pytest.mark.parametrize(
    ("direction", "deliver", "server_heard", "client_heard"),
    [
        ("to_server", False, [b"first"], []),
        ("to_server", True, [b"first", b"stop"], []),
        ("to_client", False, [b"first", b"stop"], []),
        ("to_client", True, [b"first", b"stop"], [b"answer to stop"]),
    ],
)
async def test_close_after_breaks_the_connection_at_the_named_bytes(
    echo: tuple[EchoServer, int],
    direction: Literal["to_server", "to_client"],
    deliver: bool,  # noqa: FBT001
    server_heard: list[bytes],
    client_heard: list[bytes],
) -> None:
    server, port = echo
    with FaultProxy(port) as proxy:
        # Given a connection that is to break at "stop"
        async with connected(proxy) as connection:
            proxy.close_after(b"stop", direction, deliver=deliver)
            assert await connection.ask(b"first") == b"answer to first"
            assert not proxy.triggered.is_set()
            # When "stop" passes
            await connection.say(b"stop")
            # Then each side has heard what it should, and the client gets a reset
            for line in client_heard:
                assert await connection.hear() == line
            with pytest.raises(ConnectionResetError):
                await connection.hear()
            assert proxy.triggered.is_set()
            await eventually(lambda: server.received.split() == server_heard, 5, "what the server heard")
        # And the next connection is not touched
        assert await ask_anew(proxy, b"stop") == b"answer to stop"


async def test_close_after_sees_a_pattern_that_comes_in_two_pieces(
    proxy: FaultProxy, server: EchoServer
) -> None:
    proxy.close_after(b"st\nop", "to_server")
    async with connected(proxy) as connection:
        await connection.ask(b"st")
        await connection.say(b"op")
        with pytest.raises(ConnectionResetError):
            await connection.hear()
    assert server.received == b"st\n"


async def test_close_after_may_strike_several_times(proxy: FaultProxy) -> None:
    proxy.close_after(b"stop", "to_server", times=2)
    for _ in range(2):
        async with connected(proxy) as connection:
            await connection.say(b"stop")
            with pytest.raises(ConnectionResetError):
                await connection.hear()
    assert await ask_anew(proxy, b"stop") == b"answer to stop"


async def test_a_dead_server_behind_the_proxy_is_a_reset(free_port: int) -> None:
    with FaultProxy(free_port) as proxy, pytest.raises(ConnectionResetError):
        await ask_anew(proxy, b"a")


def test_a_url_leads_through_the_proxy() -> None:
    with FaultProxy(1) as proxy:
        assert proxy.url("amqp://guest:pw@10.0.0.1:5672/v") == f"amqp://guest:pw@127.0.0.1:{proxy.port}/v"
        assert proxy.url("redis://localhost/0") == f"redis://127.0.0.1:{proxy.port}/0"


def test_it_can_be_closed_in_every_mode() -> None:
    for mode in ("pass_through", "half_open", "reset", "drop_responses"):
        proxy = FaultProxy(1).start()
        getattr(proxy, mode)()
        proxy.close()
