"""Schedulers are killed, paused, stopped and started; the database stays well. Each tick has one effect."""

import random
from collections import Counter

import pytest

from support.cron_scene import CronScene, TickId, ticks_of
from support.wait import eventually, stays


def many(count: int) -> list[str]:
    return [f"many_{number:03}" for number in range(count)]


async def test_any_number_of_schedulers_run_each_tick_once(cron: CronScene) -> None:
    # Given four schedulers of ten jobs that are due every second
    since = await cron.begin(*many(10))
    cron.settings["FAULTY_JOBS"] = "10"
    for _ in range(4):
        cron.scheduler("many_jobs")
    # Then every tick is started once
    ticks = ticks_of(since, 20, *many(10))
    await cron.until_done(ticks)
    starts = Counter(start.tick for start in cron.started() if start.tick in ticks)
    assert set(starts.values()) == {1}
    assert len({start.pid for start in cron.started()}) > 1
    (await cron.tick_ledger("4 schedulers, 10 jobs a second", ticks)).assert_clean()


async def test_what_a_killed_scheduler_ran_is_finished_by_another(cron: CronScene) -> None:
    # Given two schedulers, one of them in the middle of a run
    since = await cron.begin()
    cron.do("wait")
    replicas = {worker.pid: worker for worker in (cron.scheduler(), cron.scheduler())}
    await eventually(lambda: len(cron.started()) == 1, 30)
    (first,) = cron.started()
    # When it is killed
    replicas[first.pid].kill9()
    cron.do("well")
    # Then the other finishes that tick, after the lease of 3 s
    await cron.until_done({first.tick}, 8)
    assert [start.attempt for start in cron.started() if start.tick == first.tick] == [1, 2]
    ticks = ticks_of(since, 10)
    await cron.until_done(ticks)
    (await cron.tick_ledger("kill -9 of the running scheduler", ticks)).assert_clean()


async def test_both_are_killed(cron: CronScene) -> None:
    since = await cron.begin()
    cron.do("wait")
    replicas = [cron.scheduler(), cron.scheduler()]
    await eventually(lambda: len(cron.started()) == 1, 30)
    # Given that nobody is left, for longer than ten ticks
    for replica in replicas:
        replica.kill9()
    cron.do("well")
    late = ticks_of(since, 12)
    await eventually(lambda: passed(cron, max(tick.due for tick in late)), 30)
    # When they are started again
    cron.scheduler(), cron.scheduler()
    # Then all is made up
    await cron.until_done(late)
    (await cron.tick_ledger("kill -9 of both schedulers", late)).assert_clean()


async def passed(cron: CronScene, due: int) -> bool:
    return (await cron.now()).timestamp() > due


async def test_each_in_turn_is_killed_over_two_hundred_ticks(cron: CronScene) -> None:
    # Given two schedulers and ten jobs, each due every second, each run taking a moment
    since = await cron.begin(*many(10))
    cron.settings["FAULTY_JOBS"] = "10"
    cron.do("sleep 0.2")
    replicas = [cron.scheduler("many_jobs"), cron.scheduler("many_jobs")]
    chance = random.Random(200)
    # When one and the other is killed in turn, ten times
    for kill in range(10):
        goal = len(cron.started()) + chance.randrange(10, 25)
        await eventually(lambda: len(cron.started()) >= goal, 60, "progress")  # noqa: B023
        replicas[kill % 2].kill9()
        replicas[kill % 2] = cron.scheduler("many_jobs")
    # Then every tick has one effect
    ticks = ticks_of(since, 20, *many(10))
    await cron.until_done(ticks, 120)
    (await cron.tick_ledger("kill -9 x10 in turn over 200 ticks", ticks)).assert_clean()


@pytest.mark.parametrize("do", ["wait", "lock"])
async def test_a_paused_scheduler_changes_nothing_when_it_comes_back(cron: CronScene, do: str) -> None:
    # Given a scheduler in the middle of a run, its write done and not committed
    since = await cron.begin()
    cron.do(do)
    first = cron.scheduler()
    await eventually((cron.folder / "waiting").exists, 30)
    (start,) = cron.started()
    # When it is paused for longer than its lease, and another takes over
    first.pause()
    cron.do("well" if do == "wait" else "lock")
    cron.release()
    cron.scheduler()
    # Then the other has it done, although the first held locks (with "lock")
    await cron.until_done({start.tick}, 20)
    # And the late write of the first changes nothing
    first.resume()
    await first.until_ready()
    ticks = ticks_of(since, 12)
    await cron.until_done(ticks)
    assert first.sigterm() == 0, first.log_tail()
    (await cron.tick_ledger(f"paused beyond its lease, then resumed ({do})", ticks)).assert_clean()


async def test_a_late_finisher_is_fenced(cron: CronScene) -> None:
    # Given a scheduler that is paused in a run, whose session nobody can end
    since = await cron.begin()
    cron.do("anonymous")
    first = cron.scheduler()
    await eventually((cron.folder / "waiting").exists, 30)
    (start,) = cron.started()
    first.pause()
    # When another is at the next attempt, and the first comes back and wants to finish
    cron.do("sleep 4")
    second = cron.scheduler()
    await eventually(lambda: len(cron.started()) == 2, 30)
    cron.do("well")
    cron.release()
    first.resume()
    # Then the attempt that counts is the second one
    await cron.until_done({start.tick}, 20)
    row = await cron.run_of(start.tick.due)
    assert (row["state"], row["attempt"], row["runner"].split(":")[1]) == ("succeeded", 2, str(second.pid))
    ticks = ticks_of(since, 12)
    await cron.until_done(ticks)
    (await cron.tick_ledger("a late finisher whose session lives", ticks)).assert_clean()


