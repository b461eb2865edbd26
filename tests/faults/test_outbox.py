"""The outbox and its relay: what is committed is sent, in order, whatever dies in between."""

import asyncio
import json
import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from app.core.outbox import enqueue
from app.core.relay import PRUNE
from support.producer import Sessions, Work, produce, sessions_for, unsent_is
from support.proxy import FaultProxy
from support.scene import RedisScene
from support.servers import PostgresServer, RedisServer
from support.wait import eventually, stays


@pytest.fixture
async def sessions(scene: RedisScene) -> AsyncIterator[Sessions]:
    """Sessions on the shared PostgreSQL."""
    async with sessions_for(scene.postgres_url) as sessions:
        yield sessions


def sent(scene: RedisScene) -> list[Work]:
    """What is in the stream, in its order."""
    entries = scene.redis.xrange(scene.topic)
    return [Work.model_validate(json.loads(fields[b"event"])["data"]) for _, fields in entries]


async def test_commit_sends_and_rollback_does_not(scene: RedisScene, sessions: Sessions) -> None:
    scene.worker("outbox_relay")
    async with sessions.begin() as session:
        await enqueue(session, "shop.work.v1", Work(order_id=1))
    async with sessions() as session:
        await enqueue(session, "shop.work.v1", Work(order_id=2))
        await session.rollback()
    async with sessions.begin() as session:
        await enqueue(session, "shop.work.v1", Work(order_id=3))
    await eventually(lambda: len(sent(scene)) == 2, 20)
    assert [work.order_id for work in sent(scene)] == [1, 3]


async def test_a_late_commit_is_not_skipped(scene: RedisScene, sessions: Sessions) -> None:
    # Given a transaction that got its number first and commits last: a relay with a cursor would skip it
    scene.worker("outbox_relay")
    async with sessions() as slow, slow.begin():
        await enqueue(slow, "shop.work.v1", Work(order_id=1))
        async with sessions.begin() as quick:
            await enqueue(quick, "shop.work.v1", Work(order_id=2))
        await eventually(lambda: [w.order_id for w in sent(scene)] == [2], 20)
    await eventually(lambda: [w.order_id for w in sent(scene)] == [2, 1], 20)


async def test_two_relays_send_each_row_once(scene: RedisScene, sessions: Sessions) -> None:
    # Given two relays from the start, and no fault
    scene.settings["OUTBOX_BATCH"] = "20"
    await scene.worker("outbox_relay").until_ready()
    await scene.worker("outbox_relay").until_ready()
    await produce(scene, sessions, list(range(1, 1001)))
    await eventually(lambda: len(sent(scene)) >= 1000, 30)
    await eventually(lambda: unsent_is(scene, 0), 10)
    assert sorted(work.order_id for work in sent(scene)) == list(range(1, 1001))


async def test_order_per_key_is_that_of_the_commits(scene: RedisScene, sessions: Sessions) -> None:
    # Given transactions on five keys that overlap and take different times, and two relays
    scene.settings["OUTBOX_BATCH"] = "3"
    scene.worker("outbox_relay"), scene.worker("outbox_relay")
    committed: dict[int, list[int]] = defaultdict(list)
    chance = random.Random(5)

    async def one(key: int, token: int) -> None:
        async with sessions.begin() as session:
            await asyncio.sleep(chance.random() / 50)
            await enqueue(session, "shop.work.v1", Work(order_id=key, token=token), key=f"order-{key}")
            # From here to the commit no other transaction of this key gets past its `enqueue`.
            committed[key].append(token)
            await asyncio.sleep(chance.random() / 50)

    for start in range(0, 400, 20):
        await asyncio.gather(*(one(token % 5, token) for token in range(start, start + 20)))
    await eventually(lambda: len(sent(scene)) == 400, 30)
    seen: dict[int, list[int]] = defaultdict(list)
    for work in sent(scene):
        seen[work.order_id].append(work.token)
    assert seen == committed


