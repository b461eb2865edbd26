"""What people do with cron jobs: by command, by HTTP, many at once, and inside an API's processes."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.api.cron import cron_router
from support.cron_scene import CronScene, ticks_of
from support.ports import free_port
from support.wait import eventually, stays
from support.workers import WorkerProcess

HOURLY = {"FAULTY_EVERY": "3600"}
ADMIN = {"X-Token": "admin"}
STOPPED = (0, -15)  # uvicorn raises the signal again when it has shut down


async def hourly(cron: CronScene) -> None:
    """The job is due every hour, so that only what people ask for is run."""
    cron.settings |= HOURLY
    await cron.begin(schedule="every 1:00:00")


async def until_done(cron: CronScene, count: int) -> None:
    async def done() -> bool:
        return (await cron.states())["succeeded"] == count

    await eventually(done, 30, f"{count} runs have succeeded")


# -- the command -----------------------------------------------------------------------------------------


async def test_list_and_history(cron: CronScene) -> None:
    await hourly(cron)
    cron.scheduler()
    code, run, _ = await cron.command("run-now", "faulty", "--format", "json")
    assert code == 0
    assert (run["new"], run["trigger"]) == (True, "manual")
    await until_done(cron, 1)

    code, jobs, _ = await cron.command("list", "--format", "json")
    assert code == 0
    by_name = {job["name"]: job for job in jobs}
    assert set(by_name) == {"expire_orders", "faulty", "report_request", "sales_report"}
    assert by_name["faulty"]["last"]["id"] == run["id"]
    assert by_name["faulty"]["last"]["state"] == "succeeded"
    report = by_name["sales_report"]
    due = datetime.fromisoformat(report["next_due_at"])
    assert (due.hour, due.minute, due.utcoffset() is not None) == (2, 30, True)
    assert report["schedule"] == "30 2 * * * Europe/Berlin"
    assert report["last"] is None

    code, runs, _ = await cron.command("history", "faulty", "--format", "json")
    assert [entry["id"] for entry in runs] == [run["id"]]
    code, text, _ = await cron.command("list")
    assert "faulty\tevery 1:00:00\tnext " in text
    assert "sales_report\t30 2 * * * Europe/Berlin\tnext " in text
    code, text, _ = await cron.command("history", "faulty")
    assert "\tsucceeded\tmanual\t1\t" in text


async def test_pause_and_resume(cron: CronScene) -> None:
    # Given a job of every second
    since = await cron.begin()
    await cron.scheduler().until_ready()
    await cron.until_done(ticks_of(since, 2))
    # When it is paused, from another process
    assert (await cron.command("pause", "faulty"))[0] == 0
    _, jobs, _ = await cron.command("list", "--format", "json")
    assert next(job for job in jobs if job["name"] == "faulty")["paused_at"] is not None
    before = len(cron.started())
    # Then nothing is started any more, unless somebody asks for it
    await stays(lambda: len(cron.started()) == before, 4)
    await cron.command("run-now", "faulty")
    await eventually(lambda: len(cron.started()) == before + 1, 10)
    # When it is resumed
    paused = {start.tick.due for start in cron.started()}
    assert (await cron.command("resume", "faulty"))[0] == 0
    await eventually(lambda: len(cron.started()) >= before + 3, 15)
    # Then it goes on, and what was due meanwhile is not made up
    dues = {start.tick.due for start in cron.started()}
    assert min(dues - paused) > max(paused)
    _, _, remark = await cron.command("resume", "faulty")
    assert "was not paused" in remark


async def test_ticks_of_a_pause_without_schedulers_are_not_made_up(cron: CronScene) -> None:
    # Given a job of every minute, paused for ten minutes, whose schedulers have ended a minute after that
    cron.settings |= {"FAULTY_EVERY": "60", "FAULTY_CATCH_UP": "all"}
    await cron.begin(ago=timedelta(minutes=9), schedule="every 0:01:00")
    await cron.sql("UPDATE cron_job SET paused_at = now() - interval '10 min'")
    # When it is resumed before a scheduler starts
    assert (await cron.command("resume", "faulty"))[0] == 0
    await cron.scheduler().until_ready()
    # Then it goes on from there
    await cron.command("run-now", "faulty")
    await eventually(lambda: len(cron.started()) >= 1, 20)
    assert "catch-up" not in {row["trigger"] for row in await cron.runs()}


async def test_many_ask_at_once(cron: CronScene) -> None:
    # Given a job whose run takes a while, and two schedulers
    await hourly(cron)
    cron.do("wait")
    cron.scheduler(), cron.scheduler()
    # When four ask at once, and again while it runs
    answers = [await asyncio.gather(*(cron.command("run-now", "faulty", "--format", "json") for _ in "1234"))]
    await eventually(lambda: len(cron.started()) == 1, 20)
    answers += [await asyncio.gather(*(cron.command("run-now", "faulty", "--format", "json") for _ in "12"))]
    # Then all get the same run, and it is run once
    runs = [data for some in answers for code, data, _ in some if code == 0]
    assert len(runs) == 6
    assert len({run["id"] for run in runs}) == 1
    assert Counter(run["new"] for run in runs) == {True: 1, False: 5}
    cron.release()
    await until_done(cron, 1)
    assert len(cron.started()) == 1


async def test_who_asks_waits_for_who_asked_before(cron: CronScene) -> None:
    # Given somebody who has asked a moment before, and whose transaction is not committed yet
    await hourly(cron)
    other = await cron.connect()
    await other.execute("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('cron_run faulty', 0))")
    number = await other.fetchval(
        "INSERT INTO cron_run (job, due_at, trigger, state, next_try_at, deadline_at)"
        " VALUES ('faulty', now() - interval '2 s', 'manual', 'waiting', now(), now() + interval '1 min')"
        " RETURNING id"
    )
    asking = asyncio.ensure_future(cron.command("run-now", "faulty", "--format", "json"))
    await stays(lambda: not asking.done(), 5)
    await other.execute("COMMIT")
    await other.close()
    # Then the answer is that run
    code, run, _ = await asking
    assert (code, run["id"], run["new"]) == (0, number, False)


async def test_run_now_during_the_scheduled_run(cron: CronScene) -> None:
    # Given a scheduled run that goes on
    await cron.begin()
    cron.do("wait")
    cron.scheduler()
    await eventually(lambda: len(cron.started()) == 1, 30)
    (start,) = cron.started()
    _, run, remark = await cron.command("run-now", "faulty", "--format", "json")
    # Then that is the run that is meant
    assert datetime.fromisoformat(run["due_at"]).timestamp() == start.tick.due
    assert (run["new"], run["state"], run["trigger"]) == (False, "running", "schedule")
    assert "there already" in remark
    cron.release()


async def test_a_tick_that_failed_is_run_again(cron: CronScene) -> None:
    # Given a run that has failed for good
    await hourly(cron)
    cron.do("fail")
    cron.scheduler()
    _, run, _ = await cron.command("run-now", "faulty", "--format", "json")

    async def failed() -> bool:
        return (await cron.states())["failed"] == 1

    await eventually(failed, 20)
    # When what was wrong is mended, and that tick is asked for
    cron.do("well")
    code, again, _ = await cron.command("run-now", "faulty", "--due", run["due_at"], "--format", "json")
    # Then it is run with the same due time, once
    assert (code, again["id"], again["new"]) == (0, run["id"], True)
    await until_done(cron, 1)
    assert {start.tick.due for start in cron.started()} == {
        int(datetime.fromisoformat(run["due_at"]).timestamp())
    }
    code, _, remark = await cron.command("run-now", "faulty", "--due", run["due_at"])
    assert (code, "has succeeded" in remark) == (4, True)
    # And one that was never planned may be asked for, in the job's zone, but none that lies ahead
    code, old, _ = await cron.command("run-now", "faulty", "--due", "2026-01-01T02:30", "--format", "json")
    assert (code, old["due_at"]) == (0, "2026-01-01T02:30:00+00:00")
    code, _, remark = await cron.command("run-now", "faulty", "--due", "2126-01-01T02:30")
    assert (code, "lies ahead" in remark) == (4, True)


async def test_commands_that_make_no_sense(cron: CronScene) -> None:
    for words, code, told in (
        (["run-now", "nobody"], 3, "no job named nobody; there are: expire_orders, faulty"),
        (["history", "nobody"], 3, "neither a job nor a run is named nobody"),
        (["run-now"], 2, "JOB"),
        (["history", "faulty", "--limit", "0"], 2, "1 to 10000"),
        (["run-now", "faulty", "--due", "tomorrow"], 2, "--due"),
    ):
        found, _, remarks = await cron.command(*words)
        assert (found, told in remarks) == (code, True), remarks
    found, _, remarks = await cron.command("list", FAULTY_CRON="61 * * * *")
    assert found == 78
    assert "app.jobs.faulty: cron expression '61 * * * *': minute '61': 0 to 59" in remarks
    found, _, remarks = await cron.command("list", DATABASE_URL="postgresql+asyncpg://127.0.0.1:1/none")
    assert (found, "Traceback" in remarks) == (1, False)


@pytest.mark.parametrize(
    ("env", "told"),
    [
        (
            {"FAULTY_CRON": "61 * * * *"},
            "app.jobs.faulty: cron expression '61 * * * *': minute '61': 0 to 59",
        ),
        ({"FAULTY_CRON": "0 3 * * *", "FAULTY_ZONE": "Mars"}, "app.jobs.faulty: time zone 'Mars': a name"),
        ({"FAULTY_OVERLAP": "allow"}, "cron job 'faulty': overlap='allow': 'skip' or 'wait' is needed"),
        ({"FAULTY_JOB": "sales_report"}, "several jobs are named 'sales_report'"),
        ({"WORKER_CRON_GRACE_SECONDS": "0"}, "WORKER_CRON_GRACE_SECONDS=0"),
    ],
)
async def test_a_scheduler_refuses_to_start(cron: CronScene, env: dict[str, str], told: str) -> None:
    worker = cron.scheduler(**env)
    assert worker.wait(30) == 78
    assert told in worker.log_text()
    assert "Traceback" not in worker.log_text()


# -- over HTTP -------------------------------------------------------------------------------------------


@asynccontextmanager
async def api(cron: CronScene, workers: int = 1) -> AsyncIterator[tuple[httpx2.AsyncClient, WorkerProcess]]:
    """The API with the scheduler in its lifespan."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "cron_api:app",
        "--port",
        str(port),
        "--workers",
        str(workers),
    ]
    process = cron.process(command)
    url = f"http://127.0.0.1:{port}"
    await process.until_ready(60, f"{url}/pid")
    async with httpx2.AsyncClient(base_url=url, headers=ADMIN, timeout=10) as client:
        yield client, process


