"""Strict order on both brokers: one active worker, others that take over, and no step before its former one.

A message is a step of an order. The effect says which step of that order was done last, as far as committed,
so a step that overtook another one shows, whatever the numbers of the rows are.
"""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from pydantic import BaseModel

from app.core.in_order import partition
from app.core.outbox import enqueue
from app.core.rabbit_topology import Queue
from app.core.redis_stream import Entry
from app.core.stream_in_order import OrderedGroup, Turn
from support.ledger import Ledger
from support.producer import Sessions, sessions_for
from support.scene import RabbitScene, RedisScene, Scene
from support.scenes import SceneMaker
from support.servers import PostgresServer, RedisServer
from support.wait import eventually, stays
from support.workers import WorkerProcess

WORKER, TOPIC = "faulty_in_order", "shop.steps"
PARTS = 4
# RabbitMQ looks every 20 s and gives a frozen connection up when two heartbeats did not come.
FROZEN_FOR_RABBIT = 75.0
Steps = list[tuple[int, int]]


class OrderedRabbitScene(RabbitScene):
    """The queue has a single active consumer, unless the test is about the plain one."""

    single_active = True

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [f"{self.group}.{number}" for number in range(PARTS)]
        self.amqp.delete(*names, *(f"{name}.dead" for name in names))

    @property
    def queue(self) -> Queue:
        return Queue(self.group, self.topic, self.exchange, single_active=self.single_active)


def ordered_scene(make_scene: SceneMaker, database: str) -> Scene:
    """A scene for the ordered consumer."""
    return make_scene(database, OrderedRabbitScene, topic=TOPIC, group=WORKER)


@pytest.fixture
def scene(make_scene: SceneMaker, postgres_url: str) -> Scene:
    """Servers that stay well."""
    return ordered_scene(make_scene, postgres_url)


@pytest.fixture
def scene_own_postgres(make_scene: SceneMaker, own_postgres_url: str) -> Scene:
    """A PostgreSQL of the scene's own, to break."""
    return ordered_scene(make_scene, own_postgres_url)


# -- steps and what became of them -----------------------------------------------------------------------


def steps_of(orders: list[int], count: int) -> Steps:
    """`count` steps of each order, those of all orders in turn."""
    return [(order, step) for step in range(1, count + 1) for order in orders]


def send(scene: Scene, steps: Iterable[tuple[int, int]], **data: Any) -> Steps:
    """Send steps in this order."""
    chosen = list(steps)
    scene.put(scene.event(order, step=step, **data) for order, step in chosen)
    return chosen


async def done(scene: Scene) -> Steps:
    """The steps whose effect is committed, in the order of the effects."""
    rows = await scene.sql("SELECT order_id, detail FROM order_event WHERE kind = 'processed' ORDER BY id")
    return [(row["order_id"], int(row["detail"].partition(" ")[0])) for row in rows]


async def overtaken(scene: Scene) -> list[str]:
    """Effects that did not find the former step of their order done."""
    rows = await scene.sql("SELECT order_id, detail FROM order_event WHERE kind = 'processed' ORDER BY id")
    found = [(row["order_id"], *map(int, re.findall(r"\d+", row["detail"]))) for row in rows]
    return [f"order {order}: {step} after {former}" for order, step, former in found if step != former + 1]


async def until_done(scene: Scene, steps: Steps, deadline_s: float = 60) -> None:
    """Wait until all `steps` are done."""

    async def all_done() -> bool:
        return set(steps) <= set(await done(scene))

    await eventually(all_done, deadline_s, f"{len(steps)} steps are done", ignore=(OSError,))


async def in_order(scene: Scene, steps: Steps, title: str) -> None:
    """All `steps` were done once each, in the order in which they were sent; draws up the account."""
    effects = await done(scene)
    recovered = sum(delivery == 2 for _, delivery, _ in scene.starts())
    Ledger.of(title, attempted=steps, accepted=steps, effects=effects, recovered=recovered).assert_clean()
    assert await overtaken(scene) == []
    assert effects == steps


def pids(scene: Scene) -> list[int]:
    """The processes that handled messages, each start of a handler one."""
    return [pid for _, _, pid in scene.starts()]


