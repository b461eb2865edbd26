"""PostgreSQL is restarted, away, silent, and its connections break at the worst moments."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from support.proxy import FaultProxy
from support.scene import Scene
from support.servers import PostgresServer
from support.wait import eventually, stays


def deliveries(scene: Scene) -> set[int]:
    """The delivery numbers under which handlers were started."""
    return {delivery for _, delivery, _ in scene.starts()}


async def test_restarted_in_the_middle(scene_own_postgres: Scene, own_postgres: PostgresServer) -> None:
    scene = scene_own_postgres
    orders = scene.send(await scene.orders(600))
    scene.worker(), scene.worker()
    await eventually(lambda: len(scene.starts()) > 100, 30)
    await asyncio.to_thread(own_postgres.restart)
    await scene.until_processed(orders, 60)
    # No message paid for it with an attempt
    assert deliveries(scene) == {1}
    assert scene.dead() == []
    (await scene.ledger("PostgreSQL restarted mid-backlog, 2 replicas")).assert_clean()


@pytest.mark.long
async def test_away_for_a_minute(scenes_own_postgres: list[Scene], own_postgres: PostgresServer) -> None:
    scenes = scenes_own_postgres
    orders = [await scene.orders(500) for scene in scenes]
    workers = [await scene.worker().until_ready() for scene in scenes]
    # Given a database that is gone when 500 messages arrive
    await asyncio.to_thread(own_postgres.stop)
    for scene, some in zip(scenes, orders, strict=True):
        scene.send(some)
    await eventually(lambda: not any(worker.ready() for worker in workers), 15, "readiness turns red")
    # When it stays away for a minute
    await stays(
        lambda: all(
            worker.running and not worker.ready() and scene.dead() == []
            for worker, scene in zip(workers, scenes, strict=True)
        ),
        60,
    )
    # Then nothing hammers at it meanwhile
    for worker in workers:
        assert worker.log_text().count("\n") < 200
    await asyncio.to_thread(own_postgres.start)
    # And all is done when it is back, no attempt used up
    for scene, worker, some in zip(scenes, workers, orders, strict=True):
        await scene.until_processed(some, 60)
        await worker.until_ready(10)
        assert deliveries(scene) <= {1}, worker.log_text()
        assert scene.dead() == []
        (await scene.ledger("PostgreSQL away for 60 s, 500 waiting")).assert_clean()


@pytest.mark.long
async def test_silent_for_forty_seconds(
    scenes_own_postgres: list[Scene], own_postgres: PostgresServer
) -> None:
    scenes = scenes_own_postgres
    orders = [await scene.orders(300) for scene in scenes]
    workers = [await scene.worker().until_ready() for scene in scenes]
    for scene, some in zip(scenes, orders, strict=True):
        scene.send(some, do="sleep", seconds=0.2)
    await eventually(lambda: all(len(scene.starts()) > 50 for scene in scenes), 30)
    # Given a database that stops answering with its sockets open, while both are in the middle
    own_postgres.pause()
    # Then what was held is let go long before it is back, and before the handlers' deadline of a minute
    await eventually(lambda: not any(worker.ready() for worker in workers), 25, "readiness turns red")
    await eventually(lambda: not any(scene.held() for scene in scenes), 20, "nothing is held")
    await stays(
        lambda: all(worker.running for worker in workers) and not any(scene.dead() for scene in scenes),
        15,
    )
    # And all is done when it answers again, no attempt used up
    own_postgres.resume()
    for scene, some in zip(scenes, orders, strict=True):
        await scene.until_processed(some, 60)
        assert deliveries(scene) == {1}
        assert scene.dead() == []
        (await scene.ledger("PostgreSQL silent for 40 s")).assert_clean()


@pytest.fixture
def proxied(scene: Scene, postgres: PostgresServer) -> Iterator[tuple[Scene, FaultProxy]]:
    """A scene whose workers reach PostgreSQL through a proxy."""
    with FaultProxy(postgres.port) as proxy:
        yield scene, proxy


async def test_dead_connections_in_the_pool(proxied: tuple[Scene, FaultProxy]) -> None:
    scene, proxy = proxied
    # Given a pool full of connections that a firewall has forgotten
    scene.settings["WORKER_HANDLER_TIMEOUT_SECONDS"] = "3"
    first = scene.send(await scene.orders(40), do="sleep", seconds=0.2)
    worker = scene.worker(DATABASE_URL=proxy.url(scene.postgres_url))
    await scene.until_processed(first)
    proxy.half_open()
    orders = scene.send(await scene.orders(40))
    await eventually(lambda: not worker.ready(), 20, "readiness turns red")
    # When new connections work again
    proxy.reset_connections()
    proxy.pass_through()
    # Then all is done, and no attempt was used up
    await scene.until_processed(orders, 40)
    assert deliveries(scene) == {1}
    (await scene.ledger("half-open connections to PostgreSQL")).assert_clean()


async def test_connection_lost_between_execute_and_commit(proxied: tuple[Scene, FaultProxy]) -> None:
    scene, proxy = proxied
    # Given a connection that breaks when COMMIT is sent, before the server gets it; three times
    proxy.close_after(b"COMMIT", "to_server", times=3)
    orders = scene.send(await scene.orders(30))
    scene.worker(DATABASE_URL=proxy.url(scene.postgres_url))
    # Then the work is rolled back and done again, without using up an attempt
    await scene.until_processed(orders)
    assert proxy.triggered.is_set()
    assert deliveries(scene) == {1}
    (await scene.ledger("connection lost between execute and commit")).assert_clean()


async def test_commit_done_and_answer_lost(proxied: tuple[Scene, FaultProxy]) -> None:
    scene, proxy = proxied
    # Given a connection that breaks after the server has committed; three times
    proxy.close_after(b"COMMIT", "to_client", times=3)
    orders = scene.send(await scene.orders(30))
    scene.worker(DATABASE_URL=proxy.url(scene.postgres_url))
    # Then the inbox knows that the work is done
    await scene.until_processed(orders)
    await eventually(lambda: scene.left() == 0, 20)
    assert proxy.triggered.is_set()
    assert deliveries(scene) == {1}
    assert scene.dead() == []
    (await scene.ledger("commit done, answer lost")).assert_clean()


async def test_a_lock_that_is_held_does_not_block_the_slots(scene: Scene) -> None:
    # Given somebody's transaction that holds the inbox row of one message
    held, *others = await scene.orders(21)
    event = scene.event(held, id_="held")
    holder = await asyncpg.connect(scene.postgres_url.replace("+asyncpg", ""))
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("INSERT INTO inbox_message (consumer, message_id) VALUES ('faulty', '/tests held')")
    scene.settings["WORKER_CONCURRENCY"] = "2"
    scene.send_raw(event)
    scene.send(others)
    scene.worker()
    # Then the others are done meanwhile
    await scene.until_processed(others, 30)
    # And the message is done once the transaction is given up
    await transaction.rollback()
    await holder.close()
    await scene.until_processed([held], 30)
    scene.accepted.append(held)
    assert deliveries(scene) == {1}
    (await scene.ledger("inbox row held by another transaction")).assert_clean()


async def hold(scene: Scene) -> asyncpg.Connection:
    """A session that has the inbox row of the message `held`, and has sent half of its next request.

    asyncpg sends Parse and Flush, and Sync only with what follows: PostgreSQL takes the session for active,
    so that no idle timeout ends it.
    """
    holder = await asyncpg.connect(scene.postgres_url.replace("+asyncpg", ""))
    await holder.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '2s'")
    await holder.execute("INSERT INTO inbox_message (consumer, message_id) VALUES ('faulty', '/tests held')")
    await holder.prepare("SELECT 1")
    states = await scene.sql("SELECT state FROM pg_stat_activity WHERE pid = $1", holder.get_server_pid())
    assert states[0]["state"] == "active"
    return holder


async def test_a_worker_frozen_in_the_middle_of_a_request_holds_its_message_for_a_while(
    scenes: list[Scene],
) -> None:
    # Given such a session
    orders = [(await scene.orders(1))[0] for scene in scenes]
    holders = [await hold(scene) for scene in scenes]
    # When its message comes to a worker
    for scene, order in zip(scenes, orders, strict=True):
        scene.send_raw(scene.event(order, id_="held"))
        scene.worker()
    # Then the worker ends that session, and the message is done
    for scene, order, holder in zip(scenes, orders, holders, strict=True):
        await scene.until_processed([order], 60)
        scene.accepted.append(order)
        assert deliveries(scene) == {1}
        assert holder.is_closed()
        (await scene.ledger("a worker frozen in the middle of a request")).assert_clean()
