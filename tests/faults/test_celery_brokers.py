"""Celery's broker and the database are paused, restarted and emptied while tasks run."""

import asyncio
from collections.abc import Iterator

import pytest

from app.core import celery_broker
from app.core.broker import BrokerDownError
from app.core.celery_app import build
from app.core.celery_settings import CelerySettings
from app.core.outbox import enqueue
from support.celery_scene import CeleryScene
from support.producer import Sessions, Work, produce, sessions_for, unsent, unsent_is
from support.servers import PostgresServer, RabbitServer, RedisServer
from support.wait import eventually, stays


@pytest.fixture
def redis_scene(postgres_url: str, own_redis: RedisServer) -> Iterator[CeleryScene]:
    """A Redis of the scene's own, to break."""
    with CeleryScene(postgres_url, own_redis.url) as scene:
        yield scene


@pytest.fixture
def rabbit_scene(postgres_url: str, rabbit_url: str) -> Iterator[CeleryScene]:
    """The shared RabbitMQ, which is left running."""
    with CeleryScene(postgres_url, rabbit_url) as scene:
        yield scene


async def hold(scene: CeleryScene, sessions: Sessions, count: int) -> list[int]:
    """Orders whose tasks are at work until `release`."""
    orders = await scene.orders(count)
    for order in orders:
        async with sessions.begin() as session:
            await enqueue(session, "shop.work.v1", Work(order_id=order, do="wait"))
    scene.accepted += orders
    await eventually(lambda: {order for order, _, _ in scene.starts()} >= set(orders), 60, "all are at work")
    return orders


async def test_redis_is_restarted_paused_and_comes_back_empty(
    redis_scene: CeleryScene, own_redis: RedisServer
) -> None:
    scene = redis_scene
    scene.limits |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "6", "CELERY_SOFT_TIME_LIMIT_SECONDS": "8"}
    scene.limits |= {"CELERY_TIME_LIMIT_SECONDS": "10", "CELERY_VISIBILITY_TIMEOUT_SECONDS": "22"}
    scene.settings |= {"WORKER_MAX_DELIVERIES": "50"}  # a starved machine is none of its business
    async with sessions_for(scene.postgres_url) as sessions:
        # Given two workers under a supervisor, with tasks in hand and in the outbox
        orders = await scene.orders(150)
        scene.worker("celery_relay")
        scene.celery(supervised=True), scene.celery(supervised=True)
        held = await hold(scene, sessions, 3)
        # When Redis is restarted with its data
        await asyncio.to_thread(own_redis.restart)
        scene.release()
        await produce(scene, sessions, orders[:50])
        await scene.until_processed(orders[:20], 60)
        # And is paused
        own_redis.pause()
        await produce(scene, sessions, orders[50:100])
        await stays(lambda: unsent(scene), 3, "nothing can be sent")
        own_redis.resume()
        await scene.until_processed(orders[:60], 60)
        # And comes back empty, with tasks in the queue and in hand
        await produce(scene, sessions, orders[100:])
        await asyncio.to_thread(own_redis.restart_empty)
        # Then everything is done once
        await scene.until_processed([*held, *orders], 90)
        await eventually(lambda: unsent_is(scene, 0), 60)
    assert await scene.letters() == []
    (await scene.ledger("Celery, Redis: restarted, paused, restarted empty")).assert_clean()


