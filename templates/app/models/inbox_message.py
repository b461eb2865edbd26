"""Table `inbox_message`: one row for each message that a consumer has done."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, Index, String, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class InboxMessage(Base):
    """Written in the transaction of the effect, so that a second delivery finds it and does nothing.

    The primary key is the protection: a check before the insert would let two deliveries at once pass.
    """

    __tablename__ = "inbox_message"
    __table_args__ = (Index("ix_inbox_message_received_at", "received_at"),)

    consumer: Mapped[str] = mapped_column(String(200), primary_key=True)
    message_id: Mapped[str] = mapped_column(String(401), primary_key=True)
    received_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
