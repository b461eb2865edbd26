"""Messages, while the database is slow and workers and servers die: one effect for each."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from evals.outages import Meanwhile, brokers_restart, database_away, database_silent
from evals.scenarios.topics import Scene, Topic, scene_of
from evals.stage import Stage, clean
from evals.traps import DEATHS, Kind, Traps

EXPECTATIONS = (
    "nothing that was accepted is lost",
    "nothing is done twice",
    "messages that cannot be handled hold up nobody",
    "workers end with exit code 0 within 30 s of SIGTERM",
    "a message that takes 20 s is done once, though a deploy comes in the middle",
    "a database that is away for 25 s, then silent for 45 s, costs no message",
    "a broker that restarts costs no message",
    "a burst of 2,000 is done once, though one worker dies and one is frozen in it",
    "messages that hang or are refused by the database hold up nobody",
    "a message that kills its worker holds up nobody",
    "a message that kills its worker is given up, after less than 20 deaths",
)
WAVE = 20
REPEATED = 10
BURST = 2_000
BURST_DIES = BURST // 5
FROZEN_SECONDS = 45.0
TRAPS: dict[Kind, int] = {"hang": 3, "refuse": 2, "kill": 1}
TRAP_SECONDS = 300.0
# After the last death: given up. What a dead consumer holds is usually redelivered after 60 s at the latest.
QUIET_SECONDS = 90.0
SLOW = """
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$
"""
SLOW_ROW = "CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION be_slow()"
NO_LONGER_SLOW = "DROP TRIGGER slow ON {table}"


async def play(stage: Stage, topic: Topic) -> None:
    """Kills, deploys, outages and traps, one after the other, each with an account of its own."""
    scene = await scene_of(stage, topic)
    if not await die_and_deploy(scene):
        return  # it does nothing: the other faults would take minutes to say so again
    await deploy_in_the_middle(scene)
    await outages(scene)
    await burst(scene)
    await spring(scene)
    done = Counter(await scene.effects())
    twice = sorted(str(number) for number, times in done.items() if times > 1)
    stage.find(EXPECTATIONS[1], f"twice, of {len(done):,}: {', '.join(twice) or 'none'}", passed=not twice)


async def die_and_deploy(scene: Scene) -> bool:
    """Three waves: workers are killed in the first, deployed in the second; the third has bad messages.

    Whether anything was done at all.
    """
    stage, topic = scene.stage, scene.topic
    for statement in (SLOW, SLOW_ROW.format(table=topic.table)):
        await stage.sql(statement)
    waves = [scene.take(WAVE) for _ in range(3)]
    sent = [number for wave in waves for number in wave]
    await scene.send(waves[0])
    await scene.some(sent, WAVE // 4)
    await asyncio.to_thread(stage.deployment.kill, web=False)
    await asyncio.to_thread(stage.deployment.start)
    await scene.send([*waves[1], *waves[0][:REPEATED]])
    await scene.some(sent, WAVE + WAVE // 4)
    await asyncio.to_thread(stage.deployment.redeploy)
    stage.find_clean_exit()
    await scene.publish([b"{not json", b"", topic.message(10**6)])
    await scene.send(waves[2])
    ledger = await scene.account("kill and deploy", sent)
    stage.find(EXPECTATIONS[0], ledger.line(), passed=not ledger.lost)
    after_bad = set(waves[2]) & set(await scene.effects())
    evidence = f"{len(after_bad)} of {WAVE} behind three bad ones"
    stage.find(EXPECTATIONS[2], evidence, passed=len(after_bad) == WAVE)
    await stage.sql(NO_LONGER_SLOW.format(table=topic.table))
    return bool(ledger.executed)


async def deploy_in_the_middle(scene: Scene) -> None:
    """SIGTERM comes when a message has most of its 20 s to go."""
    numbers = scene.take(1)
    await scene.traps.set("slow", numbers)
    await scene.send(numbers)
    await scene.traps.worker_of("slow", 30)
    codes = await asyncio.to_thread(scene.stage.deployment.redeploy)
    ledger = await scene.account("deploy in the middle", numbers)
    ended = -signal.SIGKILL not in codes
    scene.stage.find(EXPECTATIONS[4], f"{ledger.line()}, exit codes {codes}", passed=clean(ledger) and ended)
    await scene.traps.remove()


async def outages(scene: Scene) -> None:
    """PostgreSQL away, PostgreSQL silent, the broker restarted, with messages in hand and in the queue."""
    waves = [scene.take(WAVE) for _ in range(6)]

    async def work(first: list[int], then: list[int], outage: Callable[[Meanwhile], Awaitable[None]]) -> None:
        await scene.send(first)
        await outage(lambda: scene.send(then))

    await work(waves[0], waves[1], partial(database_away, scene.stage))
    await scene.some(waves[0], WAVE)
    await work(waves[2], waves[3], partial(database_silent, scene.stage))
    sent = [number for wave in waves[:4] for number in wave]
    scene.stage.find_done_once(EXPECTATIONS[5], await scene.account("database away and silent", sent))
    await scene.send(waves[4])
    await brokers_restart(scene.stage)
    await scene.send(waves[5])
    ledger = await scene.account("broker restarted", [*waves[4], *waves[5]])
    scene.stage.find_done_once(EXPECTATIONS[6], ledger)


async def burst(scene: Scene) -> None:
    """One worker freezes in the middle of a message; the others get a burst, and die of it."""
    stage, held, many = scene.stage, scene.take(1), scene.take(BURST)
    await scene.traps.set("brief", held)
    await scene.send(held)
    frozen = await scene.traps.worker_of("brief", 30)
    if frozen is not None:
        await asyncio.to_thread(frozen.pause)
    end = time.monotonic() + FROZEN_SECONDS * stage.pace
    await scene.send(many)
    await scene.some(many, BURST_DIES, FROZEN_SECONDS)
    for worker in stage.deployment.workers:
        if worker is not frozen and worker.running:
            await asyncio.to_thread(worker.kill9)
    await stage.keep_up_for(end - time.monotonic())
    if frozen is not None:
        await asyncio.to_thread(frozen.resume)
    ledger = await scene.account("burst", [*held, *many])
    evidence = ledger.line() if frozen else f"{ledger.line()}, and no worker was seen at work"
    stage.find(EXPECTATIONS[7], evidence, passed=clean(ledger) and frozen is not None)
    await scene.traps.remove()


async def spring(scene: Scene) -> None:
    """Traps, then good messages behind them; they have to get through while the traps are live."""
    stage, traps = scene.stage, scene.traps
    bad = {kind: scene.take(count) for kind, count in TRAPS.items()}
    for kind, numbers in bad.items():
        await traps.set(kind, numbers)
    quiet = [kind for kind in bad if kind != "kill"]
    behind, later = scene.take(WAVE), scene.take(WAVE)
    async with traps.live():
        await scene.send([number for kind in quiet for number in bad[kind]])
        await scene.send(behind)
        ledger = await scene.account("behind those that hang or are refused", behind)
    stage.find_done_once(EXPECTATIONS[8], ledger)
    await traps.set("kill", bad["kill"])
    began = time.monotonic()
    async with traps.live():
        await scene.send(bad["kill"])
        await scene.send(later)
        ledger = await scene.account("behind one that kills", later)
        while (
            not given_up(traps) and traps.sprung["kill"] < DEATHS and time.monotonic() - began < TRAP_SECONDS
        ):
            await stage.keep_up_for(1)
        given = given_up(traps)
    stage.find_done_once(EXPECTATIONS[9], ledger)
    stage.find(
        EXPECTATIONS[10],
        f"{traps.sprung['kill']} deaths, then {QUIET_SECONDS:g} s without one: {given}",
        passed=given,
    )


def given_up(traps: Traps) -> bool:
    """Whether the message that kills has not been tried again for a while, and not for too many deaths."""
    deaths = traps.sprung["kill"]
    return 0 < deaths < DEATHS and time.monotonic() - traps.last_death > QUIET_SECONDS
