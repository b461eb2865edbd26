"""Something that is due every ten seconds, on two machines of which one dies and the other freezes."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

from evals.stage import Stage
from support.wait import eventually

EXPECTATIONS = (
    "it runs",
    "no due time is left out, though one of two machines dies",
    "no due time is run twice on two machines",
    "workers end with exit code 0 within 30 s of SIGTERM",
    "a machine that is frozen for 25 s, and goes on, changes nothing",
)
EVERY = 10.0
TICKS = 5  # after the death
FROZEN_SECONDS = 25.0
NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"
ROWS = "SELECT extract(epoch FROM at)::float8 FROM occupancy ORDER BY at"


async def play(stage: Stage) -> None:
    """Count rows over some ticks, with a kill in the middle of them."""

    async def some() -> bool:
        stage.deployment.keep_up()
        return bool(await rows(stage))

    try:
        await eventually(some, 3 * EVERY + stage.patience)
    except AssertionError:
        stage.find(EXPECTATIONS[0], "no row was written", passed=False)
        for text in EXPECTATIONS[1:]:
            stage.find(text, "it does not run", passed=False)
        return
    stage.find(EXPECTATIONS[0], "a first row was written", passed=True)
    first = (await rows(stage))[0]
    dies = quiet(first, first + EVERY)
    await keep_up_until(stage, dies)
    half = stage.deployment.workers[::2]
    for worker in half:
        if worker.running:
            await asyncio.to_thread(worker.kill9)
    end = dies + TICKS * EVERY
    await keep_up_until(stage, end)
    judge(stage, await rows(stage, first, end), end)
    await freeze(stage)
    await asyncio.to_thread(stage.deployment.redeploy)
    stage.find_clean_exit()


async def freeze(stage: Stage) -> None:
    """The machine that has not died stops for a while, and goes on as if nothing had happened."""
    half = [worker for worker in stage.deployment.workers[1::2] if worker.running]
    first = (await rows(stage))[-1]
    for worker in half:
        await asyncio.to_thread(worker.pause)
    await stage.keep_up_for(FROZEN_SECONDS * stage.pace)
    for worker in half:
        await asyncio.to_thread(worker.resume)
    end = quiet(first, await now(stage) + EVERY)
    await keep_up_until(stage, end)
    times = await rows(stage, first, end)
    line = noted(stage, "with a freeze", times, end)
    right = not left_out(times, end) and not doubled(times, end)
    stage.find(EXPECTATIONS[4], line, passed=bool(half) and right)


async def now(stage: Stage) -> float:
    """The database's clock, in seconds."""
    return float((await stage.sql(NOW))[0][0])


async def rows(stage: Stage, first: float = 0.0, end: float = math.inf) -> list[float]:
    """When rows were written, by the database's clock, from `first` to before `end`; in order."""
    return [row[0] for row in await stage.sql(ROWS) if first <= row[0] < end]


def quiet(first: float, at: float) -> float:
    """The next time from `at` on that is half a period off what is due since `first`.

    So nothing is due near the ends of what is counted, and a row may be late by half a period.
    """
    return first + (math.ceil((at - first) / EVERY - 0.5) + 0.5) * EVERY


async def keep_up_until(stage: Stage, end: float) -> None:
    """Let time pass, by the database's clock."""
    await stage.keep_up_for(end - await now(stage))


def judge(stage: Stage, times: list[float], end: float) -> None:
    """Compare the rows with what was due from the first of them to the end."""
    line = noted(stage, f"every {EVERY:g} s", times, end)
    stage.find(EXPECTATIONS[1], line, passed=not left_out(times, end))
    stage.find(EXPECTATIONS[2], line, passed=not doubled(times, end))


def noted(stage: Stage, name: str, times: list[float], end: float) -> str:
    """The line of an account, which is noted."""
    line = f"LEDGER {name}: {len(times)} rows in {end - times[0]:.0f} s, {due(times, end)} were due"
    stage.ledgers.append(line)
    return line


def due(times: list[float], end: float) -> int:
    """How many rows there should be from the first of them to the end."""
    return int((end - times[0]) // EVERY) + 1


def left_out(times: list[float], end: float) -> bool:
    """Whether rows are missing.

    Who goes on elsewhere may have another phase, so that a row falls just out of what is counted. It is not
    missing then: there is one in each ten seconds of the clock.
    """
    slots = by_clock(times)
    return len(times) < due(times, end) and any(
        slot not in slots for slot in range(slot_of(times[0]), slot_of(end))
    )


def doubled(times: list[float], end: float) -> bool:
    """Whether there are rows too many. With another phase, one more may fall into what is counted: it is no
    double when no ten seconds of the clock have two.
    """
    return len(times) > due(times, end) and max(by_clock(times).values()) > 1


def by_clock(times: list[float]) -> Counter[int]:
    """Rows in each ten seconds of the clock."""
    return Counter(slot_of(at) for at in times)


def slot_of(at: float) -> int:
    """The ten seconds of the clock that a time is in."""
    return int(at // EVERY)