async def test_rabbitmq_is_restarted_and_emptied(rabbit_scene: CeleryScene, rabbit: RabbitServer) -> None:
    scene = rabbit_scene
    scene.limits |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "20", "CELERY_SOFT_TIME_LIMIT_SECONDS": "22"}
    scene.limits |= {"CELERY_TIME_LIMIT_SECONDS": "24"}
    async with sessions_for(scene.postgres_url) as sessions:
        # Given two workers under a supervisor, with tasks in hand and in the outbox
        orders = await scene.orders(100)
        scene.worker("celery_relay")
        scene.celery(supervised=True), scene.celery(supervised=True)
        held = await hold(scene, sessions, 3)
        await produce(scene, sessions, orders[:50])
        # When RabbitMQ crashes and comes back
        await asyncio.to_thread(rabbit.kill)
        await produce(scene, sessions, orders[50:])
        await asyncio.to_thread(rabbit.start)
        scene.release()
        await scene.until_processed(orders[:20], 60)
        # And comes back empty, with messages in the queue
        more = await scene.orders(50)
        await produce(scene, sessions, more)
        vhost = scene.broker_url.rpartition("/")[2]
        await asyncio.to_thread(rabbit.delete_vhost, vhost)
        await asyncio.to_thread(rabbit.create_vhost, vhost)
        # Then everything is done once
        await scene.until_processed([*held, *orders, *more], 90)
        await eventually(lambda: unsent_is(scene, 0), 60)
    assert await scene.letters() == []
    (await scene.ledger("Celery, RabbitMQ: crashed, restarted, emptied")).assert_clean()


async def test_the_database_is_away_and_no_task_pays_for_it(
    own_postgres: PostgresServer, own_postgres_url: str, redis_url: str
) -> None:
    # Given a worker that has done something, and tasks in the queue
    with CeleryScene(own_postgres_url, redis_url) as scene:
        scene.limits |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "20", "CELERY_SOFT_TIME_LIMIT_SECONDS": "22"}
        scene.limits |= {"CELERY_TIME_LIMIT_SECONDS": "24", "CELERY_VISIBILITY_TIMEOUT_SECONDS": "50"}
        scene.celery()
        first, *orders = await scene.orders(61)
        scene.send([first])
        await scene.until_processed([first], 60)
        # When the database stops, for longer than all attempts together would last
        await asyncio.to_thread(own_postgres.kill)
        scene.send(orders)
        await eventually(lambda: scene.waiting() < 60, 60)
        await stays(lambda: len(scene.starts()) <= 1, 6, "no handler starts without its database")
        await asyncio.to_thread(own_postgres.start)
        # Then all is done as at the first attempt, soon after it is back
        await scene.until_processed(orders, 60)
        assert {delivery for _, delivery, _ in scene.starts()} == {1}
        assert await scene.letters() == []
        (await scene.ledger("Celery: database away, 60 tasks")).assert_clean()


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
async def test_sending_to_a_silent_broker_ends_soon_and_blocks_nobody(
    broker: str, request: pytest.FixtureRequest, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a broker that took a task a moment ago and is frozen now
    server = request.getfixturevalue("own_redis" if broker == "redis" else "rabbit")
    url = server.url if broker == "redis" else request.getfixturevalue("rabbit_url")
    with CeleryScene(postgres_url, url) as scene:
        settings = CelerySettings(celery_broker_url=url, celery_publish_timeout_seconds=1)
        monkeypatch.setattr(celery_broker, "celery_app", build(settings))
        monkeypatch.setattr(celery_broker, "celery_settings", lambda: settings)
        await celery_broker.send("shop.work", ["{}"], task_id="first")
        server.pause()
        try:
            # When another is sent
            sending = asyncio.ensure_future(celery_broker.send("shop.work", ["{}"], task_id="second"))
            turns = 0
            while not sending.done():
                await asyncio.sleep(0.01)
                turns += 1
                assert turns < 6000, "it waits for ever"
            # Then it fails, and the event loop has gone on all the time: a call that blocks leaves one turn
            with pytest.raises(BrokerDownError):
                await sending
            assert turns > 10
        finally:
            server.resume()
        # And it works again
        await eventually(sent, 60)
        await eventually(lambda: scene.waiting() >= 2, 60)


async def sent() -> bool:
    """Whether the broker takes a task."""
    try:
        await celery_broker.send("shop.work", ["{}"], task_id="third")
    except BrokerDownError:
        return False
    return True