def active(scene: Scene, replicas: list[WorkerProcess]) -> WorkerProcess:
    """The replica that started the newest handler."""
    newest = pids(scene)[-1]
    return next((replica for replica in replicas if replica.pid == newest), replicas[0])


class Step(BaseModel):
    """Payload of a step."""

    order_id: int
    step: int


async def enqueue_step(sessions: Sessions, order: int, step: int) -> None:
    """Enqueue a step in a transaction of its own, in the partition of its order."""
    key = f"order-{order}"
    topic = partition(TOPIC, key, PARTS)
    async with sessions.begin() as session:
        await enqueue(session, "shop.work.v1", Step(order_id=order, step=step), key=key, topic=topic)


# -- tests -----------------------------------------------------------------------------------------------


async def test_the_plain_consumer_does_not_keep_order(scene: Scene) -> None:
    # Given steps of twenty orders, the first one of each failing once
    if isinstance(scene, OrderedRabbitScene):
        scene.single_active = False
    orders = await scene.orders(20)
    steps = send(scene, steps_of(orders, 1), do="flap")
    steps += send(scene, steps_of(orders, 3)[len(orders) :])
    # When the plain consumer does them
    scene.worker(WORKER, FAULTY_PLAIN="1")
    await until_done(scene, steps)
    # Then later steps have overtaken earlier ones: the check of the other tests can fail
    assert await overtaken(scene) != []
    assert await done(scene) != steps


async def test_order_over_kills(scene: Scene) -> None:
    # Given three replicas and 600 steps of 60 orders
    replicas = [scene.worker(WORKER) for _ in range(3)]
    steps = send(scene, steps_of(await scene.orders(60), 10))
    # When the active one is killed six times, and others as well
    chance = random.Random(6)
    for kill in range(12):
        goal = (kill + 1) * len(steps) // 14
        await eventually(lambda: len(scene.starts()) >= goal, 60, "progress")  # noqa: B023
        victim = active(scene, replicas) if kill % 2 else replicas[chance.randrange(3)]
        victim.kill9()
        replicas[replicas.index(victim)] = scene.worker(WORKER)
    await until_done(scene, steps, 120)
    # Then all steps were done in the order in which they were sent
    assert len(set(pids(scene))) > 3
    assert scene.dead() == []
    await in_order(scene, steps, "in order: kill -9 x12 over 600 steps, 3 replicas")


async def test_order_over_a_rolling_restart(scene: Scene) -> None:
    # Given three replicas in the middle of steps
    replicas = [scene.worker(WORKER) for _ in range(3)]
    steps = send(scene, steps_of(await scene.orders(40), 8), do="sleep", seconds=0.01)
    # When all of them are replaced, one after the other, twice
    for round_ in range(6):
        goal = (round_ + 1) * len(steps) // 8
        await eventually(lambda: len(scene.starts()) >= goal, 60, "progress")  # noqa: B023
        old = active(scene, replicas)
        assert await asyncio.to_thread(old.sigterm) == 0, old.log_tail()
        replicas[replicas.index(old)] = scene.worker(WORKER)
    await until_done(scene, steps)
    # Then all steps were done in order, none begun twice
    assert len(set(pids(scene))) > 3
    assert len(scene.starts()) == len(steps)
    await in_order(scene, steps, "in order: 6 SIGTERMs, 3 replicas")


async def test_a_retry_waits_in_place(scene: Scene) -> None:
    # Given steps of which every tenth fails twice, and two replicas
    orders = await scene.orders(30)
    replicas = [scene.worker(WORKER), scene.worker(WORKER)]
    steps: Steps = []
    for number, step in enumerate(steps_of(orders, 3)):
        steps += send(scene, [step], **({"do": "flap", "times": 2} if number % 10 == 0 else {}))
    await until_done(scene, steps)
    # Then nothing has overtaken them, each attempt was counted, and the active worker stayed so
    failing = {order for order, _ in steps[::10]}
    assert {delivery for order, delivery, _ in scene.starts() if order in failing} == {1, 2, 3}
    assert len(scene.starts()) == len(steps) + 2 * len(steps[::10])
    assert len(set(pids(scene))) == 1
    assert all(replica.ready() for replica in replicas)
    await in_order(scene, steps, "in order: retries")


