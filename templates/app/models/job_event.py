"""Table `job_event`: what a job told its followers, in order. Rows are added and never changed."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, String, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base
from app.models.job import Job


class JobEvent(Base):
    """`id` is the attempt times a thousand million, and the number of the event in it. So it is the same when
    a worker writes an event again, not knowing whether it is there, and never becomes visible after a
    greater one: whoever has read up to one of them misses nothing. The events go with their job.
    """

    __tablename__ = "job_event"

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Job.id, ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    type: Mapped[str] = mapped_column(String(100))
    data: Mapped[Any] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )
