"""What becomes of ticks that overlap, fail, are missed, or whose job has changed; and what people ask for."""

import asyncio
import json
from collections import Counter
from datetime import timedelta
from itertools import pairwise

from support.cron_scene import CronScene, Row, TickId, ticks_of
from support.scene import RedisScene
from support.wait import eventually, stays
from support.world import running_world
from world.client import drop, fail

HOUR = "3600"
HOURLY = "every 1:00:00"


async def until_state(cron: CronScene, state: str, count: int = 1, deadline_s: float = 30) -> None:
    """Wait until so many runs are in a state."""

    async def reached() -> bool:
        return (await cron.states())[state] >= count

    await eventually(reached, deadline_s, f"{count} runs are {state}")


async def until_failed(cron: CronScene, due: int) -> Row:
    """Wait until the run of this tick has failed for good; its row."""
    await eventually(lambda: cron.has_failed(due), 30, f"the run of {due} has failed")
    return await cron.run_of(due)


# -- overlap ---------------------------------------------------------------------------------------------


async def test_overlap_skip(cron: CronScene) -> None:
    # Given a job of every second whose run takes three and a half, and two schedulers
    await cron.orders(1)
    cron.settings["FAULTY_OVERLAP"] = "skip"
    cron.do("sleep 3.5")
    cron.scheduler(), cron.scheduler()
    await until_state(cron, "succeeded", 3, 60)
    # Then ticks that were due in the middle of a run are skipped, and say so
    rows = await cron.runs()
    done = [row for row in rows if row["state"] == "succeeded"]
    for former, later in pairwise(done):
        assert former["finished_at"] <= later["started_at"]
        between = [row for row in rows if former["due_at"] < row["due_at"] < later["due_at"]]
        assert len(between) >= 2
        assert {row["error"] for row in between} == {"an earlier run was still going on"}
    assert len(cron.started()) <= len(done) + 1


async def test_ticks_that_are_found_late_are_no_overlap(cron: CronScene) -> None:
    # Given a job that skips overlaps, and six ticks that are found at once
    since = await cron.begin(ago=timedelta(seconds=6))
    cron.settings["FAULTY_OVERLAP"] = "skip"
    cron.do("sleep 0.1")
    cron.scheduler()
    ticks = ticks_of(since, 6)
    await cron.until_done(ticks)
    (await cron.tick_ledger("ticks found late, overlap skip", ticks)).assert_clean()


async def test_overlap_wait(cron: CronScene) -> None:
    # Given the same, and that ticks wait
    since = await cron.begin()
    cron.do("sleep 1.3")
    cron.scheduler(), cron.scheduler()
    ticks = ticks_of(since, 6)
    await cron.until_done(ticks)
    # Then each is run, one after the other
    rows = (await cron.runs())[:6]
    assert {row["state"] for row in rows} == {"succeeded"}
    for former, later in pairwise(rows):
        assert former["finished_at"] <= later["started_at"]
    (await cron.tick_ledger("long runs, overlap wait", ticks)).assert_clean()


# -- failures --------------------------------------------------------------------------------------------


async def test_a_provider_that_fails_at_first(cron: CronScene) -> None:
    # Given a provider that is overloaded for a while
    async with running_world() as world:
        cron.settings |= {"FAULTY_EVERY": HOUR, **world.environment()}
        await cron.begin(schedule=HOURLY)
        cron.do("email")
        await world.script("mail", fail(503, 2), drop())
        cron.scheduler()
        await cron.command("run-now", "faulty")
        # Then the run is retried with the same key, and one mail is sent
        await until_state(cron, "succeeded")
        assert len({call.key for call in await world.calls("mail")}) == 1
        assert len(await world.effects("mail")) == 1
        assert [start.attempt for start in cron.started()] == [1, 2, 3, 4]


