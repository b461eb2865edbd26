"""The engine and the one way to get a session."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.core.config import settings

engine = create_async_engine(
    settings.database_url.get_secret_value(),
    pool_size=settings.db_pool_size,
    max_overflow=settings.db_max_overflow,
    pool_timeout=settings.db_pool_timeout,
    # One round trip per checkout. Without it, each pooled connection fails one request after the
    # database was restarted or has failed over.
    pool_pre_ping=True,
    # Parameters hold names and addresses of customers, and SQL errors end in logs.
    hide_parameters=True,
)

# expire_on_commit=False: an attribute read after the commit would need a query, which a plain
# attribute access cannot await.
session_factory = async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def get_session() -> AsyncIterator[AsyncSession]:
    """Yield a session in one transaction: committed when the block succeeds, rolled back when it raises."""
    async with session_factory() as session, session.begin():
        yield session


async def session_dependency() -> AsyncIterator[AsyncSession]:
    """`get_session` for FastAPI; use it as `Depends(session_dependency, scope="function")`.

    In FastAPI's default scope the code after `yield` runs when the response has been sent, so a
    commit that fails would follow a 201. The function scope ends before the response.
    """
    async with get_session() as session:
        yield session
