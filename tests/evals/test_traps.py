"""The faults of the grader, on a worker of three lines and a real database."""

import sys
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from evals.scenarios import ordered
from evals.stage import Stage
from evals.traps import DROPS, Traps
from support.wait import eventually
from support.workers import WorkerProcess

pytestmark = pytest.mark.services

# It does what is wanted and not done yet, least tried first, and goes on when that fails.
WORKER = """
import asyncio, asyncpg, os, sys

async def work(connection):
    while True:
        for row in await connection.fetch(
            "UPDATE wanted SET tries = tries + 1 WHERE number = (SELECT number FROM wanted"
            " WHERE worker = $1 AND number NOT IN (SELECT number FROM effect)"
            " ORDER BY tries, number LIMIT 1) RETURNING number", sys.argv[1]):
            await connection.execute("INSERT INTO effect VALUES ($1)", row["number"])
        await asyncio.sleep(0.05)

async def main():
    while True:
        try:
            await work(await asyncpg.connect(os.environ["PLAIN_URL"]))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await asyncio.sleep(0.05)

asyncio.run(main())
"""
TABLES = """
CREATE TABLE wanted (number int, worker text, tries int NOT NULL DEFAULT 0);
CREATE TABLE effect (number int);
"""


@dataclass
class Platform:
    """Restarts what ends."""

    processes: list[WorkerProcess]

    def keep_up(self) -> None:
        for process in self.processes:
            if not process.running:
                process.start()


@pytest.fixture
def platform(postgres_url: str) -> Iterator[Platform]:
    env = {"PLAIN_URL": postgres_url.replace("postgresql+asyncpg", "postgresql")}
    workers = [
        WorkerProcess(name, env, command=[sys.executable, "-c", WORKER, name]) for name in ("one", "two")
    ]
    yield Platform(workers)
    for worker in workers:
        worker.close()


async def test_traps_strike_what_they_are_set_for(postgres_url: str, platform: Platform) -> None:
    # Given two workers: the first meets all that goes wrong but what hangs, which is the second's
    plain = postgres_url.replace("postgresql+asyncpg", "postgresql")
    some: Any = platform
    nothing: Any = None
    stage = Stage(some, nothing, plain, "", "", nothing)
    traps = Traps(stage, "effect", "NEW.number")
    await stage.sql_script(TABLES)
    await traps.build()
    await traps.set("kill", [1])
    await traps.set("drop", [2])
    await traps.set("refuse", [3])
    await traps.set("hang", [5])

    async def done() -> set[int]:
        return {row[0] for row in await stage.sql("SELECT number FROM effect")}

    async def reached(*numbers: int) -> bool:
        return set(numbers) <= await done()

    async with traps.live():
        await stage.sql("INSERT INTO wanted SELECT n, 'one' FROM generate_series(1, 4) AS n")
        await stage.sql("INSERT INTO wanted VALUES (5, 'two')")
        platform.keep_up()
        first, second = platform.processes
        pids = {first.pid}
        assert await traps.worker_of("hang", 60) is second
        held = second.pid

        # Then the first dies of its message, and does what it can all the same
        await eventually(lambda: traps.sprung["kill"] >= 3, 60)
        await eventually(lambda: reached(2, 4), 60)
        pids.add(first.pid)
        assert traps.sprung["drop"] == DROPS
        assert not {1, 3, 5} & await done()
        # And the second is left alone
        assert (second.pid, second.running) == (held, True)
        assert len(pids) == 2

    # And when the traps are gone, all goes on
    platform.keep_up()
    await eventually(lambda: reached(1, 2, 3, 4, 5), 60)
    assert len(await stage.sql("SELECT number FROM effect")) == 5


# -- accounts of entries without an id ---------------------------------------------------------------------

SENT = [("1", "water"), ("2", "beer 1"), ("1", "beer 2"), ("1", "water")]


@pytest.mark.parametrize(
    ("lines", "lost", "twice", "wrong"),
    [
        (SENT, 0, 0, 0),
        ([SENT[1], SENT[0], *SENT[2:]], 0, 0, 0),  # another room's line between is no matter
        ([SENT[2], SENT[0], SENT[3], SENT[1]], 0, 0, 1),
        (SENT[:3], 1, 0, 0),
        ([*SENT, SENT[3]], 0, 1, 1),
        ([*SENT, SENT[1]], 0, 1, 1),
    ],
)
async def test_the_account_of_entries_without_ids(
    lines: list[ordered.Line], lost: int, twice: int, wrong: int
) -> None:
    most = Counter(SENT)
    promised: list[Hashable] = list(ordered.numbered(SENT, most))
    nothing: Any = None
    stage = Stage(nothing, nothing, "", "", "", nothing)

    ledger = stage.note("lines", promised, list(ordered.numbered(lines, most)))

    assert (ledger.lost, ledger.duplicated) == (lost, twice)
    assert ordered.disordered(SENT, lines) == wrong
