"""The outbox in front of RabbitMQ: what is committed is sent, whatever becomes of relay and broker."""

import asyncio
import json
import random
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

import aio_pika
import pytest
from pydantic import SecretStr

from app.core.broker import BrokerDownError
from app.core.outbox import enqueue
from app.core.rabbit import Confirmed, UnroutableError
from app.core.rabbit_publisher import RabbitPublisher, RefusedError
from app.core.worker_settings import WorkerSettings
from support.producer import Sessions, Work, produce, sessions_for, unsent_is
from support.scene import RabbitScene
from support.servers import RabbitServer
from support.wait import eventually, stays


@pytest.fixture
def scene(postgres_url: str, breakable: RabbitServer) -> Iterator[RabbitScene]:
    """A scene on that server."""
    with RabbitScene(postgres_url, breakable) as scene:
        yield scene


@pytest.fixture
async def sessions(scene: RabbitScene) -> AsyncIterator[Sessions]:
    """Sessions of a producer."""
    async with sessions_for(scene.postgres_url) as sessions:
        yield sessions


def publisher(scene: RabbitScene) -> RabbitPublisher:
    """A publisher to the scene's RabbitMQ."""
    return RabbitPublisher(WorkerSettings(rabbitmq_url=SecretStr(scene.server.url)))


async def test_order_per_key_is_that_of_the_commits(scene: RabbitScene, sessions: Sessions) -> None:
    # Given transactions on five keys that overlap, and two relays
    scene.amqp.prepare(scene.queue)
    scene.settings["OUTBOX_BATCH"] = "3"
    scene.worker("rabbit_relay"), scene.worker("rabbit_relay")
    committed: dict[int, list[int]] = defaultdict(list)
    chance = random.Random(5)

    async def one(key: int, token: int) -> None:
        async with sessions.begin() as session:
            await asyncio.sleep(chance.random() / 50)
            await enqueue(session, "shop.work.v1", Work(order_id=key, token=token), key=f"order-{key}")
            committed[key].append(token)

    for start in range(0, 400, 20):
        await asyncio.gather(*(one(token % 5, token) for token in range(start, start + 20)))
    await eventually(lambda: scene.amqp.ready(scene.queue.name) == 400, 30)
    # Then the queue has them in the order of the commits, persistent, with what tools look for
    seen: dict[int, list[int]] = defaultdict(list)
    for message in scene.amqp.take(scene.queue.name):
        event = json.loads(message.body)
        seen[event["data"]["order_id"]].append(event["data"]["token"])
        assert message.message_id == event["id"]
        assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
        assert message.content_type == "application/cloudevents+json"
    assert seen == committed


@pytest.mark.long
async def test_relays_are_killed_while_they_send(scene: RabbitScene, sessions: Sessions) -> None:
    # Given two relays and a consumer
    scene.settings["OUTBOX_BATCH"] = "5"
    orders = await scene.orders(600)
    relays = [scene.worker("rabbit_relay"), scene.worker("rabbit_relay")]
    scene.worker()
    producing = asyncio.ensure_future(produce(scene, sessions, orders))
    # When one or the other is killed eight times between commit and confirmation
    chance = random.Random(10)
    for kill in range(8):
        goal = (kill + 1) * 60
        await eventually(lambda: len(scene.starts()) >= goal, 60)  # noqa: B023
        victim = chance.randrange(2)
        relays[victim].kill9()
        relays[victim] = scene.worker("rabbit_relay")
    await producing
    # Then every order is processed once
    await scene.until_processed(orders, 60)
    (await scene.ledger("8 relay kills, 2 relays to RabbitMQ, 600 messages")).assert_clean()


async def test_a_message_without_a_queue_waits_for_one(scene: RabbitScene, sessions: Sessions) -> None:
    # Given a relay, and messages for which nobody has made a queue yet: the consumer is deployed later
    orders = await scene.orders(20)
    relay = await scene.worker("rabbit_relay").until_ready()
    await produce(scene, sessions, orders)
    await eventually(lambda: refused(scene, len(orders)), 20)
    # Then they hold up nobody, and the reason is there to read
    reasons = await scene.sql("SELECT DISTINCT refused FROM outbox_message")
    assert [row["refused"] for row in reasons] == [
        "waiting: no queue is bound for 'shop.work' in exchange 'events'"
    ]
    assert relay.ready()
    # When the consumer comes, they arrive by themselves
    scene.worker()
    await scene.until_processed(orders, 90)
    assert await unsent_is(scene, 0)
    (await scene.ledger("messages before their queue")).assert_clean()


async def refused(scene: RabbitScene, number: int) -> bool:
    """Whether so many rows were refused."""
    rows = await scene.sql("SELECT count(*) FROM outbox_message WHERE refused IS NOT NULL")
    return int(rows[0][0]) == number


