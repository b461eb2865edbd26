"""The bar's bills."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.models.bar import BarLine


class BarService:
    """Bills of rooms, in the transaction of the session."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def charge(self, room: str, item: str, cents: int) -> BarLine:
        """Add a line to a room's bill. A line with negative cents takes the one before it back."""
        line = BarLine(room=room, item=item, cents=cents)
        self.session.add(line)
        await self.session.flush()
        return line
