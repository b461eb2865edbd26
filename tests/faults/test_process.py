"""The worker as a process: exit codes, signals, health, start order, and what its log does not say."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import redis

from app.core.lifecycle import EndedError, run_to_the_end, supervise
from app.core.redis_stream import StreamGroup, connect
from app.core.stream_upkeep import Leases
from app.core.worker_settings import WorkerSettings
from support.ports import free_port
from support.scene import RedisScene
from support.servers import PostgresServer, RedisServer
from support.wait import eventually, stays
from support.workers import IMPORT_PATH


class Broken:
    """A worker whose loop fails, or ends."""

    name = "broken"

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    async def run(self, stop: asyncio.Event) -> None:  # noqa: ARG002  # as Worker
        """End at once."""
        if self.error:
            raise self.error

    def problems(self) -> list[str]:
        """None known."""
        return []


class Idle(Broken):
    """A worker that does its duty."""

    name = "idle"

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for the end."""
        await stop.wait()


@pytest.mark.parametrize("error", [RuntimeError("a loop failed"), None])
async def test_a_worker_that_ends_ends_the_process(error: Exception | None) -> None:
    # Given a process with a healthy worker and one whose loop is over
    settings = WorkerSettings(worker_health_port=0)
    # Then the process ends with 1, so that a supervisor starts it again
    assert await supervise([Idle(None), Broken(error)], settings) == 1


async def test_ending_early_is_an_error() -> None:
    with pytest.raises(EndedError):
        await run_to_the_end(Broken(None), asyncio.Event())


