"""Single pieces of work that go wrong in the database, chosen by the row that they insert.

A trigger on the table of the effects looks the row up. So every solution meets the same fault, whatever it is
built of: it need not know that it is graded, and the grader need not know how it works.

kill    the process that inserts it dies by SIGKILL, each time
hang    the statement waits until the traps are taken away
drop    the connection is closed by the server, `DROPS` times
refuse  the statement fails with an error of the database, each time
slow    the statement takes `SLOW_SECONDS`
brief   the statement takes `BRIEF_SECONDS`, in which a worker can be found at work
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import asyncpg
import psutil

from evals.stage import Stage
from support.wait import eventually
from support.workers import WorkerProcess

Kind = Literal["kill", "hang", "drop", "refuse", "slow", "brief"]

DEATHS = 20  # of a process by the same piece of work; RabbitMQ 4 gives a message up after as many
DROPS = 5
SLOW_SECONDS = 20
BRIEF_SECONDS = 5
LOCKS: dict[str, int] = {"kill": 1, "hang": 2, "drop": 3, "slow": 4, "brief": 5}
PASSED = (LOCKS["slow"], LOCKS["brief"])  # their locks are free: they mark who takes long

SPACE = 471_100  # of the advisory locks, so that they are nobody else's
SET_UP = f"""
CREATE SCHEMA grader;
CREATE TABLE grader.trap (key text PRIMARY KEY, kind text NOT NULL);
CREATE FUNCTION grader.spring() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE what text;
BEGIN
    SELECT kind INTO what FROM grader.trap WHERE key = ({{key}})::text;
    CASE what
        WHEN 'kill' THEN PERFORM pg_advisory_xact_lock_shared({SPACE}, {LOCKS["kill"]});
        WHEN 'hang' THEN PERFORM pg_advisory_xact_lock_shared({SPACE}, {LOCKS["hang"]});
        WHEN 'drop' THEN PERFORM pg_advisory_xact_lock_shared({SPACE}, {LOCKS["drop"]});
        WHEN 'slow' THEN
            PERFORM pg_advisory_xact_lock_shared({SPACE}, {LOCKS["slow"]});
            PERFORM pg_sleep({SLOW_SECONDS});
        WHEN 'brief' THEN
            PERFORM pg_advisory_xact_lock_shared({SPACE}, {LOCKS["brief"]});
            PERFORM pg_sleep({BRIEF_SECONDS});
        WHEN 'refuse' THEN RAISE EXCEPTION 'the books of this one are closed';
        ELSE NULL;
    END CASE;
    RETURN NEW;
END $$;
CREATE TRIGGER spring BEFORE INSERT ON {{table}} FOR EACH ROW EXECUTE FUNCTION grader.spring();
"""  # noqa: S608  # names and numbers of ours
CAUGHT = f"""
SELECT l.objid::int AS lock, l.pid, a.client_port FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.classid = {SPACE} AND a.datname = current_database()
  AND l.mode = 'ShareLock' AND (l.granted = (l.objid IN {PASSED}))
"""  # noqa: S608


@dataclass
class Traps:
    """Traps in one table. `key` is an SQL expression over NEW, the row that is inserted."""

    stage: Stage
    table: str
    key: str
    sprung: Counter[str] = field(default_factory=Counter)
    """How often each kind struck."""
    last_death: float = 0.0
    """When one of them killed last, by time.monotonic()."""

    async def build(self) -> None:
        """Create what is needed in the database; no trap is set yet."""
        await self.stage.sql_script(SET_UP.format(key=self.key, table=self.table))

    async def set(self, kind: Kind, numbers: Iterable[int]) -> None:
        """Set traps for these pieces of work."""
        values = ", ".join(f"('{number}', '{kind}')" for number in numbers)
        await self.stage.sql(f"INSERT INTO grader.trap VALUES {values}")  # noqa: S608  # numbers and a name

    async def remove(self, kind: Kind | None = None) -> None:
        """Take the traps of a kind away, or all."""
        await self.stage.sql(f"DELETE FROM grader.trap WHERE '{kind or ''}' IN ('', kind)")  # noqa: S608

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """The traps strike inside the block; at its end they are taken away, and what hangs goes on."""
        connection = await asyncpg.connect(self.stage.database)
        for lock in LOCKS.values():
            if lock not in PASSED:
                await connection.execute(f"SELECT pg_advisory_lock({SPACE}, {lock})")
        watching = asyncio.create_task(self._watch(connection))
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await connection.close()
            await self.remove()

    async def caught(self, kind: Kind) -> list[Any]:
        """The sessions that a kind of trap holds now: lock, pid and client_port."""
        return [row for row in await self.stage.sql(CAUGHT) if row["lock"] == LOCKS[kind]]

    async def worker_of(self, kind: Kind, seconds: float) -> WorkerProcess | None:
        """The worker that is held by a trap, once one is; None when none is after `seconds`."""
        found: list[WorkerProcess] = []

        async def held() -> bool:
            self.stage.deployment.keep_up()
            ports = [row["client_port"] for row in await self.caught(kind)]
            workers = self.stage.deployment.processes
            found.extend(w for w in workers if any(pid_of(port, family(w)) for port in ports))
            return bool(found)

        with suppress(AssertionError):
            await eventually(held, seconds)
        return found[0] if found else None

    async def _watch(self, connection: Any) -> None:
        """Strike what is caught, for ever, and restart what has died."""
        names = {lock: kind for kind, lock in LOCKS.items()}
        while True:
            self.stage.deployment.keep_up()
            for row in await connection.fetch(CAUGHT):
                kind = names[row["lock"]]
                if kind not in ("kill", "drop"):
                    continue
                self.sprung[kind] += 1
                if kind == "kill":
                    self.last_death = time.monotonic()
                    families = [family(worker) for worker in self.stage.deployment.processes]
                    strike(row["client_port"], set().union(*families))
                await connection.execute("SELECT pg_terminate_backend($1)", row["pid"])
                if self.sprung[kind] >= {"kill": DEATHS, "drop": DROPS}[kind]:
                    await connection.execute("DELETE FROM grader.trap WHERE kind = $1", kind)
            await asyncio.sleep(0.1)


def family(worker: WorkerProcess) -> set[int]:
    """A process and all its descendants; none when it is gone."""
    if not worker.running:
        return set()
    try:
        children = psutil.Process(worker.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return set()
    return {worker.pid, *(child.pid for child in children)}


def pid_of(port: int, pids: Collection[int]) -> int | None:
    """Which of the processes has this end of a connection. Others on this machine may have the same port, to
    another address.
    """
    for connection in psutil.net_connections("tcp"):
        if connection.pid in pids and connection.laddr and connection.laddr.port == port:
            return connection.pid
    return None


def strike(port: int, pids: Collection[int]) -> None:
    """SIGKILL the process behind a connection, as the kernel does when memory is short."""
    pid = pid_of(port, pids)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
