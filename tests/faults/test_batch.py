"""Batches on both brokers: workers are killed, messages are bad, repeated and slow, the database is away."""

import asyncio
import random
from collections import Counter

import pytest
from sqlalchemy import text

from app.core.batch import claim_all
from support import forked
from support.producer import sessions_for
from support.scene import Scene
from support.scenes import SceneMaker
from support.servers import PostgresServer
from support.wait import eventually, stays

WORKER = "faulty_batch"
BLOCKED = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def batch_scene(make_scene: SceneMaker, database: str) -> Scene:
    """A scene for the batch consumer."""
    scene = make_scene(database, topic="shop.batch", group=WORKER)
    scene.settings["WORKER_CONCURRENCY"] = "100"
    return scene


@pytest.fixture
def scene(make_scene: SceneMaker, postgres_url: str) -> Scene:
    """Servers that stay well."""
    return batch_scene(make_scene, postgres_url)


@pytest.fixture
def scene_own_postgres(make_scene: SceneMaker, own_postgres_url: str) -> Scene:
    """A PostgreSQL of the scene's own, to break."""
    return batch_scene(make_scene, own_postgres_url)


def sizes(scene: Scene) -> list[int]:
    """How many messages each call of the handler got."""
    file = scene.folder / "sizes"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def deliveries(scene: Scene) -> set[int]:
    """The delivery numbers under which messages were handled."""
    return {delivery for _, delivery, _ in scene.starts()}


async def test_batches_with_eight_kills(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given two replicas and 2,000 messages. They start as slowly as in life: with those that are back at once
    # the same messages are in hand at kill after kill, and are then done one by one
    monkeypatch.setattr(forked, "can_be", lambda _command: False)
    orders = await scene.orders(2000)
    replicas = [scene.worker(WORKER), scene.worker(WORKER)]
    scene.send(orders)
    # When one or the other is killed at eight random moments
    chance = random.Random(8)
    for kill in range(8):
        goal = (kill + 1) * len(orders) // 10
        await eventually(lambda: len(scene.starts()) >= goal, 60, "progress")  # noqa: B023
        victim = chance.randrange(2)
        replicas[victim].kill9()
        replicas[victim] = scene.worker(WORKER)
    # Then every order is processed once, and not one by one, except what was in hand at several kills
    await scene.until_processed(orders, 120)
    (await scene.ledger("batches: kill -9 x8 over 2,000 messages, 2 replicas")).assert_clean()
    assert scene.dead() == []
    assert max(sizes(scene)) == 100
    assert sum(size for size in sizes(scene) if size >= 50) > 400


async def test_a_bad_message_does_not_spoil_its_batch(scene: Scene) -> None:
    # Given a hundred messages that wait, two of which fail, one for ever
    orders = await scene.orders(100)
    bug, flapping, *good = orders
    scene.send(good[:40])
    scene.send_raw(bad := scene.event(bug, do="bug"))
    scene.send([flapping], do="flap")
    scene.send(good[40:])
    scene.worker(WORKER)
    # Then the others are done in their first delivery, and the bad one is set aside at once
    await scene.until_processed([*good, flapping])
    assert [letter.event for letter in scene.dead()] == [bad]
    assert {delivery for order, delivery, _ in scene.starts() if order in good} == {1}
    assert max(delivery for order, delivery, _ in scene.starts() if order == flapping) == 2
    # And they had been in a batch with it
    assert max(sizes(scene)) > 50
    (await scene.ledger("batches: two bad ones among 100")).assert_clean()


async def test_a_message_that_hangs_does_not_spoil_its_batch(scene: Scene) -> None:
    # Given a batch in which one message never ends
    scene.settings |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "4", "WORKER_MAX_DELIVERIES": "2"}
    hanging, *others = await scene.orders(40)
    scene.send(others[:20])
    scene.send_raw(scene.event(hanging, do="wait"))
    scene.send(others[20:])
    scene.worker(WORKER)
    # Then the others are done alone, without a second delivery, and it is set aside with the reason
    await scene.until_processed(others, 30)
    await eventually(lambda: len(scene.dead()) == 1, 30)
    assert "took longer than 4 s" in scene.dead()[0].reason
    assert {delivery for order, delivery, _ in scene.starts() if order != hanging} == {1}
    (await scene.ledger("batches: one hangs")).assert_clean()


async def test_a_message_that_kills_its_worker_is_set_aside(scene: Scene) -> None:
    # Given poison in the middle of a batch
    poison, *others = await scene.orders(60)
    scene.send(others[:30])
    scene.send_raw(bad := scene.event(poison, do="kill"))
    scene.send(others[30:])
    replicas = [scene.worker(WORKER), scene.worker(WORKER)]

    def supervise() -> bool:
        for index, worker in enumerate(replicas):
            if not worker.running:
                replicas[index] = scene.worker(WORKER)
        return len(scene.dead()) >= 1

    # When supervisors start workers again as often as they die
    await eventually(supervise, 120, "the message is set aside")
    # Then it is set aside, and it alone
    await scene.until_processed(others, 120)
    assert [letter.event for letter in scene.dead()] == [bad]
    (await scene.ledger("batches: poison among 60")).assert_clean()