async def test_relays_are_killed_while_they_send(scene: RedisScene, sessions: Sessions) -> None:
    # Given two relays and a consumer
    scene.settings["OUTBOX_BATCH"] = "5"
    orders = await scene.orders(1000)
    relays = [scene.worker("outbox_relay"), scene.worker("outbox_relay")]
    scene.worker()
    producing = asyncio.ensure_future(produce(scene, sessions, orders))
    # When one or the other is killed ten times
    chance = random.Random(10)
    for kill in range(10):
        goal = (kill + 1) * 80
        # Not the length of the stream: the consumer trims it every ten seconds.
        await eventually(lambda: len(scene.starts()) >= goal, 60)  # noqa: B023
        victim = chance.randrange(2)
        relays[victim].kill9()
        relays[victim] = scene.worker("outbox_relay")
    await producing
    # Then every order is processed once
    await scene.until_processed(orders, 60)
    (await scene.ledger("10 relay kills, 2 relays, 1,000 messages")).assert_clean()


async def test_a_notification_wakes_the_relay(scene: RedisScene, sessions: Sessions) -> None:
    # Given a relay that polls once a minute
    await scene.worker("outbox_relay", OUTBOX_POLL_SECONDS="60").until_ready()
    await eventually(lambda: listening(scene), 20)
    await produce(scene, sessions, [1])
    # Then the commit wakes it
    await eventually(lambda: len(sent(scene)) == 1, 5)


async def listening(scene: RedisScene) -> bool:
    """Whether a session of the scene's database listens."""
    rows = await scene.sql(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
    )
    return bool(rows)


async def test_a_lost_notification_costs_a_poll(scene: RedisScene, sessions: Sessions) -> None:
    # Given a relay whose listening connection is gone
    await scene.worker("outbox_relay", OUTBOX_POLL_SECONDS="2").until_ready()
    await eventually(lambda: listening(scene), 20)
    await scene.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
    )
    await produce(scene, sessions, [1])
    await eventually(lambda: len(sent(scene)) == 1, 10)


async def test_redis_away_costs_no_row(scene_own_redis: RedisScene, own_redis: RedisServer) -> None:
    scene = scene_own_redis
    relay = await scene.worker("outbox_relay").until_ready()
    scene.worker()
    own_redis.stop()
    orders = await scene.orders(50)
    async with sessions_for(scene.postgres_url) as sessions:
        await produce(scene, sessions, orders)
    await eventually(lambda: not relay.ready(), 15, "readiness turns red")
    await stays(lambda: relay.running, 5)
    await asyncio.to_thread(own_redis.start)
    await scene.until_processed(orders, 30)
    await relay.until_ready(10)
    assert await scene.sql("SELECT 1 FROM outbox_message WHERE refused IS NOT NULL") == []
    (await scene.ledger("Redis away while the outbox fills")).assert_clean()


async def test_redis_out_of_memory_costs_no_row(postgres_url: str) -> None:
    # Given a Redis that is full
    with RedisServer(maxmemory="64mb") as server, RedisScene(postgres_url, server.url) as scene:
        orders = await scene.orders(50)
        relay = await scene.worker("outbox_relay").until_ready()
        scene.worker()
        scene.redis.config_set("maxmemory", "1mb")
        async with sessions_for(postgres_url) as sessions:
            await produce(scene, sessions, orders)
        await eventually(lambda: not relay.ready(), 15, "readiness turns red")
        # Then it says so, without the message's content
        assert "OutOfMemory" in relay.problems()
        assert "order_id" not in relay.problems() + relay.log_text()
        # When there is room again
        scene.redis.config_set("maxmemory", "64mb")
        # Then all is sent and done
        await scene.until_processed(orders, 30)
        (await scene.ledger("Redis out of memory")).assert_clean()


