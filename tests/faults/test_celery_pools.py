"""Async services from every pool: one loop for each process, no connection in a wrong one, all closed.

Two thousand tasks are enough for every day; ten thousand:

    CELERY_TASKS=10000 python -m pytest tests/faults/test_celery_pools.py
"""

import os
import signal

import pytest

from support.celery_scene import CeleryScene
from support.wait import eventually

TASKS = int(os.environ.get("CELERY_TASKS", "2000"))


@pytest.mark.timeout(TASKS // 2)
@pytest.mark.parametrize(
    ("pool", "count", "options"),
    [
        ("prefork", TASKS // 2, ["--concurrency", "3", "--max-tasks-per-child", "200"]),
        ("threads", TASKS // 3, ["--concurrency", "8"]),
        ("solo", TASKS // 6, ["--concurrency", "1"]),
    ],
)
async def test_thousands_of_tasks_with_a_database(
    pool: str, count: int, options: list[str], postgres_url: str, redis_url: str
) -> None:
    # Given a worker of this pool, and children that are replaced now and then
    with CeleryScene(postgres_url, redis_url) as scene:
        worker = scene.celery(*options, pool=pool)
        orders = await scene.orders(count)
        bug, hang = await scene.orders(2)
        # When it gets thousands of tasks that write to the database, some of which end badly
        scene.put(scene.event(bug, do="bug") for _ in range(20))
        scene.put([scene.event(hang, do="query", seconds=30)])
        scene.send(orders)
        # Then all are done once
        await scene.until_processed(orders, TASKS / 10)
        (await scene.ledger(f"Celery, pool {pool}: {count:,} tasks with a database")).assert_clean()
        assert scene.loop_trouble() == []
        # And its connections are closed when it ends
        worker.send(signal.SIGTERM)
        worker.wait(60)
        assert scene.loop_trouble() == []

        async def nobody() -> bool:
            rows = await scene.sql(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return bool(rows[0][0] == 0)

        await eventually(nobody, 60, "all connections are closed")


async def test_a_worker_that_would_do_harm_does_not_start(postgres_url: str, redis_url: str) -> None:
    # Given settings that run a long task twice, a task that would never run, and a SIGTERM without bound
    with CeleryScene(postgres_url, redis_url) as scene:
        scene.limits["CELERY_TIME_LIMIT_SECONDS"] = "3600"
        worker = scene.celery(REMAP_SIGTERM="", FAULTY_ASYNC="1")
        # Then the worker says so, a line for each, and ends with the code that means: do not try again
        assert worker.wait(60) == 78
        said = worker.log_text().splitlines()
        (told,) = [number for number, line in enumerate(said) if line == "settings refused:"]
        assert [line.partition(":")[0].partition("=")[0] for line in said[told + 1 :]] == [
            "CELERY_VISIBILITY_TIMEOUT_SECONDS",
            "task shop.async",
            "REMAP_SIGTERM",
        ]


async def test_a_task_that_refuses_is_one_line(postgres_url: str, redis_url: str) -> None:
    # Given a task whose queue nobody has, a worker that would run it, and a relay that would send it
    with CeleryScene(postgres_url, redis_url) as scene:
        processes = scene.celery(FAULTY_OWN="missing"), scene.worker("celery_relay", FAULTY_OWN="missing")
        # Then neither starts, and both say why
        for process in processes:
            assert process.wait(60) == 78
            (line,) = process.log_text().splitlines()
            assert line == "task shop.work: queue missing is not in CELERY_QUEUES"