async def test_starting_again_and_again_does_not_push_an_interval_back(cron: CronScene) -> None:
    # Given a job of every three seconds, and a scheduler that never lives that long
    cron.settings |= {"FAULTY_EVERY": "3", "FAULTY_CATCH_UP": "none"}
    since = await cron.begin(schedule="every 0:00:03")
    for _ in range(6):
        scheduler = await cron.scheduler().until_ready()
        await stays(lambda: scheduler.running, 1)  # noqa: B023
        scheduler.kill9()
    # Then it is run at its times all the same, and the job is known once
    cron.scheduler()
    first = since // 3 * 3 + 3
    ticks = {TickId("faulty", due) for due in range(first, first + 15, 3)}
    await cron.until_done(ticks)
    assert len(await cron.sql("SELECT 1 FROM cron_job WHERE job = 'faulty'")) == 1
    (await cron.tick_ledger("a scheduler that is killed every second", ticks)).assert_clean()


async def test_sigterm_lets_a_quick_run_finish(cron: CronScene) -> None:
    await cron.begin()
    cron.do("sleep 0.7")
    cron.settings["WORKER_DRAIN_SECONDS"] = "20"
    worker = cron.scheduler()
    await eventually(lambda: len(cron.started()) == 1, 30)
    code = worker.sigterm()
    assert code == 0, worker.log_tail()
    (start,) = cron.started()
    assert await cron.ticks_done() == [start.tick]
    assert (await cron.states())["running"] == 0


async def test_sigterm_hands_over_what_takes_too_long(cron: CronScene) -> None:
    # Given a scheduler in a run that will not end within its drain time of 2 s
    since = await cron.begin()
    cron.do("wait")
    cron.settings["WORKER_LEASE_SECONDS"] = "60"
    worker = cron.scheduler()
    await eventually(lambda: len(cron.started()) == 1, 30)
    # When it is asked to stop
    code = worker.sigterm()
    # Then it exits with 0, and the attempt does not count
    assert code == 0, worker.log_tail()
    (start,) = cron.started()
    row = await cron.run_of(start.tick.due)
    assert (row["state"], row["attempt"], row["excused"]) == ("waiting", 1, 1)
    # And another does the run at once, not after the lease
    cron.do("well")
    cron.scheduler()
    ticks = ticks_of(since, 5)
    await cron.until_done(ticks, 20)
    (await cron.tick_ledger("SIGTERM, handed over", ticks)).assert_clean()


async def test_a_job_that_kills_its_scheduler_ends_failed(cron: CronScene) -> None:
    # Given a job that kills whoever runs it, five attempts allowed, and supervisors
    since = await cron.begin()
    cron.do("kill")
    cron.settings |= {"FAULTY_EVERY": "1", "WORKER_LEASE_SECONDS": "1", "WORKER_HEARTBEAT_SECONDS": "0.4"}
    replicas = [cron.scheduler(), cron.scheduler()]

    async def failed() -> bool:
        for index, worker in enumerate(replicas):
            if not worker.running:
                replicas[index] = cron.scheduler()
        return await cron.has_failed(since + 1)

    await eventually(failed, 120, "the tick is given up")
    # Then it is given up, with the reason
    row = await cron.run_of(since + 1)
    assert row["error"] == "started 5 times and never finished: it may kill its runner"
    assert sum(start.tick.due == since + 1 for start in cron.started()) == 5


async def test_a_scheduler_that_is_frozen_while_it_plans_holds_nothing_for_good(cron: CronScene) -> None:
    # Given a session that holds the job's row in `cron_job`, as a frozen scheduler's does, and half a request
    since = await cron.begin()
    holder = await cron.connect()
    await holder.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s'")
    await holder.execute("SELECT * FROM cron_job FOR UPDATE")
    await holder.prepare("SELECT 1")
    # Then schedulers end it, and go on
    cron.scheduler()
    ticks = ticks_of(since, 5)
    await cron.until_done(ticks, 90)
    assert holder.is_closed()
    (await cron.tick_ledger("a scheduler frozen while it plans", ticks)).assert_clean()


async def test_a_long_run_is_not_taken_over(cron: CronScene) -> None:
    # Given a run that takes three times as long as the lease
    cron.settings["FAULTY_EVERY"] = "3600"
    await cron.begin(schedule="every 1:00:00")
    cron.do("sleep 9")
    cron.scheduler(), cron.scheduler()
    await cron.command("run-now", "faulty")
    # Then it is started once, and succeeds
    await eventually(lambda: done(cron), 30)
    assert len(cron.started()) == 1


async def done(cron: CronScene) -> bool:
    return (await cron.states())["succeeded"] == 1


async def test_a_run_that_blocks_the_loop_is_done_once(cron: CronScene) -> None:
    # Given a run that blocks its event loop beyond its lease
    since = await cron.begin()
    cron.do("block 8")
    replicas = {worker.pid: worker for worker in (cron.scheduler(), cron.scheduler())}
    await eventually(lambda: len(cron.started()) == 1, 30)
    cron.do("well")
    (first,) = cron.started()
    await eventually(lambda: "event loop blocked" in replicas[first.pid].problems(), 20)
    # Then another does it meanwhile, and the late one changes nothing
    ticks = ticks_of(since, 15)
    await cron.until_done(ticks, 60)
    assert [start.attempt for start in cron.started() if start.tick == first.tick] == [1, 2]
    await replicas[first.pid].until_ready(20)
    (await cron.tick_ledger("a run that blocks the loop beyond its lease", ticks)).assert_clean()
