"""One durable value written to a server and read back, whatever the server: what "it works" means here."""

from abc import ABC, abstractmethod

import aio_pika
import asyncpg
import redis.asyncio

from support.servers import PostgresServer, RabbitServer, RedisServer, Server


class Client(ABC):
    """Writes one durable value to a server and reads it back, over a new connection each time."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    async def write(self) -> None: ...

    @abstractmethod
    async def read(self) -> str | None: ...


class RedisClient(Client):
    async def write(self) -> None:
        async with redis.asyncio.Redis.from_url(self.url) as connection:
            await connection.set("key", "kept")

    async def read(self) -> str | None:
        async with redis.asyncio.Redis.from_url(self.url, decode_responses=True) as connection:
            value = await connection.get("key")
            return None if value is None else str(value)


class PostgresClient(Client):
    async def write(self) -> None:
        connection = await self._connect()
        try:
            await connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 'kept' AS value")
        finally:
            await connection.close()

    async def read(self) -> str | None:
        connection = await self._connect()
        try:
            value: str | None = await connection.fetchval("SELECT value FROM kept")
        except asyncpg.UndefinedTableError:
            return None
        else:
            return value
        finally:
            await connection.close()

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.url.replace("+asyncpg", ""))


class RabbitClient(Client):
    async def write(self) -> None:
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("kept", durable=True)
            message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, queue.name)

    async def read(self) -> str | None:
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("kept", durable=True)
            message = await queue.get(fail=False)
            if message is None:
                return None
            await message.nack(requeue=True)
            return message.body.decode()


CLIENTS: dict[type[Server], type[Client]] = {
    RedisServer: RedisClient,
    PostgresServer: PostgresClient,
    RabbitServer: RabbitClient,
}
