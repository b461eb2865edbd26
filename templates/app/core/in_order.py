"""Strict order: messages are handled one after the other, in the order in which they were sent.

One worker at a time is active; the others stand by and take over. A message that has to wait, for its retry
or for a database that is away, waits in place, and what is behind it waits too. So use it where order matters
more than speed, and divide the work: one topic for each partition of the keys.

    await enqueue(session, type_, data, key=f"order-{id_}", topic=partition("shop.order", f"order-{id_}", 4))

    def worker() -> Together:
        return Together([OrderedStreamConsumer(each) for each in partitions(consumer, 4)])

A message that is set aside lets the next one go on. The inbox keeps repeats from having an effect; a handler
`on_without_transaction` has none, and may be run again late by a worker that was frozen.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from app.core.consumer import Consumer
from app.core.dead_letters import DeadLetters
from app.core.deadline import Watch, end
from app.core.lifecycle import Worker, run_to_the_end
from app.core.message_worker import D, MessageWorker
from app.core.outcomes import Dead, Done, Down, Outcome, Postpone, Retry
from app.core.partitioned_letters import PartitionedLetters
from app.core.worker_settings import WorkerSettings

SHORTEST_WAIT = 0.05


def partition(topic: str, key: str, of: int) -> str:
    """The topic of the partition to which `key` belongs, one of `of`: the same in every process.

    Another `of` sends keys elsewhere: let the old partitions run empty before the first message goes to a
    new one.
    """
    return f"{topic}.{zlib.crc32(key.encode()) % of}"


def partitions(consumer: Consumer, of: int) -> list[Consumer]:
    """`consumer` once for each partition of its topic, each with a name of its own."""
    return [
        replace(consumer, name=f"{consumer.name}.{number}", topic=f"{consumer.topic}.{number}")
        for number in range(of)
    ]


def one_at_a_time(settings: WorkerSettings) -> WorkerSettings:
    """The settings of a worker that has one message in hand."""
    return settings.model_copy(update={"worker_concurrency": 1, "rabbitmq_prefetch": 1})


class Part(Worker, Protocol):
    """The worker of a partition."""

    consumer: Consumer

    def dead_letters(self) -> DeadLetters:
        """What `app.workers.dead_letters` works on."""


class Together:
    """The workers of all partitions, which run, and end, as one."""

    def __init__(self, workers: Sequence[Part]) -> None:
        self._workers = workers
        self.name = " ".join(worker.name for worker in workers)

    async def run(self, stop: asyncio.Event) -> None:
        """Run all of them until `stop` is set. Raises what the first of them raised that failed."""
        tasks = [asyncio.ensure_future(run_to_the_end(worker, stop)) for worker in self._workers]
        try:
            for task in asyncio.as_completed(tasks):
                await task
        finally:
            await end(tasks)

    def problems(self) -> list[str]:
        """What keeps any of them from working."""
        return [problem for worker in self._workers for problem in worker.problems()]

    def dead_letters(self) -> PartitionedLetters:
        """What `app.workers.dead_letters` works on."""
        return PartitionedLetters(
            [({w.consumer.topic, w.consumer.name}, w.dead_letters()) for w in self._workers]
        )


class InOrder(MessageWorker[D]):
    """What is the same for all brokers: a message stays in hand until it is settled. An adapter's class comes
    after it among the bases, and what it has to add is at the end.
    """

    async def _handle(self, delivery: D) -> None:
        while True:
            outcome = await self.decide(delivery)
            if isinstance(outcome, Done):
                self.gate.succeeded()
                await self.finish(delivery)
                break
            if isinstance(outcome, Dead):
                await self.give_up(delivery, outcome)
                break
            await self._wait_in_place(delivery, outcome)
            if not await self.again(delivery, counted=isinstance(outcome, Retry)) or self.stopping:
                break
            delivery.watch = Watch()
            delivery.watch.task = asyncio.current_task()
        self.held.pop(delivery.id, None)

    async def decide(self, delivery: D) -> Outcome:
        """See MessageWorker. Nothing is begun that another worker may have in hand by now."""
        late = self.late()
        return await super().decide(delivery) if late is None else Postpone(late)

    async def _wait_in_place(self, delivery: D, outcome: Outcome) -> None:
        """Wait until the next attempt is due, the database answers, or the message is no longer ours."""
        seconds = SHORTEST_WAIT
        match outcome:
            case Retry(after=after):
                seconds = self.settings.retry_policy.pause(delivery.count, after)
            case Postpone(after=after):
                seconds = max(after, SHORTEST_WAIT)
            case Down(reason=reason):
                self.gate.close(reason)
                self.wake()
        ends = time.monotonic() + seconds
        while (
            (time.monotonic() < ends or self.gate.reason is not None)
            and self.ours(delivery)
            and not self.stopping
        ):
            await asyncio.sleep(SHORTEST_WAIT)

    # -- what an adapter adds --------------------------------------------------------------------------

    @abstractmethod
    async def finish(self, delivery: D) -> None:
        """Acknowledge what is done, before the next message comes."""

    @abstractmethod
    def ours(self, delivery: D) -> bool:
        """Whether the message may stay in our hands, as far as known here."""

    @abstractmethod
    async def again(self, delivery: D, *, counted: bool) -> bool:
        """Get ready for the next attempt; `counted` makes it a delivery more. False: let go of the message;
        it comes again, to this worker or to another, before any that is behind it.
        """
