"""A producer for the fault tests: orders that are enqueued in transactions of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.core.outbox import enqueue
from support.scene import Scene

Sessions = async_sessionmaker[AsyncSession]


class Work(BaseModel):
    """Payload of the faulty consumer's messages."""

    order_id: int
    do: str = "process"
    token: int = 0


@asynccontextmanager
async def sessions_for(url: str) -> AsyncIterator[Sessions]:
    """Sessions of a producer."""
    engine = create_async_engine(url, pool_size=20)
    try:
        yield async_sessionmaker(engine, expire_on_commit=False)
    finally:
        await engine.dispose()


async def produce(scene: Scene, sessions: Sessions, orders: list[int], key: str | None = None) -> None:
    """Enqueue a message for each order, each in a transaction of its own."""

    async def one(order: int) -> None:
        async with sessions.begin() as session:
            await enqueue(session, "shop.work.v1", Work(order_id=order), key=key)
        scene.accepted.append(order)

    for start in range(0, len(orders), 20):
        await asyncio.gather(*(one(order) for order in orders[start : start + 20]))


async def unsent(scene: Scene) -> int:
    """Rows that wait to be sent."""
    return int((await scene.sql("SELECT count(*) FROM outbox_message WHERE sent_at IS NULL"))[0][0])


async def unsent_is(scene: Scene, number: int) -> bool:
    """Whether so many rows wait."""
    return await unsent(scene) == number
