"""Redis is stopped, emptied, filled, paused and cut off."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from app.core.redis_stream import connect
from support.proxy import FaultProxy
from support.scene import RedisScene
from support.servers import RedisServer
from support.wait import eventually, stays


async def test_restarted_with_data(scene_own_redis: RedisScene, own_redis: RedisServer) -> None:
    scene = scene_own_redis
    # Given two replicas in the middle of a backlog
    orders = scene.send(await scene.orders(600))
    workers = [scene.worker(), scene.worker()]
    await eventually(lambda: len(scene.starts()) > 100, 30)
    # When Redis is killed and comes back with what it had confirmed
    own_redis.kill()
    await asyncio.to_thread(own_redis.start)
    # Then all is done once, and the workers are those from before
    await scene.until_processed(orders, 60)
    assert all(worker.running for worker in workers)
    (await scene.ledger("Redis killed mid-backlog, data kept, 2 replicas")).assert_clean()


@pytest.mark.long
async def test_away_in_the_middle_and_at_the_start(
    scene_own_redis: RedisScene, own_redis: RedisServer
) -> None:
    scene = scene_own_redis
    # Given a worker with messages in hand
    orders = scene.send(await scene.orders(20), do="sleep", seconds=1)
    worker = scene.worker()
    await eventually(lambda: len(scene.starts()) > 0, 30)
    # When Redis goes away for 30 s, and another worker starts meanwhile
    own_redis.stop()
    late = scene.worker()
    await eventually(lambda: not worker.ready(), 15, "readiness turns red")
    await stays(lambda: all(one.running and not one.ready() for one in (worker, late)), 30)
    await asyncio.to_thread(own_redis.start)
    # Then they consume within 30 s
    await scene.until_processed(orders, 30)
    await worker.until_ready(10)
    await late.until_ready(10)
    # And the second one does so alone
    assert await asyncio.to_thread(worker.sigterm) == 0
    await scene.until_processed(scene.send(await scene.orders(100)), 30)
    assert scene.dead() == []
    (await scene.ledger("Redis away for 30 s at the start and mid-work")).assert_clean()


async def test_restarted_empty_is_repaired(scene_own_redis: RedisScene, own_redis: RedisServer) -> None:
    scene = scene_own_redis
    # Given a worker that has done some work and waits for more
    orders = scene.send(await scene.orders(10))
    worker = scene.worker()
    await scene.until_processed(orders)
    # When Redis comes back without stream and group, and messages are added before the worker looks
    await asyncio.to_thread(own_redis.restart_empty)
    more = scene.send(await scene.orders(10))
    # Then the worker makes the group anew and misses none of them
    await scene.until_processed(more, 30)
    await worker.until_ready(10)
    (await scene.ledger("Redis restarted empty, group repaired")).assert_clean()


async def test_the_stream_is_deleted_under_the_worker(scene: RedisScene) -> None:
    orders = scene.send(await scene.orders(5))
    worker = scene.worker()
    await scene.until_processed(orders)
    # When the key goes while an entry is in hand, for several heartbeats
    more = scene.send(await scene.orders(1), do="sleep", seconds=4)
    await eventually(lambda: len(scene.starts()) == 6, 10)
    scene.redis.delete(scene.topic)
    # Then the work in hand is finished, and new messages are consumed
    more += scene.send(await scene.orders(5))
    await scene.until_processed(more, 30)
    await worker.until_ready(10)
    (await scene.ledger("stream deleted under the worker")).assert_clean()


@pytest.fixture
async def proxied(scene: RedisScene) -> AsyncIterator[tuple[RedisScene, FaultProxy]]:
    """A scene whose workers reach Redis through a proxy."""
    with FaultProxy(int(scene.redis_url.rsplit(":", 1)[1].split("/")[0])) as proxy:
        yield scene, proxy


async def test_half_open_connection(proxied: tuple[RedisScene, FaultProxy]) -> None:
    scene, proxy = proxied
    # Given a worker whose connections to Redis die without a word
    worker = await scene.worker(REDIS_URL=proxy.url(scene.redis_url)).until_ready()
    orders = scene.send(await scene.orders(20), do="sleep", seconds=0.5)
    await eventually(lambda: len(scene.starts()) > 5, 20)
    proxy.half_open()
    await eventually(lambda: not worker.ready(), 20, "readiness turns red")
    # When the network is back
    proxy.reset_connections()
    proxy.pass_through()
    # Then it consumes again within 30 s
    await scene.until_processed(orders, 30)
    await worker.until_ready(10)
    (await scene.ledger("half-open connection to Redis")).assert_clean()


async def test_replies_are_lost(proxied: tuple[RedisScene, FaultProxy]) -> None:
    scene, proxy = proxied
    # Given a worker; entries are delivered to it while answers get lost, so that nobody knows of them
    worker = await scene.worker(REDIS_URL=proxy.url(scene.redis_url)).until_ready()
    proxy.drop_responses()
    orders = scene.send(await scene.orders(5))
    await eventually(lambda: len(scene.pending()) >= 1, 20, "Redis has handed one out")
    # When answers arrive again
    proxy.pass_through()
    # Then the worker finds its own orphans once their lease is over
    await scene.until_processed(orders, 30)
    assert worker.running
    (await scene.ledger("answers of XREADGROUP lost")).assert_clean()


async def test_a_paused_redis_loses_and_doubles_nothing(
    scene_own_redis: RedisScene, own_redis: RedisServer
) -> None:
    scene = scene_own_redis
    orders = scene.send(await scene.orders(400))
    scene.worker(), scene.worker()
    await eventually(lambda: len(scene.starts()) > 100, 30)
    own_redis.pause()
    await stays(lambda: True, 7)
    own_redis.resume()
    await scene.until_processed(orders, 60)
    (await scene.ledger("Redis paused for 7 s, 2 replicas")).assert_clean()


async def test_one_xadd_is_one_entry(own_redis: RedisServer) -> None:
    # Given our client, and for comparison redis-py's own default, and a Redis that freezes for a moment
    ours = connect(own_redis.url, socket_timeout=1)
    theirs = redis.asyncio.Redis(host=own_redis.host, port=own_redis.port, socket_timeout=1)
    await ours.ping()
    await theirs.ping()
    # A client of few repeats would give up before Redis is back here, and add a second entry elsewhere
    pool: Any = ours.connection_pool
    assert pool.make_connection().retry._retries == 0
    own_redis.pause()
    # When both add one entry
    adding = asyncio.ensure_future(theirs.xadd("theirs", {"a": 1}))
    with pytest.raises((redis.TimeoutError, OSError)):
        await ours.xadd("ours", {"a": 1})
    await stays(lambda: not adding.done(), 1)
    own_redis.resume()
    await adding
    # Then ours is there once, known as uncertain; theirs was repeated behind the caller's back
    assert await ours.xlen("ours") == 1
    assert await ours.xlen("theirs") > 1
    await ours.aclose()
    await theirs.aclose()


async def test_an_entry_that_is_no_message(scene: RedisScene) -> None:
    # Given an entry in somebody else's format
    scene.redis.xadd(scene.topic, {"body": b"somebody else's format"})
    scene.worker()
    # Then it is kept as it was
    await eventually(lambda: len(scene.dead()) == 1, 20)
    (letter,) = scene.dead()
    assert letter.fields["body"] == b"somebody else's format"
    assert "no field 'event'" in letter.reason
