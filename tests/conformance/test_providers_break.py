"""The outside world answers with errors, late, or not at all; each message makes one effect there."""

from collections.abc import AsyncIterator

import pytest

from support.scene import Scene
from support.wait import eventually, stays
from support.world import running_world
from world.client import World, drop, fail, hang


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A stub of the outside world."""
    async with running_world() as world:
        yield world


async def send_mails(scene: Scene, world: World, count: int, **settings: str) -> list[int]:
    """Messages that each send one e-mail, and a worker for them."""
    orders = scene.send(await scene.orders(count), do="email")
    scene.worker(**world.environment(), **settings)
    return orders


async def one_effect_each(scene: Scene, world: World, orders: list[int], name: str) -> None:
    """Each message has one e-mail and one key, and the account is clean."""
    await scene.until_processed(orders)
    effects = await world.effects("mail")
    keys = {call.key for call in await world.calls("mail")}
    assert len(effects) == len(orders)
    assert len(keys) == len(orders)
    assert None not in keys
    (await scene.ledger(name)).assert_clean()


async def test_503_is_retried_with_the_same_key(scene: Scene, world: World) -> None:
    await world.script("mail", fail(503, 6))
    orders = await send_mails(scene, world, 5)
    await one_effect_each(scene, world, orders, "provider answers 503")
    assert len(await world.calls("mail")) == 11


async def test_429_is_obeyed(scene: Scene, world: World) -> None:
    # Given a provider that asks for three seconds
    await world.script("mail", fail(429, 1, retry_after=3))
    orders = await send_mails(scene, world, 1)
    await one_effect_each(scene, world, orders, "provider answers 429 with Retry-After")
    first, second = await world.calls("mail")
    # Then the next call does not come earlier
    assert (second.at - first.at).total_seconds() >= 3


async def test_400_is_not_retried(scene: Scene, world: World) -> None:
    await world.script("mail", fail(400, 1))
    (order,) = await send_mails(scene, world, 1)
    await eventually(lambda: len(scene.dead()) == 1, 30)
    assert "mail answered 400" in scene.dead()[0].reason
    assert len(await world.calls("mail")) == 1
    assert order not in await scene.effects()


async def test_a_provider_that_hangs(scene: Scene, world: World) -> None:
    # Given a provider that does the work and answers too late, once for each message
    await world.script("mail", hang(30, 3))
    orders = await send_mails(scene, world, 3, WORKER_HANDLER_TIMEOUT_SECONDS="2")
    await one_effect_each(scene, world, orders, "provider hangs after doing the work")


async def test_a_provider_that_drops_the_connection(scene: Scene, world: World) -> None:
    await world.script("mail", drop(4))
    orders = await send_mails(scene, world, 5)
    await one_effect_each(scene, world, orders, "provider drops the connection after doing the work")


async def test_one_message_delivered_twice_at_once_makes_one_call(scene: Scene, world: World) -> None:
    # Given the same message on two replicas at the same moment, and a slow provider
    await world.script("mail", hang(1, 20))
    env = {"WORKER_CONCURRENCY": "1"}
    scene.worker(**world.environment(), **env), scene.worker(**world.environment(), **env)
    orders = await scene.orders(5)
    for order in orders:
        event = scene.event(order, do="email")
        scene.send_raw(event)
        scene.send_raw(event)
    scene.accepted += orders
    await one_effect_each(scene, world, orders, "one message on two replicas, an outside call each")


async def test_a_provider_that_everything_needs_pauses_consuming(scene: Scene) -> None:
    # Given a provider without which nothing can be done, so that the handler answers Down, and two replicas
    (scene.folder / "away").touch()
    orders = scene.send(await scene.orders(200), do="down")
    workers = [scene.worker(), scene.worker()]
    await eventually(lambda: len(scene.starts()) > 0, 30)
    # When it stays away for 20 s
    await stays(lambda: all(worker.running for worker in workers) and scene.dead() == [], 20)
    # Then there are a few deliveries per second at most, and readiness is red
    assert len(scene.starts()) < 150
    assert not all(worker.ready() for worker in workers)
    (scene.folder / "away").unlink()
    # And no attempt was used up when it is back
    await scene.until_processed(orders, 60)
    assert {delivery for _, delivery, _ in scene.starts()} == {1}
    (await scene.ledger("a provider that everything needs is away for 20 s, 2 replicas")).assert_clean()


async def test_a_provider_that_stays_away_ends_in_a_dead_letter(scene: Scene, world: World) -> None:
    await world.script("mail", fail(503, None))
    await send_mails(scene, world, 1, WORKER_MAX_DELIVERIES="3")
    await eventually(lambda: len(scene.dead()) == 1, 30)
    letter = scene.dead()[0]
    assert letter.reason == "gave up after 3 attempts: ExternalServiceError: mail answered 503"
    assert len(await world.calls("mail")) == 3
