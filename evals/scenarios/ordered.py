"""Entries without ids from a system that cannot be changed: each once, and those of a room in their order."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import redis.asyncio

from evals.outages import database_away
from evals.stage import Stage, clean
from support.wait import eventually

EXPECTATIONS = (
    "nothing that was accepted is lost",
    "nothing is done twice",
    "the lines of each room are in the order of the stream",
    "entries that cannot be handled hold up nobody",
    "workers end with exit code 0 within 30 s of SIGTERM",
    "a database that is away for 25 s costs no entry",
    "a worker that is frozen for 45 s, and goes on, does nothing twice and keeps the order",
)
STREAM = "bar.ordered"
ROOMS = 5
BURST = 300
FROZEN_SECONDS = 45.0
LINES = "SELECT room, item FROM bar_line ORDER BY id"
SLOW = """
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON bar_line FOR EACH ROW EXECUTE FUNCTION be_slow();
"""

Line = tuple[str, str]


@dataclass
class Scene:
    """What the tills have sent, in their order."""

    stage: Stage
    sent: list[Line] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    async def order(self, number: int, bad: Iterable[dict[Any, Any]] = ()) -> list[Line]:
        """A burst; every third line is water, and so equal to others of its room."""
        burst: list[Line] = []
        for nth in range(number):
            room = str(nth % ROOMS + 1)
            burst.append((room, "water" if nth % 3 == 0 else f"beer {next(self.numbers)}"))
        async with (
            redis.asyncio.Redis.from_url(self.stage.redis_url) as client,
            client.pipeline() as pipeline,
        ):
            for entry in bad:
                pipeline.xadd(STREAM, entry)
            for room, item in burst:
                pipeline.xadd(STREAM, {"room": room, "item": item, "cents": "450"})
            await pipeline.execute()
        self.sent += burst
        return burst

    async def lines(self) -> list[Line]:
        """The bills, line by line."""
        return [(row["room"], row["item"]) for row in await self.stage.sql(LINES)]

    async def effects(self) -> list[Hashable]:
        """The lines that are there, numbered among their equals: one too many is the last one again."""
        return list(numbered(await self.lines(), Counter(self.sent)))

    async def reached(self, number: int, seconds: float = 60.0) -> None:
        """Wait until so many lines are there; the account tells when they never are."""

        async def there() -> bool:
            self.stage.deployment.keep_up()
            return len(await self.lines()) >= number

        with suppress(AssertionError):
            await eventually(there, seconds)

    async def account(self, name: str, text: str) -> bool:
        """Note an account of all so far, and whether it is right, as a finding; whether anything was done."""
        promised = list(numbered(self.sent, Counter(self.sent)))
        ledger = await self.stage.account(f"{STREAM}, {name}", promised, self.effects)
        wrong = disordered(self.sent, await self.lines())
        self.stage.find(text, f"{ledger.line()}; out of order: {wrong}", passed=clean(ledger) and not wrong)
        return bool(ledger.executed)


def numbered(lines: Iterable[Line], most: Counter[Line]) -> Iterator[Hashable]:
    """Each line with the number that it has among its equals, at most as many as there should be."""
    seen: Counter[Line] = Counter()
    for line in lines:
        seen[line] += 1
        yield (*line, min(seen[line], max(1, most[line])))


def disordered(sent: list[Line], lines: list[Line]) -> int:
    """How many rooms have lines in another order than they were sent in; what is missing does not count."""
    wrong = 0
    wanted: defaultdict[str, list[str]] = defaultdict(list)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for where, of in ((wanted, sent), (found, lines)):
        for room, item in of:
            where[room].append(item)
    for room, items in found.items():
        rest = iter(wanted[room])
        wrong += not all(item in rest for item in items)  # a subsequence: `in` goes on where it stopped
    return wrong


async def play(stage: Stage) -> None:
    """Bursts, with a kill, a deploy, bad entries, an outage and a freeze in the middle of them."""
    scene = Scene(stage)
    await stage.sql_script(SLOW)
    await scene.order(BURST)
    await scene.reached(BURST // 3)
    await asyncio.to_thread(stage.deployment.kill, web=False)
    await asyncio.to_thread(stage.deployment.start)
    await scene.order(BURST)
    await scene.reached(BURST + BURST // 3)
    await asyncio.to_thread(stage.deployment.redeploy)
    stage.find_clean_exit()
    bad = [{"room": "1"}, {"text": "hello"}, {"room": "2", "item": "beer", "cents": "lots"}]
    await scene.order(BURST // 3, bad)
    if not await scene.account("kill, deploy and bad entries", EXPECTATIONS[3]):
        return  # it does nothing: the other faults would take minutes to say so again
    await scene.order(BURST)
    await database_away(stage)
    await scene.account("database away", EXPECTATIONS[5])
    await scene.order(BURST)
    await scene.reached(len(scene.sent) - BURST + BURST // 5)
    half = [worker for worker in stage.deployment.workers[::2] if worker.running]
    for worker in half:
        await asyncio.to_thread(worker.pause)
    await stage.keep_up_for(FROZEN_SECONDS * stage.pace)
    for worker in half:
        await asyncio.to_thread(worker.resume)
    await scene.account("frozen", EXPECTATIONS[6])
    await total(scene)


async def total(scene: Scene) -> None:
    """What holds over all of it."""
    stage = scene.stage
    ledger = stage.note(
        f"{STREAM}, all", list(numbered(scene.sent, Counter(scene.sent))), await scene.effects()
    )
    wrong = disordered(scene.sent, await scene.lines())
    stage.find(EXPECTATIONS[0], ledger.line(), passed=not ledger.lost)
    stage.find(EXPECTATIONS[1], ledger.line(), passed=not ledger.duplicated)
    stage.find(EXPECTATIONS[2], f"{wrong} of {ROOMS} rooms out of order", passed=not wrong)
