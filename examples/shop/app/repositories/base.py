"""What all repositories have in common."""

from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.models.base import Base

M = TypeVar("M", bound=Base)


class Repository(Generic[M]):
    """Reads and adds rows of one model. It flushes, so that ids exist, and never commits."""

    model: type[M]

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def get(self, row_id: int) -> M | None:
        """Return the row with this id, or None."""
        return await self.session.get(self.model, row_id)

    async def add(self, row: M) -> M:
        """Insert `row`; its id and its defaults are set afterwards."""
        self.session.add(row)
        await self.session.flush()
        return row