async def test_repeats_within_and_across_batches(scene: Scene) -> None:
    # Given two replicas
    replicas = [scene.worker(WORKER), scene.worker(WORKER)]
    for replica in replicas:
        await replica.until_ready()
    # When each of 600 messages comes three times, twice in a row and once much later
    orders = await scene.orders(600)
    events = [scene.event(order) for order in orders]
    doubled = [event for event in events for _ in range(2)]
    scene.accepted += orders
    scene.put([*doubled, *random.Random(3).sample(events, len(events))])
    # Then each order is processed once, and the handler was never given a message twice
    await scene.until_processed(orders)
    await eventually(lambda: scene.left() == 0, 30)
    assert max(sizes(scene)) > 20
    assert scene.dead() == []
    (await scene.ledger("batches: each message three times, 2 replicas")).assert_clean()


async def test_database_restarted_and_away(scene_own_postgres: Scene, own_postgres: PostgresServer) -> None:
    scene = scene_own_postgres
    orders = await scene.orders(1500)
    scene.send(orders[:1000])
    worker = scene.worker(WORKER)
    # When the database is restarted in the middle
    await eventually(lambda: len(scene.starts()) > 200, 30)
    await asyncio.to_thread(own_postgres.restart)
    await scene.until_processed(orders[:1000], 60)
    # And is away for a while when more messages come
    await asyncio.to_thread(own_postgres.stop)
    scene.send(orders[1000:])
    await eventually(lambda: not worker.ready(), 15, "readiness turns red")
    await stays(lambda: worker.running and scene.dead() == [], 15)
    await asyncio.to_thread(own_postgres.start)
    # Then all is done, and no message paid for it with an attempt. RabbitMQ counts what was on its way when
    # consuming was paused, once for each outage.
    await scene.until_processed(orders, 60)
    assert max(deliveries(scene)) <= (1 if scene.broker == "redis" else 3)
    assert scene.dead() == []
    (await scene.ledger("batches: PostgreSQL restarted, then away for 15 s")).assert_clean()


async def test_two_batches_with_the_same_messages_do_not_deadlock(postgres_url: str) -> None:
    async with sessions_for(postgres_url) as sessions:

        async def claim(ids: list[str]) -> set[str]:
            async with sessions.begin() as session:
                return await claim_all(session, "c", ids, 60)

        async def waiting() -> bool:
            async with sessions() as session:
                return bool((await session.execute(BLOCKED)).scalar_one() == 2)

        # Given two batches with the same messages in opposite order, both held up at the one in the middle
        async with sessions() as holder:
            await claim_all(holder, "c", ["m"], 60)
            forth = asyncio.create_task(claim(["a", "m", "z"]))
            back = asyncio.create_task(claim(["z", "m", "a"]))
            await eventually(waiting, 1.5, "both wait")
            # When it is let go
            await holder.rollback()
        # Then neither waits for the other in a circle: one of them gets all messages, the other none
        assert sorted([len(await forth), len(await back)]) == [0, 3]


async def test_sigterm_finishes_the_batch(scene: Scene) -> None:
    # Given a worker in the middle of a batch that takes a second
    scene.settings["WORKER_DRAIN_SECONDS"] = "30"
    *orders, slow = await scene.orders(30)
    scene.send(orders)
    scene.send([slow], do="sleep", seconds=1)
    worker = scene.worker(WORKER)
    await eventually(lambda: len(scene.starts()) == 30, 30)
    # When it is asked to stop
    assert worker.sigterm() == 0, worker.log_tail()
    # Then the batch is done and nothing is left
    assert scene.left() == 0
    (await scene.ledger("batches: SIGTERM, drained")).assert_clean()


async def test_sigterm_hands_a_long_batch_back(scene: Scene) -> None:
    # Given a worker in the middle of a batch that will not end within its drain time
    *orders, slow = await scene.orders(30)
    scene.send(orders)
    scene.send([slow], do="wait")
    worker = scene.worker(WORKER)
    await eventually(lambda: len(scene.starts()) == 30, 30)
    # When it is asked to stop
    assert worker.sigterm() == 0, worker.log_tail()
    assert await scene.effects() == []
    # Then another one does all of it; the delivery did not count
    scene.release()
    scene.worker(WORKER)
    await scene.until_processed([*orders, slow])
    assert deliveries(scene) == {1}
    assert set(Counter(order for order, _, _ in scene.starts()).values()) == {2}
    (await scene.ledger("batches: SIGTERM, handed back")).assert_clean()