async def test_what_fails_for_good_says_why(cron: CronScene) -> None:
    await cron.begin()
    for do, reason in (("fail", "it cannot be done"), ("bug", "KeyError: 'a bug'")):
        cron.do(do)
        worker = cron.scheduler()
        await until_state(cron, "failed")
        await asyncio.to_thread(worker.sigterm)
        rows = [row for row in await cron.runs() if row["state"] == "failed"]
        # Then it is not tried again
        assert {row["error"] for row in rows} == {reason}
        assert {row["attempt"] for row in rows} == {1}
        await cron.sql("DELETE FROM cron_run")
    assert await cron.ticks_done() == []


async def test_attempts_are_bounded(cron: CronScene) -> None:
    since = await cron.begin()
    cron.settings["WORKER_MAX_DELIVERIES"] = "3"
    cron.do("flap 99")
    cron.scheduler()
    # Between its attempts later ticks have theirs, so another may fail first
    row = await until_failed(cron, since + 1)
    assert (row["attempt"], row["error"]) == (3, "gave up after 3 attempts: TransientError: not yet")


async def test_what_is_postponed_uses_up_no_attempt(cron: CronScene) -> None:
    since = await cron.begin()
    cron.settings["WORKER_MAX_DELIVERIES"] = "2"
    cron.do("postpone 4")
    cron.scheduler()
    await cron.until_done(ticks_of(since, 1))
    row = await cron.run_of(since + 1)
    assert (row["state"], row["attempt"], row["excused"]) == ("succeeded", 5, 4)


async def test_a_run_is_stopped_at_its_deadline(cron: CronScene) -> None:
    # Given runs that never end: one in Python, one in the database
    since = await cron.begin()
    cron.settings["FAULTY_DEADLINE"] = "1.5"
    for do in ("wait", "query 60"):
        cron.do(do)
        worker = cron.scheduler()
        await until_state(cron, "failed")
        await asyncio.to_thread(worker.sigterm)
        row = next(row for row in await cron.runs() if row["state"] == "failed")
        assert row["error"] == "not finished by its deadline of 0:00:01.500000"
        assert row["finished_at"] - row["started_at"] < timedelta(seconds=5)
        await cron.sql("DELETE FROM cron_run")
    assert await cron.ticks_done() == []
    assert since


async def test_retries_end_at_the_deadline(cron: CronScene) -> None:
    await cron.begin()
    cron.settings |= {"FAULTY_DEADLINE": "3", "WORKER_RETRY_BASE_SECONDS": "1", "WORKER_MAX_DELIVERIES": "99"}
    cron.do("flap 99")
    cron.scheduler()
    await until_state(cron, "failed")
    row = next(row for row in await cron.runs() if row["state"] == "failed")
    assert row["error"].startswith("no time for another attempt before its deadline: TransientError")
    assert row["finished_at"] - row["created_at"] < timedelta(seconds=8)


# -- outages ---------------------------------------------------------------------------------------------


async def test_down_for_ten_minutes(cron: CronScene) -> None:
    # Given nobody to plan a job of every minute for ten minutes
    cron.settings |= {"FAULTY_EVERY": "60", "FAULTY_CATCH_UP": "all"}
    since = await cron.begin(ago=timedelta(minutes=10), schedule="every 0:01:00")
    first = since // 60 * 60
    ticks = {TickId("faulty", first + 60 * minute) for minute in range(1, 11)}
    cron.scheduler(), cron.scheduler()
    await cron.until_done(ticks)
    triggers = Counter(row["trigger"] for row in await cron.runs())
    assert triggers["catch-up"] >= 9
    (await cron.tick_ledger("down for 10 minutes", ticks)).assert_clean()


