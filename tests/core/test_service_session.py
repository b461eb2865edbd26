"""Sessions of services inside the worker's transaction: their commits are not the last word."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from app.core.service_session import call_sync, joined
from support.servers import PostgresServer

ADD = "INSERT INTO effect (who) VALUES (:who)"


class OwnSession(Session):
    """A session class of a project, as SQLModel's."""


@pytest.fixture
async def engine(postgres: PostgresServer) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgres.create_database("service_session"), poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE effect (who text)"))
    yield engine
    await engine.dispose()
    postgres.drop_database("service_session")


async def committed(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return list((await connection.execute(text("SELECT who FROM effect ORDER BY 1"))).scalars())


async def work(engine: AsyncEngine, *, fails: bool) -> None:
    """A handler's transaction: the worker's note, and two services that commit and go on after it."""
    factory = async_sessionmaker(engine, sync_session_class=OwnSession)

    def service(session: Session) -> str:
        assert isinstance(session, OwnSession)
        session.execute(text(ADD), {"who": "sync"})
        session.commit()
        session.execute(text(ADD), {"who": "sync, rolled back"})
        session.rollback()
        session.execute(text(ADD), {"who": "sync, left open"})
        return "done"

    async with factory() as session, session.begin():
        await session.execute(text(ADD), {"who": "note"})
        async with joined(session) as own:
            await own.execute(text(ADD), {"who": "async"})
            await own.commit()
            await own.execute(text(ADD), {"who": "async, left open"})
        assert await call_sync(session, service) == "done"
        assert await committed(engine) == []
        if fails:
            raise RuntimeError("after the services' commits")


async def test_all_commits_together(engine: AsyncEngine) -> None:
    await work(engine, fails=False)

    assert await committed(engine) == ["async", "async, left open", "note", "sync", "sync, left open"]


async def test_nothing_stays_of_a_handler_that_fails_after_a_service_has_committed(
    engine: AsyncEngine,
) -> None:
    with pytest.raises(RuntimeError):
        await work(engine, fails=True)

    assert await committed(engine) == []
