"""Sessions for services that commit by themselves, and for services that are synchronous.

Both work inside the worker's transaction: a commit of theirs ends a savepoint. So the effect commits together
with the worker's own note of it, or not at all, whatever the service does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

T = TypeVar("T")


@asynccontextmanager
async def joined(session: AsyncSession) -> AsyncIterator[AsyncSession]:
    """A session of the same class, in the transaction of `session`; what is left open joins it, too."""
    connection = await session.connection()
    async with type(session)(
        connection,
        sync_session_class=type(session.sync_session),
        join_transaction_mode="create_savepoint",
        expire_on_commit=False,
    ) as inner:
        yield inner
        await inner.commit()


async def call_sync(session: AsyncSession, call: Callable[[Any], T]) -> T:
    """What `call` returns, called with a synchronous session in the transaction of `session`.

    Its class is what the project's sessions are made of (`sync_session_class`).
    It runs in the event loop, which goes on while `call` waits for the database and stands still while it
    waits for anything else.
    """

    def run(outer: Session) -> T:
        with type(outer)(
            outer.connection(), join_transaction_mode="create_savepoint", expire_on_commit=False
        ) as inner:
            result = call(inner)
            inner.commit()
            return result

    return await session.run_sync(run)