async def test_redis_restarted_empty_loses_nothing(postgres_url: str) -> None:
    # Given a Redis that forgets all when it is restarted, a relay, two consumers, and a backlog in the stream
    with RedisServer(appendonly=False) as server, RedisScene(postgres_url, server.url) as scene:
        orders = await scene.orders(400)
        async with sessions_for(postgres_url) as sessions:
            await produce(scene, sessions, orders)
        relay = scene.worker("outbox_relay")
        await eventually(lambda: scene.redis.exists(scene.topic) and scene.redis.xlen(scene.topic) == 400, 30)
        await eventually(lambda: unsent_is(scene, 0), 10)
        workers = [scene.worker(), scene.worker()]
        await eventually(lambda: len(scene.starts()) > 100, 30)
        # When it comes back empty, with part of the messages done
        await asyncio.to_thread(server.restart_empty)
        # Then the rest is sent again and done, and what was done is not done again
        await scene.until_processed(orders, 60)
        await eventually(lambda: scene.redis.exists(scene.topic) and scene.left() == 0, 30)
        assert all(worker.running for worker in [relay, *workers])
        (await scene.ledger("Redis restarted empty with 400 accepted, 2 replicas")).assert_clean()


async def test_a_redis_that_lost_its_last_moments(
    scene_own_redis: RedisScene, own_redis: RedisServer
) -> None:
    scene = scene_own_redis
    # Given messages that were confirmed, and a server that comes back without them, but with its other data
    relay = await scene.worker("outbox_relay").until_ready()
    orders = await scene.orders(20)
    async with sessions_for(scene.postgres_url) as sessions:
        await produce(scene, sessions, orders)
    await eventually(lambda: unsent_is(scene, 0), 20)
    scene.redis.delete(scene.topic)
    await asyncio.to_thread(own_redis.restart)
    scene.worker()
    # Then what was sent in the last minute is sent again
    await scene.until_processed(orders, 30)
    assert relay.running
    (await scene.ledger("Redis lost its last moments")).assert_clean()


async def test_postgres_restarted_and_away(
    scene_own_postgres: RedisScene, own_postgres: PostgresServer
) -> None:
    scene = scene_own_postgres
    orders = await scene.orders(200)
    relay = await scene.worker("outbox_relay").until_ready()
    scene.worker()
    async with sessions_for(scene.postgres_url) as sessions:
        await produce(scene, sessions, orders[:100])
    await asyncio.to_thread(own_postgres.stop)
    await eventually(lambda: not relay.ready(), 15, "readiness turns red")
    await stays(lambda: relay.running, 10)
    await asyncio.to_thread(own_postgres.start)
    async with sessions_for(scene.postgres_url) as sessions:
        await produce(scene, sessions, orders[100:])
    await scene.until_processed(orders, 60)
    await relay.until_ready(10)
    (await scene.ledger("PostgreSQL away under relay and consumer")).assert_clean()


@pytest.fixture
def proxied(scene: RedisScene, postgres: PostgresServer) -> Iterator[tuple[RedisScene, FaultProxy]]:
    """A scene whose relay reaches PostgreSQL through a proxy."""
    with FaultProxy(postgres.port) as proxy:
        yield scene, proxy


async def test_the_relays_database_goes_silent(
    proxied: tuple[RedisScene, FaultProxy], sessions: Sessions
) -> None:
    scene, proxy = proxied
    relay = await scene.worker("outbox_relay", DATABASE_URL=proxy.url(scene.postgres_url)).until_ready()
    proxy.half_open()
    await produce(scene, sessions, list(range(1, 21)))
    await eventually(lambda: not relay.ready(), 40, "readiness turns red")
    proxy.reset_connections()
    proxy.pass_through()
    await eventually(lambda: len(sent(scene)) >= 20, 30)
    await relay.until_ready(20)


async def test_a_relay_is_cut_off_between_sending_and_noting(
    proxied: tuple[RedisScene, FaultProxy], sessions: Sessions
) -> None:
    scene, proxy = proxied
    # Given rows that are sent, and a relay that is cut off before it could commit the note of it
    orders = await scene.orders(30)
    await scene.worker("outbox_relay", DATABASE_URL=proxy.url(scene.postgres_url)).until_ready()
    proxy.close_after(b"UPDATE ", "to_client", times=2)
    await produce(scene, sessions, orders)
    scene.worker()
    # Then what was sent twice is done once
    await scene.until_processed(orders)
    assert proxy.triggered.is_set()
    assert scene.redis.xlen(scene.topic) > 30
    (await scene.ledger("relay cut off between sending and noting")).assert_clean()


