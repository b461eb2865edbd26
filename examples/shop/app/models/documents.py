"""Documents and their summaries."""

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class Document(Base):
    """A text; `summary` is None until a language model has written it."""

    __tablename__ = "document"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]
    summary: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    summarised_at: Mapped[datetime | None]