async def test_the_broker_is_away_and_short_of_memory(
    scene: RabbitScene, sessions: Sessions, breakable: RabbitServer
) -> None:
    orders = await scene.orders(100)
    relay = await scene.worker("rabbit_relay").until_ready()
    scene.worker()
    breakable.kill()
    await produce(scene, sessions, orders[:50])
    await eventually(lambda: not relay.ready(), 15, "readiness turns red")
    await asyncio.to_thread(breakable.start)
    await scene.until_processed(orders[:50], 40)
    await relay.until_ready(15)
    # When RabbitMQ takes no messages
    breakable.rabbitmqctl("set_vm_memory_high_watermark", "0.00001")
    try:
        await produce(scene, sessions, orders[50:])
        await eventually(lambda: not relay.ready(), 30, "readiness turns red")
        assert "short of memory" in relay.problems()
        await stays(lambda: relay.running, 5)
    finally:
        breakable.rabbitmqctl("set_vm_memory_high_watermark", "0.6")
    # Then no row was lost
    await scene.until_processed(orders, 60)
    await relay.until_ready(15)
    assert await refused(scene, 0)
    (await scene.ledger("RabbitMQ away and short of memory while the outbox fills")).assert_clean()


async def test_a_broker_that_comes_back_empty(
    scene: RabbitScene, sessions: Sessions, breakable: RabbitServer
) -> None:
    # Given a backlog that was confirmed, a relay and two consumers
    orders = await scene.orders(300)
    scene.amqp.prepare(scene.queue)
    relay = scene.worker("rabbit_relay")
    await produce(scene, sessions, orders)
    await eventually(lambda: unsent_is(scene, 0), 30)
    workers = [scene.worker(), scene.worker()]
    await eventually(lambda: len(scene.starts()) > 50, 30)
    # When RabbitMQ comes back without anything
    await asyncio.to_thread(breakable.restart_empty)
    # Then the rest is sent again and done, and what was done is not done again
    await scene.until_processed(orders, 120)
    assert all(worker.running for worker in [relay, *workers])
    (await scene.ledger("RabbitMQ restarted empty with 300 accepted, 2 replicas")).assert_clean()


async def test_published_directly(scene: RabbitScene) -> None:
    orders = await scene.orders(100)
    worker = await scene.worker().until_ready()
    async with publisher(scene) as sending:
        await asyncio.gather(*(sending.publish("shop.work.v1", Work(order_id=order)) for order in orders))
        with pytest.raises(RefusedError, match=r"no queue is bound for 'shop\.nobody'"):
            await sending.publish("shop.nobody.v1", Work(order_id=1))
        with pytest.raises(ValueError, match="version"):
            await sending.publish("shop.work", Work(order_id=1))
    scene.accepted += orders
    await scene.until_processed(orders)
    assert worker.ready()
    (await scene.ledger("published directly to RabbitMQ")).assert_clean()


async def test_an_uncertain_message_sent_again_is_done_once(
    scene: RabbitScene, breakable: RabbitServer
) -> None:
    # Given a RabbitMQ that freezes, so that nobody knows whether it took the message
    (order,) = await scene.orders(1)
    scene.amqp.prepare(scene.queue)
    id_ = uuid.uuid4()
    async with publisher(scene) as sending:
        await sending.publish("shop.work.v1", Work(order_id=order), message_id=id_)
        breakable.pause()
        began = time.monotonic()
        try:
            with pytest.raises(BrokerDownError):
                await sending.publish("shop.work.v1", Work(order_id=order), message_id=id_)
            # Then the caller knows soon
            assert time.monotonic() - began < 13
        finally:
            breakable.resume()
        # And may send it again under the same id
        await sending.publish("shop.work.v1", Work(order_id=order), message_id=id_)
    scene.accepted.append(order)
    assert scene.amqp.ready(scene.queue.name) >= 2
    scene.worker()
    await scene.until_processed([order])
    (await scene.ledger("an uncertain message to RabbitMQ, sent again")).assert_clean()


async def test_one_id_twice_at_once_and_nowhere_to_go(scene: RabbitScene) -> None:
    # Given two messages with one id at once, of which one has no queue: aiormq finds what came back by its id
    scene.amqp.prepare(scene.queue)
    confirmed = Confirmed(scene.server.url, "a test", channels=1)
    message = aio_pika.Message(b"x", message_id="same", delivery_mode=2)
    results = await asyncio.gather(
        *(confirmed.publish(message, key) for key in [scene.queue.name, "nowhere"] * 20),
        return_exceptions=True,
    )
    await confirmed.close()
    # Then each has the answer that is its own
    assert [isinstance(result, UnroutableError) for result in results] == [False, True] * 20
    assert scene.amqp.ready(scene.queue.name) == 20
