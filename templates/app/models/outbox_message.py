"""Table `outbox_message`: one row for each message to send."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Identity, Index, SmallInteger, String, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base

PENDING = text("sent_at IS NULL AND refused IS NULL")


class OutboxMessage(Base):
    """Written in the transaction that it tells about, sent after the commit, kept until it is old.

    Rows are found by their state, not by the last number seen: numbers are handed out before the commit, so
    a lower one may appear after a higher one. Messages of one key share a lane, and a lane has one sender at
    a time, which keeps their order.
    """

    __tablename__ = "outbox_message"
    __table_args__ = (
        Index("ix_outbox_message_pending", "lane", "seq", postgresql_where=PENDING),
        Index("ix_outbox_message_refused", "seq", postgresql_where=text("refused IS NOT NULL")),
        Index("ix_outbox_message_sent", "sent_at", postgresql_where=text("sent_at IS NOT NULL")),
    )

    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    lane: Mapped[int] = mapped_column(SmallInteger)
    topic: Mapped[str] = mapped_column(String(200))
    key: Mapped[str | None] = mapped_column(String(200))
    message_id: Mapped[uuid.UUID]
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    refused: Mapped[str | None] = mapped_column(Text)
