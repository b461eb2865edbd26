"""Table `task_start`: how often a message was started again because its worker died."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, Index, Integer, String, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class TaskStart(Base):
    """Starts of a redelivered message beyond its first, noted before each, so that one that kills its worker
    is found out. A start that a shutdown cut short counts as none.
    """

    __tablename__ = "task_start"
    __table_args__ = (Index("ix_task_start_noted_at", "noted_at"),)

    task: Mapped[str] = mapped_column(String(200), primary_key=True)
    message_id: Mapped[str] = mapped_column(String(401), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    starts: Mapped[int] = mapped_column(Integer)
    noted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
