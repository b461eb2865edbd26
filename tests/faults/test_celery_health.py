"""What a Celery worker tells its platform: red when it is stuck, and not when its broker is."""

import asyncio
import json
import signal
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from support.celery_scene import CeleryScene
from support.servers import RedisServer
from support.wait import eventually, stays
from support.workers import WorkerProcess

STALL = 10
LISTEN = "0A"
STEADY = {
    "WORKER_HANDLER_TIMEOUT_SECONDS": "40",
    "CELERY_SOFT_TIME_LIMIT_SECONDS": "43",
    "CELERY_TIME_LIMIT_SECONDS": "46",
    "CELERY_VISIBILITY_TIMEOUT_SECONDS": "100",
}


def asked(worker: WorkerProcess, kind: str) -> list[str]:
    """The problems that a worker names; raises OSError when it does not answer."""
    url = f"http://127.0.0.1:{worker.health_port}/{kind}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            found = json.load(error)
    assert found["ok"] is not bool(found["problems"])
    return list(found["problems"])


def listening(pid: int, port: int) -> bool:
    """Whether a process holds the socket that listens on a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == LISTEN}
    held: set[str] = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed a moment ago
            held.add(str(file.readlink()))
    return f"socket:[{inode}]" in held


async def test_an_outage_makes_it_unready_and_a_stuck_loop_dead(
    postgres_url: str, own_redis: RedisServer
) -> None:
    with CeleryScene(postgres_url, own_redis.url) as scene:
        # Given a worker that was started while its broker was away
        scene.limits |= STEADY
        scene.settings |= {"WORKER_STALL_SECONDS": str(STALL)}
        own_redis.stop()
        worker = scene.celery("--concurrency", "1", "--max-tasks-per-child", "1")
        await eventually(lambda: asked(worker, "ready"), 60, "it answers", ignore=(OSError,))
        assert not asked(worker, "live")
        await asyncio.to_thread(own_redis.start)
        await worker.until_ready(60)
        # And a child of it that was forked while probes are answered
        first, second, third = await scene.orders(3)
        scene.send([first])
        scene.send([second], do="wait")
        await eventually(lambda: len(scene.starts()) == 2, 60, "the second child is at work")
        # Then the port is not the child's
        assert listening(worker.pid, worker.health_port)
        assert not listening(scene.starts()[-1][2], worker.health_port)
        scene.release()
        await scene.until_processed([first, second])
        # And another worker that is given the same port says so and ends
        other = scene.celery(WORKER_HEALTH_PORT=str(worker.health_port))
        assert other.wait(60) == 1
        assert "each process of a machine needs its own" in other.log_text()
        assert "Traceback" not in other.log_text()
        # When its broker is away
        own_redis.stop()
        await eventually(lambda: asked(worker, "ready"), 60, "it is not ready")
        # Then it says so, and lives on, however long that takes
        assert asked(worker, "ready") == ["celery: not connected to the broker"]
        await stays(lambda: not asked(worker, "live"), STALL + 3, "a restart would not help")
        await asyncio.to_thread(own_redis.start)
        await worker.until_ready(60)
        # When it is stuck
        worker.send(signal.SIGUSR2)
        # Then it is not ready, and dead
        await eventually(lambda: asked(worker, "live"), 60, "it is dead")
        for kind in ("live", "ready"):
            assert "event loop blocked" in asked(worker, kind)[0]
        # And when it is killed for that, the next one takes its port and does the work
        worker.kill9()
        scene.send([third])
        following = scene.celery(WORKER_HEALTH_PORT=str(worker.health_port))
        await following.until_ready(60, f"http://127.0.0.1:{worker.health_port}/ready")
        await scene.until_processed([third])
        (await scene.ledger("Celery: probes in an outage, and of a stuck worker")).assert_clean()


@pytest.mark.parametrize("pool", ["solo", "threads"])
async def test_a_long_task_is_no_stuck_loop(pool: str, postgres_url: str, redis_url: str) -> None:
    with CeleryScene(postgres_url, redis_url) as scene:
        # Given a worker whose tasks run in its main process
        scene.limits |= STEADY
        scene.settings |= {"WORKER_STALL_SECONDS": "1"}
        worker = await scene.celery(pool=pool).until_ready(60)
        # When a task takes longer than the loop may
        scene.send(await scene.orders(1), do="wait")
        await eventually(lambda: len(scene.starts()) == 1, 60, "it is at work")
        if pool == "solo":
            await stays(lambda: not asked(worker, "live"), 3, "it lives")
        # Then it is as ready as before
        await eventually(lambda: not asked(worker, "ready"), 60, "it is ready")
        scene.release()
        await scene.until_processed(scene.accepted)
        (await scene.ledger(f"Celery, pool {pool}: probes beside a long task")).assert_clean()
