"""Workers are killed, paused, stopped and started; the servers stay well."""

import random

import psutil
import pytest

from support.scene import Scene
from support.wait import eventually


@pytest.mark.long
async def test_twenty_kills_over_two_thousand_messages(scene: Scene) -> None:
    # Given two replicas and 2,000 messages
    orders = await scene.orders(2000)
    replicas = [scene.worker(), scene.worker()]
    scene.send(orders)
    # When one or the other is killed at twenty random moments
    chance = random.Random(20)
    for kill in range(20):
        goal = (kill + 1) * len(orders) // 22
        await eventually(lambda: len(scene.starts()) >= goal, 60, "progress")  # noqa: B023
        victim = chance.randrange(2)
        replicas[victim].kill9()
        replicas[victim] = scene.worker()
    # Then every order is processed once
    await scene.until_processed(orders, 120)
    ledger = await scene.ledger("kill -9 x20 over 2,000 messages, 2 replicas")
    ledger.assert_clean()
    assert scene.dead() == []


async def test_sigterm_lets_quick_work_finish(scene: Scene) -> None:
    # Given a worker in the middle of messages that take half a second
    scene.settings["WORKER_DRAIN_SECONDS"] = "30"
    orders = scene.send(await scene.orders(8), do="sleep", seconds=0.5)
    worker = scene.worker()
    await eventually(lambda: len(scene.starts()) == 8, 30)
    # When it is asked to stop
    code = worker.sigterm()
    # Then it finishes them and leaves nothing behind
    assert code == 0, worker.log_tail()
    await eventually(lambda: scene.left() == 0, 20)
    assert sorted(await scene.effects()) == orders
    (await scene.ledger("SIGTERM, drained")).assert_clean()


async def test_sigterm_hands_back_what_takes_too_long(scene: Scene) -> None:
    # Given a worker with two messages in hand that will not end within its drain time
    orders = scene.send(await scene.orders(2), do="wait")
    worker = scene.worker()
    await eventually(lambda: len(scene.starts()) == 2, 30)
    # When it is asked to stop
    code = worker.sigterm()
    # Then it exits with 0
    assert code == 0, worker.log_tail()
    # And another worker does them; the delivery did not count
    scene.release()
    scene.worker()
    await scene.until_processed(orders)
    assert [delivery for _, delivery, _ in scene.starts()] == [1, 1, 1, 1]
    (await scene.ledger("SIGTERM, handed back")).assert_clean()


async def test_a_message_that_kills_its_worker_is_set_aside(scene: Scene) -> None:
    # Given one message that kills its worker, among others
    poison, *others = await scene.orders(101)
    scene.send(others[:50])
    scene.send_raw(bad := scene.event(poison, do="kill"))
    scene.send(others[50:])
    # When supervisors start workers again as often as they die
    replicas = [scene.worker(), scene.worker()]

    def supervise() -> bool:
        for index, worker in enumerate(replicas):
            if not worker.running:
                replicas[index] = scene.worker()
        return len(scene.dead()) == 1

    await eventually(supervise, 120, "the message is set aside")
    # Then it is kept as it was, after five deliveries, and all others are done
    await scene.until_processed(others)
    (letter,) = scene.dead()
    assert letter.event == bad
    assert "5 times" in letter.reason
    assert sum(order == poison for order, _, _ in scene.starts()) == 5
    (await scene.ledger("a message that kills its worker, 100 others")).assert_clean()


async def test_neighbours_of_a_poison_message_are_not_set_aside(scene: Scene) -> None:
    # Given slow messages in the hands of the one worker when poison arrives, so that each kill hits them too
    poison, *others = await scene.orders(21)
    scene.settings["WORKER_CONCURRENCY"] = "21"
    scene.send(others, do="sleep", seconds=0.4)
    scene.send_raw(scene.event(poison, do="kill"))
    worker = scene.worker()

    def supervise() -> bool:
        nonlocal worker
        if not worker.running:
            worker = scene.worker()
        return len(scene.dead()) >= 1

    await eventually(supervise, 120, "the message is set aside")
    await scene.until_processed(others)
    assert len(scene.dead()) == 1
    (await scene.ledger("neighbours of a poison message")).assert_clean()


async def test_the_same_message_twice_at_once(scene: Scene) -> None:
    # Given two replicas with one slot each
    scene.settings["WORKER_CONCURRENCY"] = "1"
    orders = await scene.orders(50)
    [await scene.worker().until_ready(), await scene.worker().until_ready()]
    # When each message is in the stream twice, in a row
    for order in orders:
        event = scene.event(order)
        scene.send_raw(event)
        scene.send_raw(event)
    scene.accepted += orders
    # Then each order is processed once
    await scene.until_processed(orders)
    await eventually(lambda: scene.left() == 0, 30)
    (await scene.ledger("each message twice at once, 2 replicas")).assert_clean()


