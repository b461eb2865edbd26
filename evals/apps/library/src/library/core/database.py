"""Sessions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from library.core.config import settings
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

engine = create_async_engine(settings.database_url.get_secret_value(), pool_pre_ping=True)
session_factory = async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def get_session() -> AsyncIterator[AsyncSession]:
    """One transaction: committed at the end of the block, rolled back when it raises."""
    async with session_factory() as session, session.begin():
        yield session


async def db() -> AsyncIterator[AsyncSession]:
    """The session of a request."""
    async with get_session() as session:
        yield session
