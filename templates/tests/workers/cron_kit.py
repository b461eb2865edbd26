"""A cron job, as the tests see it, and as the process that plays its scheduler runs it."""

from __future__ import annotations

import importlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import text

TICKS = "SELECT id, due_at FROM cron_run WHERE job = :job AND due_at > :since ORDER BY due_at"
# The transaction of a cron job's run is known by a name that app.core.cron_attempt gives it.
EFFECT = text(
    """
    INSERT INTO worker_lab_effect (message_id, process)
    SELECT split_part(name, ' ', 2), :process FROM current_setting('application_name') AS name
    WHERE starts_with(name, 'cron_run ')
    RETURNING message_id
    """
)


def start(labs: Any, job: str, calls: str) -> CronLab:
    """The lab of a cron job: its name and the service it calls."""
    return CronLab(labs.lab("cron_kit", f"cron_{job}", {}, "cron", job, calls), job)


class CronLab:
    """Schedulers that run one cron job every second, without leaving out a tick, in a lab."""

    def __init__(self, lab: Any, job: str) -> None:
        self._lab, self.job = lab, job
        self.next_due_at: list[str] = lab.desk.ask("next_due_at", job)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lab, name)

    def hold_one(self) -> tuple[Any, str]:
        """Let a scheduler stop in the middle of a run: the scheduler and the tick."""
        known = self._lab.lines("held")
        self._lab.hold()
        ((process, tick), *_) = self._lab.wait_for(
            lambda: self._lab.lines("held")[len(known) :], "a run is held"
        )
        return next(replica for replica in self._lab.replicas if replica.process.pid == process), tick

    def now(self) -> datetime:
        """What the database's clock shows."""
        ((now,),) = self._lab.rows("SELECT clock_timestamp()")
        assert isinstance(now, datetime)
        return now

    def ticks(self, count: int, since: datetime | None = None) -> list[str]:
        """The first `count` ticks `since` a moment, or from now on, once they are due: one a second."""
        moment = since or self.now()
        rows = self._lab.wait_for(lambda: self._due(moment, count), f"{count} ticks are due")
        seconds = [(row.due_at - rows[0].due_at).total_seconds() for row in rows]
        assert seconds == list(range(count))
        return [str(row.id) for row in rows]

    def _due(self, since: datetime, count: int) -> list[Any]:
        """The first `count` ticks, or nothing while there are fewer."""
        rows: list[Any] = self._lab.rows(TICKS, job=self.job, since=since)[:count]
        return rows if len(rows) == count else []

    def wait_done(self, *ticks: str) -> None:
        """Wait until all `ticks` are done."""
        self._lab.wait_for(lambda: set(ticks) <= set(self._lab.done()), "the ticks are done")


# -- in the process ------------------------------------------------------------------------------------


def play(role: str, name: str, calls: str) -> int:
    """Run the scheduler with the one job, due every second; each tick must be run, at once."""
    assert role == "cron"
    replica: Any = importlib.import_module("replica")
    replica.replace_service(calls, EFFECT)
    every = importlib.import_module("app.core.interval").Every
    scheduler: Any = importlib.import_module("app.workers.scheduler")
    jobs, second, hour = scheduler.collect(), timedelta(seconds=1), timedelta(hours=1)
    policies: Any = {"overlap": "wait", "catch_up": "all", "within": hour, "deadline": hour}
    policies |= {"jitter": timedelta(), "attempts": None}
    job = next(job for job in jobs if job.name == name)
    scheduler.collect = lambda: [replace(job, schedule=every(second), **policies)]
    return int(replica.run("scheduler"))


def next_due_at(name: str) -> list[str]:
    """When the job is due next, as it is defined; all jobs of the project must make sense."""
    jobs = importlib.import_module("app.core.cron_jobs").collect()
    job = next(job for job in jobs if job.name == name)
    times = islice(job.schedule.after(datetime.now(UTC)), 3)
    return [due.astimezone(job.schedule.zone).isoformat() for due in times]
