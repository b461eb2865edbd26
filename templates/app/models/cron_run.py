"""Tables `cron_run`, one row for each run of a job, and `cron_job`, until when each job has been planned."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    DateTime,
    Identity,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base

Moment = DateTime(timezone=True)


class CronRun(Base):
    """A tick of a job: unique by job and due time, so that any number of schedulers make one run of it.

    `state` goes from waiting to running to succeeded, failed or skipped, and back to waiting for another
    attempt. `attempt` is the fencing token: it grows with each start. `excused` counts the starts that were
    nobody's fault (handed back, database away). Until `deadline_at` it must have started and, once started,
    be finished.
    """

    __tablename__ = "cron_run"
    __table_args__ = (
        UniqueConstraint("job", "due_at", name="uq_cron_run_job_due_at"),
        # One run of a job at a time, whatever the schedulers think.
        Index("uq_cron_run_running", "job", unique=True, postgresql_where=text("state = 'running'")),
        Index("ix_cron_run_open", "job", "due_at", postgresql_where=text("state IN ('waiting', 'running')")),
        Index("ix_cron_run_finished", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    job: Mapped[str] = mapped_column(String(100))
    due_at: Mapped[datetime] = mapped_column(Moment)
    trigger: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20))
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    excused: Mapped[int] = mapped_column(Integer, server_default="0")
    runner: Mapped[str | None] = mapped_column(String(200))
    next_try_at: Mapped[datetime] = mapped_column(Moment)
    deadline_at: Mapped[datetime] = mapped_column(Moment)
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    error: Mapped[str | None] = mapped_column(Text)


class CronJobState(Base):
    """Until when the ticks of a job under one schedule are in `cron_run`, and since when it is paused.

    Two versions of a project that run side by side may have different schedules for a job: each plans its
    own. A job is paused when any of its rows is.
    """

    __tablename__ = "cron_job"

    job: Mapped[str] = mapped_column(String(100), primary_key=True)
    schedule: Mapped[str] = mapped_column(String(200), primary_key=True)
    planned_until: Mapped[datetime] = mapped_column(Moment)
    paused_at: Mapped[datetime | None] = mapped_column(Moment)