async def test_a_second_signal_does_not_wait(scene: RedisScene) -> None:
    # Given a worker that drains for a long time
    scene.settings["WORKER_DRAIN_SECONDS"] = "60"
    (order,) = scene.send(await scene.orders(1), do="wait")
    worker = scene.worker()
    await eventually(lambda: len(scene.starts()) == 1, 30)
    worker.send(signal.SIGTERM)
    await eventually(lambda: "draining" in worker.log_text(), 10)
    # When it is told a second time
    worker.send(signal.SIGTERM)
    assert worker.wait(5) == 128 + signal.SIGTERM
    # Then its message is not lost
    scene.release()
    scene.worker()
    await scene.until_processed([order])


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A command of the templates."""
    path = os.pathsep.join(map(str, IMPORT_PATH))
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "PYTHONPATH": path, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.slow
def test_the_list_of_workers() -> None:
    result = command("app.workers.run", "--list")
    names = set(result.stdout.split())
    assert result.returncode == 0
    assert {"order_paid", "outbox_relay", "rabbit_relay"} <= names
    assert names.isdisjoint({"run", "dead_letters"})
    unknown = command("app.workers.run", "order_piad")
    assert unknown.returncode == 2
    assert "no worker named order_piad; there are: order_" in unknown.stderr


async def test_probes(scene_own_redis: RedisScene, own_redis: RedisServer) -> None:
    scene = scene_own_redis
    worker = await scene.worker().until_ready()
    port = str(worker.health_port)
    # Given a worker that is well
    assert command("app.core.health", "ready", WORKER_HEALTH_PORT=port).returncode == 0
    assert command("app.core.health", "live", WORKER_HEALTH_PORT=port).returncode == 0
    # When Redis is away
    own_redis.stop()
    await eventually(lambda: not worker.ready(), 15)
    # Then it is not ready, and says why; it is alive, since a restart would not help
    ready = command("app.core.health", "ready", WORKER_HEALTH_PORT=port)
    assert ready.returncode == 1
    assert "Redis: ConnectionError" in ready.stdout
    assert command("app.core.health", "live", WORKER_HEALTH_PORT=port).returncode == 0
    # And a probe of nobody fails
    nobody = command("app.core.health", "live", WORKER_HEALTH_PORT=str(free_port()))
    assert nobody.returncode == 1
    assert "no answer" in nobody.stdout


async def test_a_port_that_is_taken(scene: RedisScene) -> None:
    first = await scene.worker().until_ready()
    second = scene.worker(WORKER_HEALTH_PORT=str(first.health_port))
    assert second.wait(20) == 1
    assert "each process of a machine needs its own" in second.log_text()
    assert "Traceback" not in second.log_text()


async def test_what_others_put_into_the_environment(scene: RedisScene) -> None:
    # Given the variables that Kubernetes sets for a Service named "worker", and gunicorn's
    foreign = {
        "WORKER_SERVICE_HOST": "10.0.0.1",
        "WORKER_SERVICE_PORT": "80",
        "WORKER_SERVICE_PORT_HTTP": "80",
        "WORKER_PORT": "tcp://10.0.0.1:80",
        "WORKER_PORT_80_TCP": "tcp://10.0.0.1:80",
        "WORKER_PORT_80_TCP_ADDR": "10.0.0.1",
        "WORKER_CLASS": "uvicorn",
    }
    # Then the worker starts
    await scene.worker(**foreign).until_ready()


async def test_a_blocked_loop_is_not_alive(scene: RedisScene) -> None:
    # Given a handler that blocks the loop for longer than the limit
    scene.send(await scene.orders(1), do="block", seconds=6)
    worker = scene.worker(WORKER_STALL_SECONDS="1")
    await eventually(lambda: len(scene.starts()) == 1, 30)
    url = f"http://127.0.0.1:{worker.health_port}/live"
    await eventually(lambda: not worker.ready(url), 5, "/live turns red while the loop is blocked")
    await eventually(lambda: worker.ready(url), 20, "and green again")


async def test_late_leases_are_a_problem(redis_url: str) -> None:
    settings = WorkerSettings(worker_lease_seconds=5, worker_heartbeat_seconds=1)
    group = StreamGroup(redis_url, "s", "g")
    leases = Leases(group, dict, settings)
    assert leases.problem() is None
    leases._renewed = time.monotonic() - 6
    assert leases.problem() == "leases not renewed for 6 s"
    await group.close()


async def test_started_before_its_servers(postgres_url: str, own_postgres: PostgresServer) -> None:
    # Given a worker that is started before PostgreSQL and Redis are there
    with RedisServer() as server, RedisScene(own_postgres.database_url("shop"), server.url) as scene:
        orders = scene.send(await scene.orders(20))
        await asyncio.to_thread(own_postgres.stop)
        server.stop()
        worker, relay = scene.worker(), scene.worker("outbox_relay")
        await stays(lambda: worker.running and relay.running, 5)
        # When they come one after the other
        await asyncio.to_thread(server.start)
        await stays(lambda: worker.running and relay.running and scene.dead() == [], 3)
        await asyncio.to_thread(own_postgres.start)
        # Then all is done, with no attempt used up
        await scene.until_processed(orders, 60)
        await worker.until_ready(10)
        await relay.until_ready(10)
        assert {delivery for _, delivery, _ in scene.starts()} == {1}
        (await scene.ledger("started before PostgreSQL and Redis")).assert_clean()


async def test_passwords_are_not_logged(scene: RedisScene) -> None:
    port = free_port()
    scene.settings |= {
        "REDIS_URL": f"redis://user:hunter2@127.0.0.1:{port}/0",
        "DATABASE_URL": f"postgresql+asyncpg://user:hunter2@127.0.0.1:{port}/shop",
    }
    worker, relay = scene.worker(), scene.worker("outbox_relay")
    await eventually(lambda: "Redis" in worker.problems() and "Redis" in relay.problems(), 20)
    await eventually(lambda: "Redis" in worker.log_text() and "Redis" in relay.log_text(), 10)
    said = worker.problems() + relay.problems() + worker.log_text() + relay.log_text()
    assert "hunter2" not in said


async def test_the_urls_options_do_not_undo_ours(redis_url: str) -> None:
    # Given an address that asks for another protocol, decoding, and a timeout shorter than our waits
    url = f"{redis_url}?protocol=3&decode_responses=true&socket_timeout=0.1"
    group = StreamGroup(url, "s", "g")
    await group.ensure()
    # Then an idle wait ends in order, and entries come as bytes
    assert await group.read(1, wait=True) == []
    await group.client.xadd("s", {"event": b"x"})
    (entry,) = await group.read(1, wait=True)
    assert entry.fields == {b"event": b"x"}
    await group.close()


async def test_why_block_needs_a_timeout_of_its_own(redis_url: str) -> None:
    # The wrong form: redis-py's default timeout of five seconds ends a longer BLOCK (RST-01)
    wrong: Any = redis.asyncio.Redis.from_url(redis_url)
    with pytest.raises(redis.TimeoutError):
        await wrong.xread({"nothing": "$"}, block=30_000)
    await wrong.aclose()
    right: Any = connect(redis_url, socket_timeout=9)
    assert not await right.xread({"nothing": "$"}, block=6_000)
    await right.aclose()


@pytest.mark.slow
def test_an_address_that_is_none_is_refused() -> None:
    with RedisScene("postgresql+asyncpg://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1") as scene:
        worker = scene.worker(REDIS_URL="http://user:hunter2@redis")
        assert worker.wait(30) == 78
        assert worker.log_text().splitlines()[1] == "REDIS_URL=…: redis://, rediss:// or unix:// is needed"