@pytest.mark.parametrize("end", ["kill -9", "SIGTERM"])
async def test_a_standby_goes_on_with_a_retry(scene: Scene, end: str) -> None:
    # Given a step that fails, with a long pause, and others behind it
    scene.settings |= {
        "WORKER_RETRY_BASE_SECONDS": "86400",
        "WORKER_RETRY_CAP_SECONDS": "86400",
        "WORKER_DRAIN_SECONDS": "30",
    }
    orders = await scene.orders(5)
    steps = send(scene, steps_of(orders[:1], 1), do="flap")
    steps += send(scene, steps_of(orders[1:], 1))
    replicas = [scene.worker(WORKER), scene.worker(WORKER)]
    await eventually(lambda: len(scene.starts()) == 1, 30)
    await stays(lambda: len(scene.starts()) == 1, 2, "what is behind it waits")
    # When its worker ends in the pause; asked to, it does not wait
    if end == "SIGTERM":
        assert await asyncio.to_thread(active(scene, replicas).sigterm, 10) == 0
    else:
        active(scene, replicas).kill9()
    # Then the standby goes on with it first, the delivery counted
    await until_done(scene, steps)
    assert scene.starts()[1][:2] == (orders[0], 2)
    assert len(set(pids(scene))) == 2
    await in_order(scene, steps, f"in order: {end} during a retry's pause")


async def test_what_is_given_up_lets_the_next_one_go_on(scene: Scene) -> None:
    # Given two steps that cannot be done, one at once and one after its attempts, between others
    scene.settings["WORKER_MAX_DELIVERIES"] = "3"
    good = await scene.orders(9)
    refused, failing = await scene.orders(2)
    steps = send(scene, steps_of(good[:3], 1))
    send(scene, [(refused, 1)], do="refuse")
    steps += send(scene, steps_of(good[3:6], 1))
    send(scene, [(failing, 1)], do="flap", times=9)
    steps += send(scene, steps_of(good[6:], 1))
    scene.worker(WORKER), scene.worker(WORKER)
    # Then they are set aside with the reason, and the others are done in order
    await until_done(scene, steps)
    reasons = [letter.reason for letter in scene.dead()]
    assert len(reasons) == 2
    assert "no such step" in reasons[0]
    assert "gave up after 3 attempts" in reasons[1]
    assert sum(order == failing for order, _, _ in scene.starts()) == 3
    await in_order(scene, steps, "in order: dead letters")


async def test_a_message_that_kills_its_worker_is_set_aside_alone(scene: Scene) -> None:
    # Given poison between steps of two orders
    poison, *orders = await scene.orders(3)
    steps = send(scene, steps_of(orders, 5))
    scene.send_raw(bad := scene.event(poison, do="kill"))
    steps += send(scene, [(order, step + 5) for order, step in steps_of(orders, 5)])
    replicas = [scene.worker(WORKER), scene.worker(WORKER)]

    def supervise() -> bool:
        for index, worker in enumerate(replicas):
            if not worker.running:
                replicas[index] = scene.worker(WORKER)
        return len(scene.dead()) == 1

    # When supervisors start workers again as often as they die
    await eventually(supervise, 120, "the message is set aside")
    await until_done(scene, steps)
    # Then it is set aside after five deliveries, and no neighbour was begun twice
    (letter,) = scene.dead()
    assert letter.event == bad
    assert "5 times" in letter.reason
    assert sum(order == poison for order, _, _ in scene.starts()) == 5
    assert len(scene.starts()) == len(steps) + 5
    await in_order(scene, steps, "in order: a message that kills its worker")


async def test_a_database_that_is_away_is_waited_for_in_place(
    scene_own_postgres: Scene, own_postgres: PostgresServer
) -> None:
    scene = scene_own_postgres
    # Given a RabbitMQ that lets a message be held for less than the outage takes, so that it is returned
    # several times, and few attempts; and two replicas in the middle of steps
    scene.settings |= {
        "WORKER_HANDLER_TIMEOUT_SECONDS": "4",
        "RABBITMQ_CONSUMER_TIMEOUT_SECONDS": "6",
        "WORKER_MAX_DELIVERIES": "3",
    }
    replicas = [scene.worker(WORKER), scene.worker(WORKER)]
    steps = send(scene, steps_of(await scene.orders(60), 10))
    await eventually(lambda: len(scene.starts()) > 100, 30)
    # When the database is restarted, and later is away for a while
    await asyncio.to_thread(own_postgres.restart)
    await eventually(lambda: len(scene.starts()) > 200, 30)
    worker = active(scene, replicas)
    await asyncio.to_thread(own_postgres.stop)
    await eventually(lambda: not worker.ready(), 15, "readiness turns red")
    await stays(lambda: all(replica.running for replica in replicas), 10)
    await asyncio.to_thread(own_postgres.start)
    await until_done(scene, steps)
    # Then nothing was overtaken, no attempt was used up, and the same worker was active all the time
    assert {delivery for _, delivery, _ in scene.starts()} == {1}
    assert len(set(pids(scene))) == 1
    assert scene.dead() == []
    await in_order(scene, steps, "in order: PostgreSQL restarted, then away for 10 s")


