"""Table `job`: one row for each long-running job. The row is the record; what carries its id may lose it."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Double,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base

Moment = DateTime(timezone=True)


class Job(Base):
    """`state` goes from queued to running to succeeded, failed, cancelled or expired, back to queued for
    another attempt, and from running to cancelling when somebody asks for it.

    `attempt` is the fencing token: it grows with each start, and who writes a result names it. `excused`
    counts the starts that were nobody's fault, `lapsed` how many leases in a row were not renewed: what was
    there twice may have killed its worker, and runs beside no other such. `runner` holds the job until
    `lease_until`. `sent_at` and `sends` are about the message that carries the id (`via` celery) and start
    anew with each attempt.
    """

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled', 'expired')",
            name="state",
        ),
        # What has ended cannot begin again by a careless UPDATE, nor be held by anybody.
        CheckConstraint(
            "(state IN ('succeeded', 'failed', 'cancelled', 'expired')) = (finished_at IS NOT NULL)",
            name="finished",
        ),
        CheckConstraint(
            "(state IN ('running', 'cancelling')) = (lease_until IS NOT NULL AND runner IS NOT NULL)",
            name="leased",
        ),
        CheckConstraint("result IS NULL OR state = 'succeeded'", name="result"),
        CheckConstraint("progress BETWEEN 0 AND 1", name="progress"),
        CheckConstraint("(idempotency_key IS NULL) = (request_hash IS NULL)", name="request_hash"),
        Index(
            "uq_job_idempotency_key",
            "owner",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index("ix_job_owner", "owner", "created_at", "id"),
        Index(
            "ix_job_unsent",
            text("priority DESC"),
            "next_try_at",
            postgresql_where=text("state = 'queued' AND sent_at IS NULL"),
        ),
        Index(
            "ix_job_lane",
            "owner",
            "queue",
            text("priority DESC"),
            "next_try_at",
            postgresql_where=text("state = 'queued' AND via = 'table'"),
        ),
        Index("ix_job_sent", "sent_at", postgresql_where=text("state = 'queued' AND sent_at IS NOT NULL")),
        Index("ix_job_deadline", "deadline_at", postgresql_where=text("state = 'queued'")),
        Index("ix_job_leased", "lease_until", postgresql_where=text("state IN ('running', 'cancelling')")),
        Index("ix_job_finished", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(200))
    via: Mapped[str] = mapped_column(String(20))
    queue: Mapped[str] = mapped_column(String(100))
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    owner: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(20))
    payload: Mapped[Any] = mapped_column(JSONB)
    result: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[float] = mapped_column(Double, server_default="0")
    note: Mapped[str | None] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    excused: Mapped[int] = mapped_column(Integer, server_default="0")
    lapsed: Mapped[int] = mapped_column(Integer, server_default="0")
    max_attempts: Mapped[int] = mapped_column(Integer)
    runner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    next_try_at: Mapped[datetime] = mapped_column(Moment)
    deadline_at: Mapped[datetime] = mapped_column(Moment)
    sent_at: Mapped[datetime | None] = mapped_column(Moment)
    sends: Mapped[int] = mapped_column(Integer, server_default="0")
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_hash: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