async def test_routes(cron: CronScene) -> None:
    await hourly(cron)
    async with api(cron) as (client, process):
        answer = await client.post("/cron/jobs/faulty/runs")
        assert answer.status_code == 202
        run = answer.json()
        await until_done(cron, 1)
        jobs = {job["name"]: job for job in (await client.get("/cron/jobs")).json()}
        assert jobs["faulty"]["last"]["id"] == run["id"]
        runs = (await client.get("/cron/jobs/faulty/runs", params={"limit": 5})).json()
        assert [(entry["id"], entry["state"]) for entry in runs] == [(run["id"], "succeeded")]
        again = await client.post("/cron/jobs/faulty/runs", json={"due_at": run["due_at"]})
        assert again.status_code == 409
        assert (await client.post("/cron/jobs/faulty/pause")).status_code == 204
        (job,) = [job for job in (await client.get("/cron/jobs")).json() if job["name"] == "faulty"]
        assert job["paused_at"] is not None
        assert (await client.post("/cron/jobs/faulty/resume")).status_code == 204
        assert (await client.get("/cron/jobs/nobody/runs")).status_code == 404
        assert (await client.post("/cron/jobs/nobody/runs")).status_code == 404
        assert (await client.post("/cron/jobs/faulty/runs", json={"due_at": "02:30"})).status_code == 422
        # And without authority nothing
        for method, path in (
            ("GET", "/cron/jobs"),
            ("GET", "/cron/jobs/faulty/runs"),
            ("POST", "/cron/jobs/faulty/runs"),
            ("POST", "/cron/jobs/faulty/pause"),
            ("POST", "/cron/jobs/faulty/resume"),
            ("GET", "/cron/jobs/nobody/runs"),
        ):
            assert (await client.request(method, path, headers={"X-Token": "x"})).status_code == 403
        assert len(await cron.runs()) == 1
        # And no lock stays behind with a pooled connection
        assert await cron.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []
        assert process.sigterm() in STOPPED


