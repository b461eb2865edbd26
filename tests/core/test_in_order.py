"""Partitions, and workers that run as one. What keeps the order is in tests/faults/test_in_order.py."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence

import pytest
from pydantic import BaseModel

from app.core.consumer import Consumer, on
from app.core.dead_letters import Letter
from app.core.in_order import Together, partition, partitions
from app.core.lifecycle import EndedError
from app.core.outcomes import Done, Postpone, RefusedToStartError
from app.core.partitioned_letters import PartitionedLetters
from app.core.rabbit_in_order import OrderedRabbitConsumer
from app.core.rabbit_topology import Queue
from app.core.redis_stream import Entry
from app.core.stream_consumer import StreamDelivery
from app.core.stream_in_order import OrderedStreamConsumer
from app.core.worker_settings import WorkerSettings


class Data(BaseModel):
    """A payload."""


async def handle(*_: object) -> Done:
    pytest.fail("nothing is to be handled")


CONSUMER = Consumer("orders", "shop.order", (on("shop.order.v1", Data, handle),))
EVENT = b'{"specversion": "1.0", "id": "1", "source": "/t", "type": "shop.order.v1", "data": {}}'


class Stub:
    """A worker that waits until it is told to stop, or fails."""

    def __init__(self, number: int, error: Exception | None = None, *, early: bool = False) -> None:
        self.consumer = partitions(CONSUMER, 4)[number]
        self.name = self.consumer.name
        self.letters = Letters(self.consumer.topic)
        self.ended = False
        self._error, self._early = error, early

    async def run(self, stop: asyncio.Event) -> None:
        try:
            if self._error is not None:
                raise self._error
            if not self._early:
                await stop.wait()
        finally:
            self.ended = True

    def problems(self) -> list[str]:
        return [f"{self.name}: paused"]

    def dead_letters(self) -> "Letters":
        return self.letters


class Letters:
    """Two dead letters of a partition."""

    def __init__(self, topic: str) -> None:
        self.there = [Letter(f"{topic}-{n}", b"", "why", origin=topic) for n in range(2)]
        self.closed = False

    async def pages(self, at_most: int | None = None) -> AsyncGenerator[list[Letter], None]:
        for letter in list(self.there)[:at_most]:
            yield [letter]

    async def replay(self, letters: Sequence[Letter]) -> list[str | None]:
        await self.drop(letters)
        return [None] * len(letters)

    async def drop(self, letters: Sequence[Letter]) -> None:
        self.there = [letter for letter in self.there if letter not in letters]

    async def add(self, letters: Sequence[Letter]) -> list[str | None]:
        self.there += letters
        return [None] * len(letters)

    async def close(self) -> None:
        self.closed = True


def test_a_key_has_the_same_partition_everywhere() -> None:
    # Numbers, so that nobody changes the hash: the messages of a key would be in two partitions
    assert partition("shop.order", "order-1", 4) == "shop.order.3"
    assert partition("shop.order", "ключ", 7) == "shop.order.1"


def test_keys_spread_over_the_partitions() -> None:
    counts = Counter(partition("t", f"order-{n}", 8) for n in range(8000))
    assert set(counts) == {f"t.{n}" for n in range(8)}
    assert min(counts.values()) > 700


def test_each_partition_has_a_consumer_with_a_name_of_its_own() -> None:
    found = partitions(CONSUMER, 3)
    assert [(c.name, c.topic) for c in found] == [(f"orders.{n}", f"shop.order.{n}") for n in range(3)]
    assert all(c.routes == CONSUMER.routes and c.processes for c in found)


async def test_workers_together_run_until_they_are_told_to_stop() -> None:
    workers = [Stub(0), Stub(1)]
    both = Together(workers)
    assert both.name == "orders.0 orders.1"
    assert both.problems() == ["orders.0: paused", "orders.1: paused"]
    stop = asyncio.Event()
    running = asyncio.create_task(both.run(stop))
    await asyncio.sleep(0)
    assert not running.done()
    stop.set()
    await running
    assert all(worker.ended for worker in workers)


async def test_one_that_fails_ends_all_with_its_error() -> None:
    workers = [Stub(0), Stub(1, RefusedToStartError("no such queue")), Stub(2)]
    with pytest.raises(RefusedToStartError, match="no such queue"):
        await Together(workers).run(asyncio.Event())
    assert all(worker.ended for worker in workers)


async def test_one_that_ends_early_ends_all() -> None:
    with pytest.raises(EndedError):
        await Together([Stub(0), Stub(1, early=True)]).run(asyncio.Event())


async def test_dead_letters_of_all_partitions_are_in_one_place() -> None:
    workers = [Stub(0), Stub(1), Stub(2)]
    letters = Together(workers).dead_letters()
    assert [letter.id for letter in await all_of(letters)] == [
        f"shop.order.{part}-{n}" for part in range(3) for n in range(2)
    ]
    assert len(await all_of(letters, 3)) == 3
    # What is done to a page is done in its partition
    async for (letter,) in letters.pages():
        if letter.id == "shop.order.0-1":
            assert await letters.replay([letter]) == [None]
        if letter.id == "shop.order.2-0":
            await letters.drop([letter])
    assert [len(worker.letters.there) for worker in workers] == [1, 2, 1]
    await letters.close()
    assert all(worker.letters.closed for worker in workers)


async def test_an_imported_letter_goes_to_its_partition() -> None:
    workers = [Stub(0), Stub(1)]
    letters = Together(workers).dead_letters()
    of_stream, of_queue = Letter("a", b"", "", origin="shop.order.1"), Letter("b", b"", "", origin="orders.1")
    stray = Letter("c", b"", "", origin="shop.order.9")
    assert await letters.add([of_stream, of_queue, stray]) == [
        None,
        None,
        "no partition is named 'shop.order.9'",
    ]
    assert [len(worker.letters.there) for worker in workers] == [2, 4]


async def all_of(letters: PartitionedLetters, at_most: int | None = None) -> list[Letter]:
    return [letter async for page in letters.pages(at_most) for letter in page]


async def test_a_worker_whose_lease_is_over_begins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = OrderedStreamConsumer(CONSUMER, WorkerSettings())
    monkeypatch.setattr(worker.leases, "problem", lambda: "leases not renewed for 20 s")
    delivery = StreamDelivery(Entry(b"1-0", {b"event": EVENT}))
    assert await worker.decide(delivery) == Postpone("leases not renewed for 20 s")
    await worker.close()


@pytest.mark.parametrize(
    "queue", [Queue("q", "t"), Queue("q", "t", type="classic", single_active=True)], ids=["shared", "classic"]
)
def test_a_queue_that_cannot_keep_order_is_refused(queue: Queue) -> None:
    with pytest.raises(ValueError, match="keeps order"):
        OrderedRabbitConsumer(CONSUMER, WorkerSettings(), queue)
