"""The part of the demo with a cron job: two schedulers, killed while they run it; each tick is run once."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg

from demo.ledger import Ticks
from demo.load import Load
from demo.news import News
from demo.replicas import SCHEDULER, Replica, Supervisor
from demo.shop import PAYMENT_SECONDS

JOB, SERVICE = "sales_report", "app.services.reports:ReportService.daily_sales"
OPTIONS = ("--every", "1s", "--set", "day=today", "--overlap", "wait", "--catch-up", "all")
AIM_FOR, PATIENCE = 5.0, 20.0
RUN_SECONDS = PAYMENT_SECONDS
# The report of a day is only ever replaced, so each time that it is written is noted, in the transaction of
# that run, whose name app.core.cron_attempt gives it. It takes a while, so that there is somebody to kill.
SLOWLY = """
    CREATE TABLE demo_report (run bigint NOT NULL);
    CREATE FUNCTION note_report() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN
        INSERT INTO demo_report VALUES (split_part(current_setting('application_name'), ' ', 2)::bigint);
        PERFORM pg_sleep(RUN_SECONDS);
        RETURN NEW;
    END $$;
    CREATE TRIGGER note_report AFTER INSERT OR UPDATE ON sales_report
    FOR EACH ROW EXECUTE FUNCTION note_report();
""".replace("RUN_SECONDS", str(RUN_SECONDS))
NOW = "SELECT floor(extract(epoch FROM clock_timestamp()))::bigint"
RUNNING = """
    SELECT extract(epoch FROM due_at)::bigint AS due, split_part(runner, ':', 2)::int AS pid
    FROM cron_run WHERE job = $1 AND state = 'running'
"""
# Made up: planned late, because no scheduler was there, or begun again, because it died in the middle.
TICKS = """
    SELECT count(*) FILTER (WHERE effects > 0) AS run,
           count(*) FILTER (WHERE effects > 0 AND late) AS late,
           coalesce(sum(greatest(effects - 1, 0)), 0)::int AS twice
    FROM (SELECT r.attempt > 1 OR r.created_at > r.due_at + interval '1 s' AS late, count(d.run) AS effects
          FROM cron_run r LEFT JOIN demo_report d ON d.run = r.id
          WHERE r.job = $1 AND extract(epoch FROM r.due_at) > $2 AND extract(epoch FROM r.due_at) <= $3
          GROUP BY r.id) AS tick
"""


@dataclass
class Cron:
    """The job with its schedulers, and what is done to them."""

    workers: Supervisor
    news: News
    database: asyncpg.Connection
    ticks: Ticks = field(default_factory=Ticks)
    _since: int = 0
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)  # a connection answers one question at a time

    async def begin(self) -> None:
        """From now on each second is a tick that is counted."""
        self._since = await self._value(NOW)

    async def look_after(self) -> None:
        """Take the figures until cancelled."""
        while True:
            self.ticks = await self._count(await self._value(NOW))
            await asyncio.sleep(0.5)

    async def play(self, load: Load) -> None:
        """Kill a scheduler in the middle of a run, and later both at once."""
        await load.reached(0.3)
        await self._kill_in_the_middle()
        await load.reached(0.7)
        for replica in self.workers.of(SCHEDULER):
            replica.process.kill()
        self.news.tell("kill -9 both schedulers")

    async def _kill_in_the_middle(self) -> None:
        """Stop whoever runs the job, and kill it when the run is still its own then."""
        ends = time.monotonic() + AIM_FOR
        while time.monotonic() < ends:
            for due, victim in await self._running():
                victim.process.send(signal.SIGSTOP)
                if (due, victim) in await self._running():
                    victim.process.kill()
                    at = datetime.fromtimestamp(due, UTC)
                    self.news.tell(f"kill -9 {victim.name}, pid {victim.process.pid}, in the run of {at:%T}")
                    return
                victim.process.send(signal.SIGCONT)
            await asyncio.sleep(0.05)
        self.news.tell("no scheduler was found in the middle of a run")

    async def _running(self) -> list[tuple[int, Replica]]:
        """Due time and scheduler of each run that goes on."""
        async with self._asking:
            rows = await self.database.fetch(RUNNING, JOB)
        by_pid = {replica.process.pid: replica for replica in self.workers.of(SCHEDULER)}
        return [(row["due"], by_pid[row["pid"]]) for row in rows if row["pid"] in by_pid]

    async def settle(self) -> None:
        """Wait until all ticks that are due by now were run, or nothing has moved for a while."""
        until = await self._value(NOW)
        moved, seen = time.monotonic(), -1
        while time.monotonic() - moved < PATIENCE:
            self.ticks = await self._count(until)
            if self.ticks.run >= self.ticks.due:
                return
            if self.ticks.run != seen:
                seen, moved = self.ticks.run, time.monotonic()
            await asyncio.sleep(0.1)

    async def _count(self, until: int) -> Ticks:
        async with self._asking:
            row = await self.database.fetchrow(TICKS, JOB, self._since, until)
        assert row is not None, "counts are always a row"
        return Ticks(until - self._since, row["run"], row["twice"], row["late"])

    async def _value(self, question: str) -> int:
        async with self._asking:
            return int(await self.database.fetchval(question))

    async def close(self) -> None:
        """Close the connection."""
        await self.database.close()