def test_no_router_without_authorisation() -> None:
    nobody: Any = None
    with pytest.raises(TypeError, match="needs the project's authorisation"):
        cron_router(nobody)
    with pytest.raises(TypeError):
        cron_router()  # type: ignore[call-arg]


def test_every_route_asks_for_authorisation() -> None:
    asked: list[int] = []
    application = FastAPI()
    application.include_router(cron_router(lambda: asked.append(1), jobs=[]))
    client = TestClient(application)
    operations = [
        (path, method) for path, methods in application.openapi()["paths"].items() for method in methods
    ]
    assert len(operations) == 5
    for path, method in operations:
        before = len(asked)
        if path != "/cron/jobs":  # that one would ask the database
            client.request(method, path.format(name="x"))
            assert len(asked) == before + 1


# -- inside an API ---------------------------------------------------------------------------------------


async def test_an_api_with_four_workers_and_a_scheduler_make_one_run_of_each_tick(cron: CronScene) -> None:
    # Given an API that was started with four workers, by mistake, and a scheduler besides
    since = await cron.begin()
    async with api(cron, workers=4) as (client, process):
        cron.scheduler()
        ticks = ticks_of(since, 25)
        answers = await asyncio.gather(*(client.post("/cron/jobs/faulty/runs") for _ in range(20)))
        assert {answer.status_code for answer in answers} <= {200, 202}
        await cron.until_done(ticks)
        # Then each tick is started once
        starts = Counter(start.tick for start in cron.started())
        assert set(starts.values()) == {1}
        assert len({start.pid for start in cron.started()}) > 1
        assert process.sigterm() in STOPPED
    (await cron.tick_ledger("an API with 4 workers and a scheduler", ticks)).assert_clean()


async def test_an_api_that_is_stopped_lets_a_run_finish(cron: CronScene) -> None:
    await hourly(cron)
    cron.do("sleep 1.5")
    async with api(cron) as (client, process):
        await client.post("/cron/jobs/faulty/runs")
        await eventually(lambda: len(cron.started()) == 1, 20)
        assert process.sigterm() in STOPPED
    assert await cron.states() == {"succeeded": 1}


async def test_an_api_whose_scheduler_fails_ends(cron: CronScene) -> None:
    # Given a bug in the scheduler itself: a process that goes on without it would run no job any more
    await hourly(cron)
    async with api(cron) as (_, process):
        (cron.folder / "break_scheduler").touch()
        await eventually(lambda: not process.running, 30)
    assert "the scheduler ended without being asked" in process.log_text()
