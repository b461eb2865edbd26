"""Table `dead_letter`: one row for each message that was given up."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Index, Integer, LargeBinary, String, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class DeadLetter(Base):
    """A message that was given up, byte for byte. `id` is made from source, message and body: what is given
    up again has one row. `headers` are those of a Celery message that no task of ours has seen.
    """

    __tablename__ = "dead_letter"
    __table_args__ = (Index("ix_dead_letter_source", "source", "buried_at", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    source: Mapped[str] = mapped_column(String(200))
    message_id: Mapped[str] = mapped_column(String(401))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    headers: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    reason: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    buried_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