async def test_order_over_broken_connections(scene: Scene) -> None:
    # Given two replicas in the middle of steps
    for _ in range(2):
        await scene.worker(WORKER).until_ready()
    steps = send(scene, steps_of(await scene.orders(50), 8), do="sleep", seconds=0.01)
    # When all connections to the broker are closed, four times
    for cut in range(4):
        goal = (cut + 1) * len(steps) // 6
        await eventually(lambda: len(scene.starts()) >= goal, 60, "progress")  # noqa: B023
        if isinstance(scene, RedisScene):
            scene.redis.client_kill_filter(_type="normal", skipme=True)
        else:
            assert isinstance(scene, OrderedRabbitScene)
            await asyncio.to_thread(scene.server.rabbitmqctl, "close_all_connections", "a test")
    await until_done(scene, steps)
    # Then all steps were done in order
    assert scene.dead() == []
    await in_order(scene, steps, "in order: connections to the broker closed x4, 2 replicas")


async def test_answers_of_redis_that_get_lost_cost_no_delivery(
    postgres_url: str, redis_server: RedisServer
) -> None:
    redis_server.flush()
    with RedisScene(postgres_url, redis_server.url, topic=TOPIC, group=WORKER) as scene:
        # Given two replicas in the middle of steps
        replicas = [await scene.worker(WORKER).until_ready() for _ in range(2)]
        steps = send(scene, steps_of(await scene.orders(40), 8))
        for goal in (80, 160):
            await eventually(lambda: len(scene.starts()) >= goal, 60, "progress")  # noqa: B023
            # When Redis is silent for longer than a lease, and then carries out what was asked meanwhile
            redis_server.pause()
            try:
                await stays(lambda: all(replica.running for replica in replicas), 7)
            finally:
                redis_server.resume()
        await until_done(scene, steps)
        # Then all steps were done in order, with at most one delivery more where another worker took over
        assert max(delivery for _, delivery, _ in scene.starts()) <= 3
        assert scene.dead() == []
        await in_order(scene, steps, "in order: Redis silent for 7 s, twice, 2 replicas")


async def test_the_standby_takes_over_within_the_lease(scene: Scene) -> None:
    # Given a worker in the middle of a step, and one that stands by
    orders = await scene.orders(3)
    first = await scene.worker(WORKER).until_ready()
    steps = send(scene, steps_of(orders[:1], 1), do="wait")
    steps += send(scene, steps_of(orders[1:], 1))
    await eventually(lambda: len(scene.starts()) == 1, 30)
    second = await scene.worker(WORKER).until_ready()
    await stays(lambda: len(scene.starts()) == 1, 2, "the standby does nothing")
    # When the active one is killed
    first.kill9()
    killed = time.monotonic()
    # Then the other one begins the same step within the lease (of 3 s, and one look more)
    await eventually(lambda: len(scene.starts()) == 2, 10)
    taken = time.monotonic() - killed
    assert taken < float(scene.settings["WORKER_LEASE_SECONDS"]) + 1.5
    assert scene.starts()[1] == (orders[0], 2, second.pid)
    scene.release()
    await until_done(scene, steps)
    await in_order(scene, steps, f"in order: taken over after {taken:.1f} s")


