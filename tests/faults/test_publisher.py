"""Messages that are sent without a transaction."""

import asyncio
import time
import uuid

import pytest
from pydantic import BaseModel, SecretStr

from app.core.redis_publisher import BrokerDownError, RefusedError, StreamPublisher
from app.core.worker_settings import WorkerSettings
from support.scene import RedisScene
from support.servers import RedisServer


class Work(BaseModel):
    """Payload of the faulty consumer's messages."""

    order_id: int
    text: str = ""


def publisher(url: str) -> StreamPublisher:
    """A publisher to a Redis of the test's."""
    return StreamPublisher(WorkerSettings(redis_url=SecretStr(url)))


async def test_what_is_confirmed_is_done(scene: RedisScene) -> None:
    orders = await scene.orders(100)
    scene.worker()
    async with publisher(scene.redis_url) as sending:
        await asyncio.gather(*(sending.publish("shop.work.v1", Work(order_id=order)) for order in orders))
    scene.accepted += orders
    await scene.until_processed(orders)
    (await scene.ledger("published directly")).assert_clean()


async def test_an_uncertain_message_sent_again_is_done_once(
    scene_own_redis: RedisScene, own_redis: RedisServer
) -> None:
    scene = scene_own_redis
    # Given a Redis that freezes, so that nobody knows whether it took the message
    (order,) = await scene.orders(1)
    id_ = uuid.uuid4()
    async with publisher(own_redis.url) as sending:
        await sending.publish("shop.ping.v1", Work(order_id=0))
        own_redis.pause()
        began = time.monotonic()
        with pytest.raises(BrokerDownError):
            await sending.publish("shop.work.v1", Work(order_id=order), message_id=id_)
        # Then the caller knows soon
        assert time.monotonic() - began < 12
        # And may send it again under the same id
        own_redis.resume()
        await sending.publish("shop.work.v1", Work(order_id=order), message_id=id_)
    scene.accepted.append(order)
    assert scene.redis.xlen(scene.topic) == 2
    scene.worker()
    await scene.until_processed([order])
    (await scene.ledger("an uncertain message, sent again")).assert_clean()


async def test_refusals(scene: RedisScene) -> None:
    scene.redis.set("shop.wrong", "not a stream")
    async with publisher(scene.redis_url) as sending:
        with pytest.raises(RefusedError, match="WRONGTYPE"):
            await sending.publish("shop.wrong.v1", Work(order_id=1))
        with pytest.raises(ValueError, match="bytes"):
            await sending.publish("shop.work.v1", Work(order_id=1, text="x" * 300_000))
        with pytest.raises(ValueError, match="version"):
            await sending.publish("shop.work", Work(order_id=1))