async def test_down_for_three_days(cron: CronScene) -> None:
    # Given nobody to plan a job of every hour for three days, and a window of a day and some
    cron.settings |= {"FAULTY_EVERY": HOUR, "FAULTY_WITHIN": str(24.5 * 3600)}
    since = await cron.begin(ago=timedelta(days=3), schedule=HOURLY)
    last = int((await cron.now()).timestamp()) // 3600 * 3600
    cron.scheduler(), cron.scheduler()
    # Then those within the window are made up
    await cron.until_done({TickId("faulty", last - 3600 * hours) for hours in range(24)})
    await until_settled(cron)
    ticks = {TickId("faulty", last - 3600 * hours) for hours in range((await cron.states())["succeeded"])}
    assert len(ticks) in (24, 25)
    # And what is older does not go in silence
    first, *_ = await cron.runs()
    assert first["due_at"].timestamp() == since // 3600 * 3600 + 3600
    assert first["state"] == "skipped"
    assert first["error"].startswith("missed: no scheduler was there in time; 4")
    (await cron.tick_ledger("down for 3 days, window of a day", ticks)).assert_clean()


async def until_settled(cron: CronScene) -> None:
    """Wait until no run waits or goes on."""

    async def settled() -> bool:
        states = await cron.states()
        return not states["waiting"] + states["running"]

    await eventually(settled, 30)


async def test_only_the_newest_of_many_is_made_up(cron: CronScene) -> None:
    cron.settings |= {"FAULTY_EVERY": HOUR, "FAULTY_CATCH_UP": "last"}
    await cron.begin(ago=timedelta(days=3), schedule=HOURLY)
    last = int((await cron.now()).timestamp()) // 3600 * 3600
    await cron.scheduler().until_ready()
    await cron.scheduler().until_ready()
    await cron.until_done({TickId("faulty", last)})
    assert await cron.states() == {"succeeded": 1, "skipped": 1}


async def test_a_new_job_has_no_past(cron: CronScene) -> None:
    # Given a job that no scheduler has seen yet
    cron.settings["FAULTY_EVERY"] = HOUR
    worker = await cron.scheduler().until_ready()
    await stays(lambda: worker.running, 2)
    assert await cron.runs() == []


async def test_a_clock_that_was_ahead_for_days(cron: CronScene) -> None:
    # Given a job, and another schedule of it, that were planned with the database's clock three days ahead
    ahead = timedelta(days=3)
    await cron.begin(ago=-ahead)
    await cron.begin(ago=-ahead, schedule=HOURLY)
    cron.scheduler()
    # Then the job goes on from now
    await until_state(cron, "succeeded", 3)
    assert (await cron.runs())[0]["due_at"] < await cron.now()


async def test_jitter_puts_off_the_start_and_not_the_due_time(cron: CronScene) -> None:
    since = await cron.begin()
    cron.settings["FAULTY_JITTER"] = "2"
    cron.scheduler(), cron.scheduler()
    ticks = ticks_of(since, 8)
    await cron.until_done(ticks)
    rows = [row for row in await cron.runs() if row["state"] == "succeeded"]
    delays = [(row["next_try_at"] - row["due_at"]).total_seconds() for row in rows]
    assert all(0 <= delay <= 2 for delay in delays)
    assert max(delays) > 0.2
    assert all(row["started_at"] >= row["next_try_at"] for row in rows)


# -- changes ---------------------------------------------------------------------------------------------


async def test_two_versions_with_different_schedules(cron: CronScene) -> None:
    # Given an old version that runs the job every 2 s, and a new one every 3 s, side by side
    two, three = "every 0:00:02", "every 0:00:03"
    since = await cron.begin(schedule=two)
    await cron.begin(schedule=three)
    cron.scheduler(FAULTY_EVERY="2"), cron.scheduler(FAULTY_EVERY="3")
    ticks = {TickId("faulty", due) for due in range(since + 1, since + 16) if due % 2 == 0 or due % 3 == 0}
    # Then the ticks of both are run, those that both have once
    await cron.until_done(ticks)
    (await cron.tick_ledger("two versions side by side, every 2 s and every 3 s", ticks)).assert_clean()


