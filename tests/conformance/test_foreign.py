"""Messages of programs that write no CloudEvents."""

import json
from collections.abc import Mapping

import pytest

from support.scene import RedisScene, Scene
from support.scenes import SceneMaker
from support.wait import eventually


@pytest.fixture
def scene(make_scene: SceneMaker, postgres_url: str) -> Scene:
    """A scene for the consumer that translates."""
    return make_scene(postgres_url, group="foreign")


def put(scene: Scene, fields: Mapping[str, str]) -> None:
    """Send what a foreign program would: an entry with fields, or a body."""
    if isinstance(scene, RedisScene):
        scene.redis.xadd(scene.topic, dict(fields))
    else:
        scene.put([json.dumps(fields).encode()])


async def test_foreign_messages_are_done_once_across_a_kill(scene: Scene) -> None:
    # Given a worker that has foreign messages in hand, each sent twice, and CloudEvents between them
    orders = await scene.orders(24)
    held, foreign = orders[:4], orders[4:20]
    for order in held:
        put(scene, {"order_id": str(order), "number": f"n{order}", "do": "wait"})
    worker = scene.worker("foreign")
    await eventually(lambda: len(scene.starts()) == len(held), 60)
    for order in foreign:
        for _ in range(2):
            put(scene, {"order_id": str(order), "number": f"n{order}"})
    scene.accepted += [*held, *foreign]
    scene.send(orders[20:])
    # And one that nobody understands
    put(scene, {"amount": "7"})
    # When it is killed
    worker.kill9()
    scene.release()
    scene.worker("foreign")
    # Then each is done once
    await scene.until_processed(orders, 120)
    await eventually(lambda: scene.dead() and scene.left() == 0, 60)
    (await scene.ledger("foreign messages across a kill, each sent twice")).assert_clean()
    # And what is set aside is as it came; twice, if the first worker died before it had acknowledged it
    for letter in scene.dead():
        assert "KeyError: 'order_id'" in letter.reason
        came = (
            letter.fields["amount"] if isinstance(scene, RedisScene) else json.loads(letter.event)["amount"]
        )
        assert came in (b"7", "7")


async def test_without_a_number_a_message_is_what_the_broker_calls_it(scene: Scene) -> None:
    # Given messages without a number: an entry has an id in Redis, and aio-pika gives each message one
    orders = scene.accepted = await scene.orders(10)
    for order in orders:
        put(scene, {"order_id": str(order)})
    scene.worker("foreign")
    # Then each is done once
    await scene.until_processed(orders)
    (await scene.ledger("foreign messages without a number")).assert_clean()
