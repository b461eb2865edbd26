"""The faults of the proxy, as the drivers of the three real servers see them."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest
import redis.exceptions

from harness.clients import CLIENTS, Client
from support.proxy import FaultProxy
from support.servers import PostgresServer, Server
from support.wait import eventually

pytestmark = pytest.mark.services

REFUSED = (OSError, redis.exceptions.ConnectionError)


@pytest.fixture(params=["rabbit", "redis_server", "postgres"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def client(server: Server, proxy: FaultProxy) -> Client:
    return CLIENTS[type(server)](proxy.url(server.url))


async def works(client: Client) -> bool:
    async with asyncio.timeout(2):
        await client.read()
    return True


async def test_a_driver_works_through_the_proxy(client: Client) -> None:
    await client.write()
    assert await client.read() == "kept"


async def test_latency_slows_a_driver_down(client: Client, proxy: FaultProxy) -> None:
    proxy.latency(20)
    assert await works(client)


@pytest.mark.parametrize("fault", ["half_open", "drop_responses"])
async def test_a_driver_gets_no_answer(client: Client, proxy: FaultProxy, fault: str) -> None:
    getattr(proxy, fault)()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await client.read()
    proxy.pass_through()
    assert await works(client)


async def test_a_driver_is_refused_and_let_in_again(client: Client, proxy: FaultProxy) -> None:
    proxy.reset()
    with pytest.raises(REFUSED):
        await works(client)
    proxy.pass_through()
    assert await works(client)


async def test_commit_was_executed_but_the_answer_got_lost(own_postgres: PostgresServer) -> None:
    own_postgres.execute_sync("CREATE TABLE paid (id int)")
    with FaultProxy(own_postgres.port) as proxy:
        # Given a transaction that is about to commit
        connection = await asyncpg.connect(
            proxy.url(own_postgres.database_url("postgres", driver="postgresql")), ssl=False
        )
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO paid VALUES (1)")
        # When the connection breaks before the answer to COMMIT
        proxy.close_after(b"COMMIT", "to_client")
        with pytest.raises((OSError, asyncpg.PostgresConnectionError)):
            await transaction.commit()
        # Then the client knows nothing, and the row is there
        assert proxy.triggered.is_set()
        await eventually(lambda: own_postgres.execute_sync("SELECT 1 FROM paid"), 5, "the row is committed")
