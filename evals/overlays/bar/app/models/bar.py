"""What rooms owe the bar."""

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class BarLine(Base):
    """A line of a room's bill, in the order of the bill; what was taken back stays, struck out."""

    __tablename__ = "bar_line"

    id: Mapped[int] = mapped_column(primary_key=True)
    room: Mapped[str] = mapped_column(Text, index=True)
    item: Mapped[str] = mapped_column(Text)
    cents: Mapped[int]
