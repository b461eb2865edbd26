"""Something that is due every ten seconds, on two machines of which one dies and the other freezes."""

from __future__ import annotations

import asyncio
from typing import Any

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
TICKS = 5
FROZEN_SECONDS = 25.0
ROUNDING = 1.5  # of the number of due times in a span
SPAN = "SELECT count(*), extract(epoch FROM max(at) - min(at))::float8 AS seconds FROM occupancy"
SINCE = "SELECT count(*) FROM occupancy WHERE extract(epoch FROM at) > {}"


async def play(stage: Stage) -> None:
    """Count rows over some ticks, with a kill in the middle of them."""

    async def rows(number: int) -> bool:
        stage.deployment.keep_up()
        return bool((await stage.sql(SPAN))[0][0] >= number)

    try:
        await eventually(lambda: rows(1), 3 * EVERY + stage.patience)
    except AssertionError:
        stage.find(EXPECTATIONS[0], "no row was written", passed=False)
        for text in EXPECTATIONS[1:]:
            stage.find(text, "it does not run", passed=False)
        return
    stage.find(EXPECTATIONS[0], "a first row was written", passed=True)
    await asyncio.sleep(EVERY)
    half = stage.deployment.workers[::2]
    for worker in half:
        if worker.running:
            await asyncio.to_thread(worker.kill9)
    began = await now(stage)
    await eventually(lambda: passed(stage, began, TICKS * EVERY), 2 * TICKS * EVERY)
    number, seconds = (await stage.sql(SPAN))[0]
    judge(stage, number, seconds)
    await freeze(stage)
    await asyncio.to_thread(stage.deployment.redeploy)
    stage.find_clean_exit()


async def freeze(stage: Stage) -> None:
    """The machine that has not died stops for a while, and goes on as if nothing had happened."""
    half = [worker for worker in stage.deployment.workers[1::2] if worker.running]
    began = await now(stage)
    for worker in half:
        await asyncio.to_thread(worker.pause)
    await stage.keep_up_for(FROZEN_SECONDS * stage.pace)
    for worker in half:
        await asyncio.to_thread(worker.resume)
    await stage.keep_up_for(EVERY)
    seconds = await now(stage) - began
    rows = (await stage.sql(SINCE.format(began)))[0][0]
    line = f"LEDGER with a freeze: {rows} rows in {seconds:.0f} s, {seconds / EVERY:.1f} were due"
    stage.ledgers.append(line)
    stage.find(EXPECTATIONS[4], line, passed=bool(half) and abs(rows - seconds / EVERY) < ROUNDING)


async def now(stage: Stage) -> Any:
    """The database's clock, in seconds."""
    return (await stage.sql("SELECT extract(epoch FROM clock_timestamp())::float8"))[0][0]


async def passed(stage: Stage, began: float, seconds: float) -> bool:
    """Whether so much time has passed; what ended is restarted meanwhile."""
    stage.deployment.keep_up()
    return bool(await now(stage) - began >= seconds)


def judge(stage: Stage, rows: int, seconds: float) -> None:
    """Compare the rows with the due times between the first and the last; one of them may be off."""
    due = seconds / EVERY + 1
    line = f"LEDGER every {EVERY:g} s: {rows} rows in {seconds:.0f} s, {due:.1f} were due"
    stage.ledgers.append(line)
    stage.find(EXPECTATIONS[1], line, passed=rows > due - ROUNDING and seconds > (TICKS - 1) * EVERY)
    stage.find(EXPECTATIONS[2], line, passed=rows < due + ROUNDING)
