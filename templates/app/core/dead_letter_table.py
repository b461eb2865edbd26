"""Dead letters in the table `dead_letter`, for what has no dead-letter queue of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.broker import BrokerDownError
from app.core.database import get_session
from app.core.dead_letters import Letter
from app.core.failures import describe
from app.core.gate import close_connections

PAGE = 200
GONE = "gone: somebody else has replayed or dropped it"
# Sends a letter again; what it writes commits together with the removal of the letter.
Resend = Callable[[AsyncSession, Letter], Awaitable[None]]

BURY = text(
    """
    INSERT INTO dead_letter (id, source, message_id, body, headers, reason, attempts, buried_at)
    VALUES (:id, :source, :message_id, :body, CAST(:headers AS jsonb), :reason, :attempts,
            coalesce(CAST(:at AS timestamptz), clock_timestamp()))
    ON CONFLICT (id) DO UPDATE SET reason = excluded.reason, attempts = excluded.attempts,
        headers = excluded.headers, buried_at = excluded.buried_at
    """
)
PAGE_OF = text(
    """
    SELECT id, source, message_id, body, headers, reason, attempts, buried_at FROM dead_letter
    WHERE (CAST(:source AS varchar) IS NULL OR source = :source)
      AND (buried_at, id) > (CAST(:at AS timestamptz), :id) AND buried_at <= CAST(:newest AS timestamptz)
    ORDER BY buried_at, id LIMIT :size
    """
)
NOW = text("SELECT clock_timestamp()")
# A letter that was given up again in the meantime is another one.
REMOVE = text("DELETE FROM dead_letter WHERE id = :id AND buried_at = :at RETURNING 1")


async def bury(
    session: AsyncSession,
    *,
    source: str,
    id: str,  # noqa: A002  # the message's
    body: bytes,
    reason: str,
    attempts: int,
    headers: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> None:
    """Keep a message that was given up, in the session's transaction. `source` is the task or the kind of
    job, `id` the message's. The same message given up again has one letter.
    """
    key = hashlib.sha256(b"\0".join([source.encode(errors="replace"), id.encode(errors="replace"), body]))
    values = {
        "id": key.hexdigest()[:24],
        "source": storable(source)[:200],
        "message_id": storable(id)[:401],
        "body": body,
        "headers": storable(json.dumps(dict(headers), default=str)) if headers else None,
        "reason": storable(reason),
        "attempts": attempts,
        "at": at,
    }
    await session.execute(BURY, values)


def storable(value: str) -> str:
    """The text without what PostgreSQL has no place for."""
    return value.replace("\\u0000", "").replace("\0", "").encode(errors="replace").decode()


class TableDeadLetters:
    """See DeadLetters: those of `source`, or of all sources when it is None."""

    def __init__(self, source: str | None, resend: Resend) -> None:
        self._source, self._resend = source, resend

    async def pages(self, at_most: int | None = None) -> AsyncGenerator[list[Letter], None]:
        """See DeadLetters. What comes in meanwhile is left for the next time."""
        async with answers() as session:
            newest = (await session.execute(NOW)).scalar_one()
        at, id_ = datetime(1970, 1, 1, tzinfo=UTC), ""
        while at_most is None or at_most > 0:
            size = PAGE if at_most is None else min(PAGE, at_most)
            values = {"source": self._source, "at": at, "id": id_, "newest": newest, "size": size}
            async with answers() as session:
                rows = (await session.execute(PAGE_OF, values)).all()
            if not rows:
                return
            at, id_ = rows[-1].buried_at, rows[-1].id
            at_most = None if at_most is None else at_most - len(rows)
            yield [letter_of(row) for row in rows]

    async def replay(self, letters: Sequence[Letter]) -> list[str | None]:
        """See DeadLetters. Each in a transaction of its own: one that cannot be sent holds up no other."""
        return [await self._replay(letter) for letter in letters]

    async def _replay(self, letter: Letter) -> str | None:
        try:
            async with answers() as session:
                removed = await session.execute(REMOVE, {"id": letter.id, "at": letter.handle})
                if removed.first() is None:
                    return GONE
                await self._resend(session, letter)
        except ValueError as error:
            return describe(error)
        return None

    async def drop(self, letters: Sequence[Letter]) -> None:
        """See DeadLetters."""
        async with answers() as session:
            for letter in letters:
                await session.execute(REMOVE, {"id": letter.id, "at": letter.handle})

    async def add(self, letters: Sequence[Letter]) -> list[str | None]:
        """See DeadLetters. All of them or none."""
        async with answers() as session:
            for letter in letters:
                await bury(
                    session,
                    source=letter.origin or self._source or "",
                    id=str(letter.properties.get("message_id", letter.id)),
                    body=letter.body or b"",
                    reason=letter.reason,
                    attempts=letter.deliveries,
                    headers=letter.headers,
                    at=letter.at,
                )
        return [None] * len(letters)

    async def close(self) -> None:
        """See DeadLetters."""
        await close_connections()


def letter_of(row: Row[Any]) -> Letter:
    """A row of the table."""
    return Letter(
        id=row.id,
        body=row.body,
        reason=row.reason,
        deliveries=row.attempts,
        at=row.buried_at,
        origin=row.source,
        headers=row.headers or {},
        properties={"message_id": row.message_id},
        handle=row.buried_at,
    )


@asynccontextmanager
async def answers() -> AsyncIterator[AsyncSession]:
    """A session; failures of the database come up as BrokerDownError."""
    try:
        async with get_session() as session:
            yield session
    except (SQLAlchemyError, OSError) as error:
        raise BrokerDownError(f"database: {describe(error)}") from error
