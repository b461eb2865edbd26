"""Long work that is accepted with 202 and followed at its Location, while workers and servers die."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from http import HTTPStatus

from evals.outages import brokers_restart, database_away, database_silent
from evals.scenarios.asking import SUCCESS, Scene, Work, failed, followed, unknown
from evals.stage import Stage, clean
from evals.traps import DEATHS, DROPS, Kind, Traps
from world.client import hang

EXPECTATIONS = (
    "the request is answered with 202 and a Location",
    "nothing that was accepted is lost",
    "nothing is done twice",
    "the `status` at the Location becomes one of success",
    "a job that does not exist is 404",
    "a job whose last step takes 20 s is done once, though a deploy comes in the middle",
    "a database that is away for 25 s, then silent for 45 s, costs no job",
    "a Redis that comes back empty costs no job",
    "a worker that is frozen in a job for 70 s, and goes on, does nothing twice",
    "jobs that hang or are refused by the database hold up nobody",
    "a database that closes a job's connection five times costs no job",
    "a job that kills its worker holds up nobody",
    "a job that kills its worker fails, after 20 deaths or five minutes at the latest",
)
JOBS = 6
FROZEN_SECONDS = 70.0
TRAPS: dict[Kind, int] = {"hang": 2, "refuse": 1, "drop": 1, "kill": 1}
TRAP_SECONDS = 300.0
DROP_SECONDS = 200.0  # exponential pauses of 5 s and more between five attempts


async def play(stage: Stage, work: Work) -> None:
    """Kills, outages and traps, one after the other, each with an account of its own."""
    scene = Scene(stage, work, Traps(stage, work.table, work.key))
    await scene.traps.build()
    if not await die(scene):
        return  # it does nothing: the other faults would take minutes to say so again
    await deploy_in_the_middle(scene)
    await outages(scene)
    await spring(scene)
    done = Counter(await scene.effects())
    twice = sorted(str(number) for number, times in done.items() if times > 1)
    stage.find(EXPECTATIONS[2], f"twice, of {len(done):,}: {', '.join(twice) or 'none'}", passed=not twice)


async def die(scene: Scene) -> bool:
    """All is killed in the middle of some work; whether anything was done in the end."""
    stage = scene.stage
    await stage.world.script("llm", hang(2.0, times=JOBS))
    first = await scene.ask(scene.take(JOBS))
    await scene.begun(first)
    await asyncio.to_thread(stage.deployment.kill)
    await asyncio.to_thread(stage.deployment.start)
    accepted = [*first, *await scene.ask(scene.take(JOBS))]
    stage.find(EXPECTATIONS[0], f"{len(accepted)} of {2 * JOBS}", passed=len(accepted) == 2 * JOBS)
    ledger = await scene.account("killed", accepted)
    stage.find(EXPECTATIONS[1], ledger.line(), passed=bool(accepted) and not ledger.lost)
    async with stage.client() as client:
        states = await followed(stage, client, list(scene.places.values()))
        good = bool(states) and set(states) <= SUCCESS
        stage.find(EXPECTATIONS[3], ", ".join(sorted(set(states))) or "no job", passed=good)
        codes = {(await client.get(unknown(place))).status_code for place in [*scene.places.values()][:1]}
    evidence = ", ".join(f"HTTP {code}" for code in codes) or "no job"
    stage.find(EXPECTATIONS[4], evidence, passed=codes == {HTTPStatus.NOT_FOUND})
    return bool(ledger.executed)


async def deploy_in_the_middle(scene: Scene) -> None:
    """SIGTERM comes when a job has 20 s to go."""
    numbers = scene.take(1)
    await scene.traps.set("slow", numbers)
    await scene.ask(numbers)
    await scene.traps.worker_of("slow", 60)
    codes = await asyncio.to_thread(scene.stage.deployment.redeploy)
    ledger = await scene.account("deploy in the middle", numbers)
    ended = -signal.SIGKILL not in codes
    scene.stage.find(EXPECTATIONS[5], f"{ledger.line()}, exit codes {codes}", passed=clean(ledger) and ended)
    await scene.traps.remove()


async def outages(scene: Scene) -> None:
    """PostgreSQL away and silent, then Redis empty, with jobs in hand and waiting."""
    stage = scene.stage
    accepted: list[int] = []

    async def wave() -> None:
        accepted.extend(await scene.ask(scene.take(JOBS)))

    for outage in (database_away, database_silent):
        await wave()
        await outage(stage)
    await wave()
    ledger = await scene.account("database away and silent", accepted)
    stage.find_done_once(EXPECTATIONS[6], ledger)
    accepted = []
    await wave()
    await brokers_restart(stage, forget=True)
    await wave()
    stage.find_done_once(EXPECTATIONS[7], await scene.account("Redis empty", accepted))


async def spring(scene: Scene) -> None:
    """One worker freezes in a job; the others meet the traps, with good jobs behind them."""
    stage, traps = scene.stage, scene.traps
    held = scene.take(1)
    await traps.set("brief", held)
    await scene.ask(held)
    frozen = await traps.worker_of("brief", 60)
    if frozen is not None:
        await asyncio.to_thread(frozen.pause)
    thaw = time.monotonic() + FROZEN_SECONDS * stage.pace
    bad = {kind: scene.take(number) for kind, number in TRAPS.items()}
    for kind in ("hang", "refuse", "drop"):
        await traps.set(kind, bad[kind])
    behind, later = scene.take(JOBS), scene.take(JOBS)
    async with traps.live():
        await scene.ask([*bad["hang"], *bad["refuse"], *bad["drop"]])
        await scene.ask(behind)
        ledger = await scene.account("behind those that hang or are refused", behind)
        stage.find_done_once(EXPECTATIONS[9], ledger)
        await stage.keep_up_for(thaw - time.monotonic())
        if frozen is not None:
            await asyncio.to_thread(frozen.resume)
        ledger = await scene.account("frozen", held)
        evidence = ledger.line() if frozen else "no worker was seen at work"
        stage.find(EXPECTATIONS[8], evidence, passed=clean(ledger) and frozen is not None)
        state = await scene.ended(bad["drop"], DROP_SECONDS)
        ledger = await scene.note("connection closed", bad["drop"])
        evidence = f"{ledger.line()}, {state} after it was closed {traps.sprung['drop']} times"
        stage.find(EXPECTATIONS[10], evidence, passed=clean(ledger) and traps.sprung["drop"] == DROPS)
    await traps.set("kill", bad["kill"])
    began = time.monotonic()
    async with traps.live():
        await scene.ask(bad["kill"])
        await scene.ask(later)
        state = await scene.ended(bad["kill"], TRAP_SECONDS, lambda: traps.sprung["kill"] >= DEATHS)
        seconds = time.monotonic() - began
        stage.find_done_once(EXPECTATIONS[11], await scene.account("behind one that kills", later))
    evidence = f"{state} after {traps.sprung['kill']} deaths and {seconds:.0f} s"
    stage.find(EXPECTATIONS[12], evidence, passed=failed(state))
