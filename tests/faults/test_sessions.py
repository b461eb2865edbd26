"""Sessions in several tasks at once, after a commit and after an error; and the way of a trace."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from pydantic import BaseModel
from sqlalchemy import select, text
from sqlalchemy.exc import (
    IntegrityError,
    InvalidRequestError,
    MissingGreenlet,
    PendingRollbackError,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.core.consumer import Consumer, on
from app.core.database import engine as default_engine
from app.core.database import get_session, session_factory
from app.core.deadline import Watch
from app.core.envelope import Envelope, Message, build, current_traceparent
from app.core.failures import classify
from app.core.inbox import claim, transactional
from app.core.outbox import enqueue
from app.core.outcomes import Done, Down
from app.core.worker_settings import WorkerSettings
from app.models.customers import Customer
from app.models.inbox_message import InboxMessage

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Work(BaseModel):
    """Payload of the messages here."""

    order_id: int = 1


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    """Where `get_session` leads to."""
    engine = create_async_engine(postgres_url)
    session_factory.configure(bind=engine)
    yield engine
    session_factory.configure(bind=default_engine)
    await engine.dispose()


def message(id_: str) -> Message[Work]:
    envelope = Envelope(specversion="1.0", id=id_, source="/tests", type="shop.work.v1", data={})
    return Message("tests", envelope, Work())


async def test_each_message_has_a_session_of_its_own(engine: AsyncEngine) -> None:
    nap = text("SELECT pg_sleep(0.2)")
    # The wrong form: one session in two tasks
    async with AsyncSession(engine) as shared:
        found = await asyncio.gather(shared.execute(nap), shared.execute(nap), return_exceptions=True)
    assert any(isinstance(result, InvalidRequestError) for result in found), found
    # Given five messages at once
    all_there, seen = asyncio.Barrier(5), set[int]()

    async def handle(_: Message[Work], session: AsyncSession) -> None:
        await all_there.wait()
        seen.add(id(session))
        await session.execute(nap)

    process = transactional(handle)
    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(*(process(message(str(n)), 60) for n in range(5)))
    # Then none is in another's way
    assert outcomes == [Done()] * 5
    assert len(seen) == 5


async def test_what_was_loaded_is_there_after_the_commit(engine: AsyncEngine) -> None:
    # The wrong form: SQLAlchemy's default
    async with async_sessionmaker(engine)() as session:
        session.add(expired := Customer(name="Ann", email="ann@example.com"))
        await session.commit()
        with pytest.raises(MissingGreenlet):
            _ = expired.name
    async with get_session() as session:
        customer = (await session.scalars(select(Customer))).one()
    assert customer.name == "Ann"


async def test_a_repeat_leaves_the_transaction_usable(engine: AsyncEngine) -> None:
    async with get_session() as session:
        assert await claim(session, message("1"), 60)
    # The wrong form: to insert, and to go on when that fails
    async with AsyncSession(engine) as session:
        session.add(InboxMessage(consumer="tests", message_id=message("1").message_id))
        with pytest.raises(IntegrityError):
            await session.flush()
        with pytest.raises(PendingRollbackError):
            await session.execute(text("SELECT 1"))
    async with get_session() as session:
        assert not await claim(session, message("1"), 60)
        assert await session.scalar(text("SELECT 1")) == 1


async def test_a_trace_goes_on_from_the_request_to_the_last_message(engine: AsyncEngine) -> None:
    seen: list[str | None] = []

    async def handle(message: Message[Work], session: AsyncSession) -> None:
        seen.append(current_traceparent.get())
        await enqueue(session, "shop.work.v1", message.data)

    async def newest() -> bytes:
        async with get_session() as session:
            query = text("SELECT body FROM outbox_message ORDER BY seq DESC LIMIT 1")
            return str(await session.scalar(query)).encode()

    async def handled(raw: bytes) -> bytes:
        """What the handler of a message, in a task of its own, has caused."""
        deciding: Any = consumer.decide(raw, 1, Watch(), WorkerSettings())
        assert await asyncio.create_task(deciding) == Done()
        return await newest()

    consumer = Consumer("tests", "shop.work", (on("shop.work.v1", Work, handle),))
    # Given a request with a trace, whose message is enqueued
    token = current_traceparent.set(TRACE)
    async with get_session() as session:
        await enqueue(session, "shop.work.v1", Work())
    current_traceparent.reset(token)
    # Then it is that of the message which its handling causes, and of the one after
    third = await handled(await handled(await newest()))
    assert TRACE.encode() in third
    # And a message of another origin has none of it
    await handled(build("shop.work.v1", Work(), source="/tests", id_="other"))
    assert seen == [TRACE, TRACE, None]


async def test_a_connection_lost_while_it_is_made_is_the_databases_fault(postgres_url: str) -> None:
    # Given a database that dies between the connection and what SQLAlchemy does with a new one
    lost = 0

    async def connect() -> Any:
        nonlocal lost
        connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        if lost < 2:
            lost += 1
            connection.terminate()
        return connection

    engine = create_async_engine(postgres_url, async_creator=connect)
    session_factory.configure(bind=engine)

    # When a handler begins
    with pytest.raises(asyncpg.InterfaceError, match="connection is closed") as caught:
        await transactional(no_work)(message("1"), 60)

    # Then the error, which is the driver's own, does not count against the message
    assert isinstance(classify(caught.value), Down)
    # And a consumer waits, and does the message afterwards
    consumer = Consumer("tests", "shop.work", (on("shop.work.v1", Work, no_work),))
    raw = build("shop.work.v1", Work(), source="/tests", id_="lost at first")
    assert isinstance(await consumer.decide(raw, 1, Watch(), WorkerSettings()), Down)
    assert await consumer.decide(raw, 1, Watch(), WorkerSettings()) == Done()
    session_factory.configure(bind=default_engine)
    await engine.dispose()


async def no_work(_: Message[Work], session: AsyncSession) -> None:
    await session.execute(text("SELECT 1"))
