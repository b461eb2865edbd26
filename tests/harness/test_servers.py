"""Every operation of the server classes on every server: one conformance suite."""

import asyncio
import socket
from collections.abc import Iterator

import aio_pika
import psutil
import pytest
import redis.asyncio

from harness.clients import CLIENTS, Client, RedisClient
from support import reaper
from support.servers import RabbitServer, RedisServer, Server, ServerError
from support.wait import eventually

pytestmark = pytest.mark.services

NOT_YET = (ConnectionError, TimeoutError, RuntimeError, aio_pika.exceptions.AMQPError)


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda kind: kind.name)
def shared(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param is RabbitServer:
        yield request.getfixturevalue("rabbit")  # which may be restarted, and takes long to start
        return
    with request.param() as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    yield shared
    if not shared.running:
        shared.start()


@pytest.fixture
def client(server: Server) -> Client:
    return CLIENTS[type(server)](server.url)


async def test_data_outlives_kill_and_orderly_restart_and_not_restart_empty(
    server: Server, client: Client
) -> None:
    port = server.port
    # Given a value that was confirmed
    await client.write()
    # When the server is killed
    processes = psutil.Process(server.pid).children(recursive=True)
    await asyncio.to_thread(server.kill)
    # Then nothing of it runs any more and nobody listens
    assert not server.running
    assert not server.answers()
    assert all(map(reaper.ended, processes))
    # And the value is there after the next start, and after an orderly restart
    await asyncio.to_thread(server.start)
    assert await client.read() == "kept"
    await asyncio.to_thread(server.restart)
    assert await client.read() == "kept"
    # And is gone after an empty one, on the same port
    await asyncio.to_thread(server.restart_empty)
    assert await client.read() is None
    assert server.port == port


async def test_a_paused_server_accepts_connections_and_answers_nothing(
    server: Server, client: Client
) -> None:
    # Given a paused server
    server.pause()
    # When a client connects
    with socket.create_connection((server.host, server.port), timeout=5):
        # Then the kernel accepts it and the server stays silent
        assert server.running
        assert not server.answers()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await client.read()
    # And it goes on as if nothing had been
    server.resume()
    await asyncio.to_thread(server.wait_ready)


async def test_no_child_of_a_paused_server_runs(server: Server) -> None:
    def all_stand_still() -> bool:
        processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        return {process.status() for process in processes} == {psutil.STATUS_STOPPED}

    server.pause()
    await eventually(all_stand_still, 5, "every process has taken in the signal")
    server.resume()
    await asyncio.to_thread(server.wait_ready)


def test_a_paused_server_can_be_stopped(server: Server) -> None:
    server.pause()
    server.stop()
    assert not server.running


def test_starting_twice_is_refused(server: Server) -> None:
    with pytest.raises(ServerError, match="runs already"):
        server.start()


def test_close_removes_the_folder() -> None:
    server = RedisServer().start()
    server.close()
    assert not server.folder.exists()


def test_a_server_that_cannot_start_shows_its_log() -> None:
    server = RedisServer(options={"maxmemory-policy": "nonsense"})
    with pytest.raises(ServerError, match="nonsense"):
        server.start()
    server.close()


async def test_redis_without_appendonly_forgets() -> None:
    with RedisServer(appendonly=False) as server:
        client = RedisClient(server.url)
        await client.write()
        await asyncio.to_thread(server.restart)
        assert await client.read() is None


async def test_a_full_redis_refuses_writes() -> None:
    with RedisServer(maxmemory="2mb") as server:
        async with redis.asyncio.Redis.from_url(server.url) as connection:

            async def fill() -> None:
                for number in range(100):
                    await connection.set(f"key{number}", "x" * 100_000)

            with pytest.raises(redis.exceptions.OutOfMemoryError):
                await fill()


async def test_rabbit_publishing_goes_on_over_kill_and_restart(rabbit: RabbitServer, rabbit_url: str) -> None:
    """A robust connection with confirms: every confirmed persistent message is there after the crash."""
    async with await aio_pika.connect_robust(rabbit_url, reconnect_interval=0.2) as connection:
        channel = await connection.channel(publisher_confirms=True)
        queue = await channel.declare_queue("orders", durable=True)
        confirmed = [await _publish(channel, queue.name, number) for number in range(20)]
        # When the broker is killed and comes back
        await asyncio.to_thread(rabbit.kill)
        await asyncio.to_thread(rabbit.start)

        async def publish_again() -> int:
            return await _publish(channel, queue.name, len(confirmed))

        # Then publishing works again over the same channel object
        confirmed.append(await eventually(publish_again, 30, "publishing works", ignore=NOT_YET))
        # And nothing that was confirmed is missing
        queue = await (await connection.channel()).declare_queue("orders", passive=True)
        assert queue.declaration_result.message_count == len(confirmed)


async def _publish(channel: aio_pika.abc.AbstractChannel, queue: str, number: int) -> int:
    message = aio_pika.Message(str(number).encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    async with asyncio.timeout(5):
        await channel.default_exchange.publish(message, queue)
    return number


async def test_virtual_hosts_are_apart(rabbit: RabbitServer) -> None:
    first = await asyncio.to_thread(rabbit.create_vhost, "first")
    second = await asyncio.to_thread(rabbit.create_vhost, "second")
    async with await aio_pika.connect(first) as connection:
        await (await connection.channel()).declare_queue("mine")
    async with await aio_pika.connect(second) as connection:
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await (await connection.channel()).declare_queue("mine", passive=True)
    await asyncio.to_thread(rabbit.delete_vhost, "first")
    with pytest.raises(aio_pika.exceptions.CONNECTION_EXCEPTIONS):
        await aio_pika.connect(first)