async def test_a_paused_relay_holds_nothing_for_good(scene: RedisScene, sessions: Sessions) -> None:
    # Given a relay that is frozen with rows in hand (Redis answers late, so that it is in the middle)
    redis_port = int(scene.redis_url.rsplit(":", 1)[1].split("/")[0])
    with FaultProxy(redis_port) as proxy:
        first = await scene.worker("outbox_relay", REDIS_URL=proxy.url(scene.redis_url)).until_ready()
        proxy.latency(1500)
        orders = await scene.orders(20)
        await produce(scene, sessions, orders)
        await eventually(lambda: in_transaction(scene), 20, "the relay is in the middle")
        first.pause()
        # When another one is there
        scene.worker("outbox_relay"), scene.worker()
        # Then it sends them once the server has ended the frozen session
        await scene.until_processed(orders, 60)
        # And the late one does no harm
        proxy.pass_through()
        first.resume()
        await first.until_ready(40)
        await eventually(lambda: scene.left() == 0, 30)
    (await scene.ledger("relay paused in its transaction")).assert_clean()


async def in_transaction(scene: RedisScene) -> bool:
    """Whether a session holds a lane."""
    rows = await scene.sql(
        "SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND a.datname = current_database()"
        " AND a.state = 'idle in transaction'"
    )
    return bool(rows)


async def test_a_row_that_redis_refuses_holds_up_nobody(scene: RedisScene, sessions: Sessions) -> None:
    # Given a topic whose key holds something that is no stream
    scene.redis.set("shop.wrong", "not a stream")
    async with sessions.begin() as session:
        await enqueue(session, "shop.wrong.v1", Work(order_id=1), key="k")
        await enqueue(session, "shop.work.v1", Work(order_id=2), key="k")
    relay = scene.worker("outbox_relay")
    await eventually(lambda: len(sent(scene)) == 1, 20)
    # Then the row is kept with the reason, once the relay has committed
    refused = "SELECT refused FROM outbox_message WHERE refused IS NOT NULL"
    (row,) = await eventually(lambda: scene.sql(refused), 20)
    assert "WRONGTYPE" in row["refused"]
    await relay.until_ready(10)


async def test_old_rows_go_and_unsent_ones_stay(scene: RedisScene, sessions: Sessions) -> None:
    await produce(scene, sessions, list(range(1, 31)))
    update = (
        "UPDATE outbox_message SET sent_at = now() - make_interval(hours => $1) WHERE seq BETWEEN $2 AND $3"
    )
    await scene.sql(update, 25, 1, 10)
    await scene.sql(update, 23, 11, 20)
    async with sessions.begin() as session:
        await session.execute(PRUNE, {"keep": timedelta(hours=24)})
    left = await scene.sql("SELECT seq FROM outbox_message ORDER BY seq")
    assert [row["seq"] for row in left] == list(range(11, 31))


async def test_one_event_enqueued_twice_is_done_once(scene: RedisScene, sessions: Sessions) -> None:
    (order,) = await scene.orders(1)
    id_ = uuid.uuid4()
    for _ in range(2):
        async with sessions.begin() as session:
            await enqueue(session, "shop.work.v1", Work(order_id=order), message_id=id_)
    scene.accepted.append(order)
    scene.worker("outbox_relay"), scene.worker()
    await scene.until_processed([order])
    await eventually(lambda: scene.left() == 0 and scene.redis.xlen(scene.topic) == 2, 20)
    (await scene.ledger("one event enqueued twice")).assert_clean()


async def test_sigterm_ends_a_relay_in_order(scene: RedisScene, sessions: Sessions) -> None:
    relay = await scene.worker("outbox_relay").until_ready()
    await produce(scene, sessions, list(range(1, 201)))
    assert relay.sigterm() == 0, relay.log_tail()
    scene.worker("outbox_relay")
    await eventually(lambda: sorted(w.order_id for w in sent(scene)) == list(range(1, 201)), 20)