async def test_a_version_that_is_rolled_back_to_has_no_past(cron: CronScene) -> None:
    # Given a schedule that was planned three days ago, and another one that has been until now
    cron.settings |= {"FAULTY_EVERY": HOUR}
    await cron.begin(ago=timedelta(days=3), schedule=HOURLY)
    await cron.begin(schedule="every 0:00:02")
    # When the old version comes back
    worker = await cron.scheduler().until_ready()
    await stays(lambda: worker.running, 2)
    # Then it makes up nothing: the job was run meanwhile
    states = await cron.states()
    assert states["succeeded"] <= 1
    assert states["waiting"] == 0


async def test_a_job_that_was_renamed_while_it_ran(cron: CronScene) -> None:
    # Given runs of a job that nobody knows any more: one that waits, one whose scheduler was killed
    since = await cron.begin()
    cron.do("wait")
    old = cron.scheduler(FAULTY_JOB="old_name", FAULTY_DEADLINE="4", FAULTY_WITHIN="4")
    await eventually(lambda: len(cron.started()) == 1, 30)
    await until_open(cron, "old_name", 2)
    old.kill9()
    cron.do("well")
    # When the job has a new name
    cron.scheduler()
    # Then it runs from now on, and the runs of the old name are given up in the history
    await cron.until_done(ticks_of(since, 5), 30)

    async def given_up() -> bool:
        return set(await cron.states("old_name")) <= {"skipped", "failed"}

    await eventually(given_up, 60)
    errors = {row["state"]: row["error"] for row in await cron.runs("old_name")}
    assert errors["failed"].startswith("not finished by its deadline")
    assert errors["skipped"].startswith("not started in time: no scheduler knew the job")
    # And the command says so
    code, _, remarks = await cron.command("list")
    assert code == 0
    assert "no longer in app.jobs: old_name" in remarks


async def until_open(cron: CronScene, job: str, count: int) -> None:
    async def there() -> bool:
        return sum((await cron.states(job)).values()) >= count

    await eventually(there, 30)


async def test_old_runs_are_deleted_and_open_ones_stay(cron: CronScene) -> None:
    await cron.begin()
    cron.settings |= {"WORKER_CRON_KEEP_DAYS": "1", "FAULTY_EVERY": HOUR}
    insert = (
        "INSERT INTO cron_run (job, due_at, trigger, state, next_try_at, deadline_at, finished_at)"
        " SELECT 'other', now() - n * interval '1 h', 'schedule', $1::text, now(), now() + interval '1 h',"
        " CASE WHEN $1::text = 'succeeded' THEN now() - n * interval '1 h' END"
        " FROM generate_series($2::int, $3) n"
    )
    await cron.sql(insert, "succeeded", 1, 1500)
    await cron.sql(insert, "waiting", 2001, 2010)
    cron.scheduler()

    async def pruned() -> bool:
        return await cron.states("other") == {"succeeded": 23, "waiting": 10}

    await eventually(pruned, 40)


# -- enqueueing ------------------------------------------------------------------------------------------


async def test_a_tick_that_enqueues_sends_once(postgres_url: str, redis_url: str) -> None:
    # Given a job that enqueues a message, whose scheduler is killed after that and before its commit
    with CronScene(postgres_url) as cron, RedisScene(postgres_url, redis_url) as scene:
        since = await cron.begin()
        cron.do("enqueue kill")
        cron.scheduler(), cron.scheduler()
        scene.worker("outbox_relay")
        await eventually(lambda: not all(worker.running for worker in cron.workers), 30)
        cron.do("enqueue")
        cron.scheduler(), cron.scheduler()
        ticks = ticks_of(since, 10)
        await cron.until_done(ticks)
        # Then each tick is one message
        await eventually(lambda: len(sent(scene)) >= 10, 30)
        messages = [due for due in sent(scene) if due <= since + 10]
        assert sorted(messages) == [tick.due for tick in sorted(ticks)]
        (await cron.tick_ledger("a beat of two schedulers, killed before the commit", ticks)).assert_clean()


def sent(scene: RedisScene) -> list[int]:
    """The due times in the stream."""
    entries = scene.redis.xrange(scene.topic)
    return [json.loads(fields[b"event"])["data"]["order_id"] for _, fields in entries]