async def test_sigterm_gives_the_turn_to_the_standby_at_once(scene: Scene) -> None:
    # Given a worker in the middle of a step that will not end within its drain time, and one that stands by
    scene.settings |= {"WORKER_LEASE_SECONDS": "60", "WORKER_DRAIN_SECONDS": "1"}
    orders = await scene.orders(3)
    first = await scene.worker(WORKER).until_ready()
    steps = send(scene, steps_of(orders[:1], 1), do="wait")
    steps += send(scene, steps_of(orders[1:], 1))
    await eventually(lambda: len(scene.starts()) == 1, 30)
    second = await scene.worker(WORKER).until_ready()
    # When the active one is asked to stop
    assert await asyncio.to_thread(first.sigterm) == 0, first.log_tail()
    # Then the other one does not wait for the lease, and begins the same step
    await eventually(lambda: len(scene.starts()) == 2, 5)
    assert scene.starts()[1][::2] == (orders[0], second.pid)
    scene.release()
    await until_done(scene, steps)
    await in_order(scene, steps, "in order: SIGTERM, handed back at the front")


@pytest.mark.long
async def test_a_frozen_worker_is_replaced_and_breaks_no_order(scene: Scene) -> None:
    # Given a worker in the middle of a step, its effect written and not committed, and one that stands by
    scene.settings["WORKER_HANDLER_TIMEOUT_SECONDS"] = "4"
    orders = await scene.orders(2)
    first = await scene.worker(WORKER).until_ready()
    second = await scene.worker(WORKER).until_ready()
    steps = send(scene, [(orders[0], 1)], do="freeze")
    await eventually((scene.folder / "waiting").exists, 30)
    # When it is frozen for as long as it takes
    first.pause()
    frozen = time.monotonic()
    scene.release()
    steps += send(scene, [(orders[0], 2), (orders[1], 1), (orders[0], 3)])
    # The frozen one's session holds the inbox row until PostgreSQL ends it, 5 s after the handler's deadline.
    limit = FROZEN_FOR_RABBIT if scene.broker == "rabbitmq" else 15
    await eventually(lambda: len(scene.starts()) > 1, limit, "the standby takes over")
    taken = time.monotonic() - frozen
    await until_done(scene, steps, 60)
    # And comes back, when more steps wait
    first.resume()
    steps += send(scene, [(orders[0], 4), (orders[1], 2)])
    await until_done(scene, steps)
    await first.until_ready()
    # Then it has changed nothing
    assert set(pids(scene)[1:]) == {second.pid}
    assert await asyncio.to_thread(first.sigterm) == 0, first.log_tail()
    assert scene.dead() == []
    await in_order(scene, steps, f"in order: frozen, replaced after {taken:.0f} s")


async def test_partitions_from_the_outbox_keep_the_order_of_each_key(scene: Scene) -> None:
    # Given two replicas, each with all four partitions, and a relay
    replicas = [scene.worker(WORKER, FAULTY_PARTITIONS=str(PARTS)) for _ in range(2)]
    for replica in replicas:
        await replica.until_ready()
    scene.worker("outbox_relay" if scene.broker == "redis" else "rabbit_relay")
    orders = await scene.orders(40)
    # When the steps of forty orders are enqueued, and one replica is killed in the middle
    steps = steps_of(orders, 6)
    async with sessions_for(scene.postgres_url) as sessions:
        for start in range(0, len(steps), len(orders)):
            await asyncio.gather(
                *(enqueue_step(sessions, *step) for step in steps[start : start + len(orders)])
            )
    await eventually(lambda: len(scene.starts()) > 60, 60)
    replicas[0].kill9()
    await until_done(scene, steps)
    # Then the steps of each order were done in its order
    assert await overtaken(scene) == []
    ledger = Ledger.of(
        "in order: 4 partitions from the outbox, one of 2 replicas killed",
        attempted=steps,
        accepted=steps,
        effects=await done(scene),
        recovered=len(scene.starts()) - len(steps),
    )
    ledger.assert_clean()
    assert await asyncio.to_thread(replicas[1].sigterm) == 0, replicas[1].log_tail()


# -- how work is handed out on Redis ---------------------------------------------------------------------


@pytest.fixture
async def groups(redis_url: str) -> AsyncIterator[list[OrderedGroup]]:
    """Three workers of one group with a lease of half a second, and five entries that nobody has read."""
    workers = [OrderedGroup(redis_url, TOPIC, WORKER, lease=0.5) for _ in range(3)]
    await workers[0].ensure()
    for number in range(5):
        await workers[0].client.xadd(TOPIC, {"event": f"{number}"})
    yield workers
    for worker in workers:
        await worker.close()