@pytest.mark.long
async def test_a_paused_worker_changes_nothing_when_it_comes_back(scene: Scene) -> None:
    # Given a worker in the middle of a message, its write done and not committed
    scene.settings["WORKER_HANDLER_TIMEOUT_SECONDS"] = "4"
    (order,) = scene.send(await scene.orders(1), do="wait")
    first = scene.worker()
    await eventually((scene.folder / "waiting").exists, 30)
    # When it is paused for longer than its lease and its deadline, and another takes over
    first.pause()
    scene.release()
    scene.worker()
    await scene.until_processed([order], 60)
    await eventually(lambda: scene.left() == 0, 30)
    # Then its late write changes nothing
    first.resume()
    await first.until_ready()
    assert first.sigterm() == 0, first.log_tail()
    assert scene.dead() == []
    (await scene.ledger("paused beyond its lease, then resumed")).assert_clean()


async def test_a_slow_handler_is_not_taken_over(scene: Scene) -> None:
    # Given a handler that takes three times as long as the lease
    (order,) = scene.send(await scene.orders(1), do="sleep", seconds=9)
    scene.worker(), scene.worker()
    # Then its worker keeps it: it is started once
    await scene.until_processed([order])
    assert len(scene.starts()) == 1


async def test_a_hanging_handler_is_stopped(scene: Scene) -> None:
    # Given a handler that never ends, and one slot
    scene.settings |= {
        "WORKER_HANDLER_TIMEOUT_SECONDS": "0.5",
        "WORKER_CONCURRENCY": "1",
        "WORKER_MAX_DELIVERIES": "2",
    }
    hanging, other = await scene.orders(2)
    scene.send_raw(scene.event(hanging, do="wait"))
    scene.send([other])
    scene.worker()
    # Then it is stopped, retried, and set aside with the reason; its slot serves others
    await scene.until_processed([other])
    await eventually(lambda: len(scene.dead()) == 1, 30)
    assert "took longer than 0.5 s" in scene.dead()[0].reason
    assert hanging not in await scene.effects()


async def test_a_statement_that_takes_too_long_counts(scene: Scene) -> None:
    # Given a handler that waits in the database for longer than its deadline, while the database is well
    scene.settings |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "0.5", "WORKER_MAX_DELIVERIES": "2"}
    slow, other = await scene.orders(2)
    scene.send_raw(scene.event(slow, do="query", seconds=30))
    scene.send([other])
    scene.worker()
    # Then it is its own fault: set aside after its attempts
    await eventually(lambda: len(scene.dead()) == 1, 30)
    assert "took longer than 0.5 s" in scene.dead()[0].reason
    await scene.until_processed([other])


async def test_a_handler_that_blocks_the_loop_counts(scene: Scene) -> None:
    # Given a handler that blocks the event loop beyond its deadline, so that its session is ended
    scene.settings |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "1", "WORKER_MAX_DELIVERIES": "2"}
    blocking, other = await scene.orders(2)
    scene.send_raw(scene.event(blocking, do="block", seconds=8))
    worker = scene.worker()
    # Then readiness says so while it blocks
    await eventually(lambda: "event loop blocked" in worker.problems(), 20)
    # And the message does not come back for ever
    await eventually(lambda: len(scene.dead()) == 1, 60)
    scene.send([other])
    await scene.until_processed([other])


async def test_retries_hold_up_nobody_and_survive_a_crash(scene: Scene) -> None:
    # Given messages that fail three times, as many as there are slots twice over, and good ones behind them
    scene.settings |= {"WORKER_RETRY_BASE_SECONDS": "2", "WORKER_RETRY_CAP_SECONDS": "4"}
    orders = await scene.orders(60)
    scene.send(orders[:20], do="flap", times=3)
    scene.send(orders[20:])
    worker = scene.worker()
    # Then the good ones are done while the others wait
    await scene.until_processed(orders[20:], 30)
    # When the worker is killed while retries wait
    await eventually(lambda: scene.waiting() > 5, 30)
    worker.kill9()
    scene.worker()
    # Then the retries go on where they were
    await scene.until_processed(orders)
    assert scene.dead() == []
    (await scene.ledger("retries across a kill")).assert_clean()


@pytest.mark.long
async def test_ten_thousand_messages_of_backlog_in_bounded_memory(scene: Scene) -> None:
    # Given 10,000 messages that wait, each with some weight
    orders = await scene.orders(10_000)
    scene.send(orders, padding="x" * 2000)
    worker = await scene.worker().until_ready()
    process = psutil.Process(worker.pid)
    await eventually(lambda: len(scene.starts()) > 200, 30)
    early = process.memory_info().rss
    # Then all are done, and the worker's memory does not grow with the backlog (20 MB of it)
    await scene.until_processed(orders, 180)
    grown = process.memory_info().rss - early
    assert grown < 12_000_000, f"{grown:,} bytes more"
    (await scene.ledger("10,000 messages of backlog")).assert_clean()