def given(turn: Turn) -> tuple[bytes, int] | None:
    """What a worker was given: the event and the number of the delivery."""
    return (turn.entry.fields[b"event"], turn.entry.count) if turn.entry is not None else None


async def take(worker: OrderedGroup) -> Entry:
    """What `worker` is given, which is something."""
    turn = await worker.next()
    assert turn.entry is not None
    return turn.entry


async def test_an_answer_that_got_lost_is_not_counted_on_redis(groups: list[OrderedGroup]) -> None:
    first, second, _ = groups
    assert given(await first.next()) == (b"0", 1)
    assert given(await first.next()) == (b"0", 1)
    # One that stands by gets nothing
    assert await second.next() == Turn(active=False)


async def test_the_oldest_comes_first_whoever_had_it_on_redis(groups: list[OrderedGroup]) -> None:
    # Given three entries that a worker read as the plain consumer does: one waits for a retry, one was handed
    # back, one is in its hands
    plain, ordered, _ = groups
    held = await plain.read(3, wait=False)
    await plain.park(held[0], 60, counted=True)
    await plain.park(held[1], 0, counted=False)
    # Then they come in their order, before what nobody has read
    found = []
    while (turn := await ordered.next()).entry is not None:
        found.append(given(turn))
        await ordered.ack([turn.entry.id])
    assert found == [(b"0", 2), (b"1", 1), (b"2", 2), (b"3", 1), (b"4", 1)]
    assert await ordered.client.zcard(ordered.retries) == 0
    # And when there are no more, it is told after which one the next will come
    assert turn == Turn(active=True, after=(await plain.client.xinfo_stream(TOPIC))["last-generated-id"])


async def test_a_lease_that_ran_out_is_taken_over_with_the_entry_on_redis(groups: list[OrderedGroup]) -> None:
    first, second, third = groups
    late = await take(first)

    async def taken_over() -> bool:
        return (await second.next()).active

    await eventually(taken_over, 5, "the lease is over")
    assert given(await second.next()) == (b"0", 2)
    # Whoever comes late changes nothing, and is told so
    assert await first.renew([late]) == {late.id}
    assert not await first.again(late, counted=True)
    assert not await first.bury(late, "too late")
    assert await first.next() == await third.next() == Turn(active=False)
    assert await first.leave() == 0
    assert given(await second.next()) == (b"0", 2)


async def test_a_lease_that_is_renewed_stays_on_redis(groups: list[OrderedGroup]) -> None:
    first, second, _ = groups
    entry = await take(first)

    async def stands_by() -> bool:
        return await first.renew([entry]) == set() and not (await second.next()).active

    await stays(stands_by, 1.5, "the lease lasts for half a second")
    # A worker that stands by renews nothing
    assert await second.renew([]) == set()
    assert await first.client.get(first.active) == first.me.encode()


async def test_a_lease_that_ran_out_and_nobody_took_is_renewed_on_redis(groups: list[OrderedGroup]) -> None:
    first, second, _ = groups
    entry = await take(first)
    await first.client.delete(first.active)
    assert await second.renew([]) == set()
    assert await first.renew([entry]) == set()
    assert await second.next() == Turn(active=False)


async def test_an_attempt_is_counted_or_not_on_redis(groups: list[OrderedGroup]) -> None:
    first, second, _ = groups
    entry = await take(first)
    assert await first.again(entry, counted=False)
    assert entry.count == 1
    assert await first.again(entry, counted=True)
    assert entry.count == 2
    await first.client.delete(first.active)
    assert given(await second.next()) == (b"0", 3)


async def test_who_leaves_hands_back_and_gives_up_its_turn_on_redis(groups: list[OrderedGroup]) -> None:
    first, second, _ = groups
    await take(first)
    assert await first.leave() == 1
    assert given(await second.next()) == (b"0", 1)


async def test_entries_that_were_deleted_are_passed_over_on_redis(groups: list[OrderedGroup]) -> None:
    first, second, third = groups
    gone = [await take(first), *await second.read(1, wait=False)]
    await first.client.xdel(TOPIC, *(entry.id for entry in gone))
    # One of its own, and one in the hands of another worker
    assert given(await first.next()) == (b"2", 1)
    assert await third.next() == Turn(active=False)
