"""A consumer of a RabbitMQ queue: gets, settles, and consumes again after whatever happened to the broker."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, ClassVar

from app.core import inbox
from app.core.broker import BrokerDownError
from app.core.consumer import Consumer
from app.core.failures import describe
from app.core.message_worker import NOT_STARTED, MessageWorker, persist, wait_for
from app.core.outcomes import Dead, Down, Outcome, Postpone, RefusedToStartError, Retry
from app.core.rabbit_dead_letters import RabbitDeadLetters
from app.core.rabbit_queue import Arrival, RabbitQueue
from app.core.rabbit_topology import Queue
from app.core.stuck import end_stuck_sessions
from app.core.worker_settings import WorkerSettings

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
PROBE_EVERY = 5.0
TIDY_EVERY = 10.0
# An acknowledgement costs as much as a quick message; a moment later it counts for several of them.
ACK_WITHIN = 0.002
# A process that cannot consume for this long ends: a new one may have better luck with names and routes.
GIVE_UP_AFTER = 600.0


class RabbitConsumer(MessageWorker[Arrival]):
    """Runs `consumer` on its queue until it is told to stop; `queue` is made from the consumer by default."""

    queue_type: ClassVar[type[RabbitQueue]] = RabbitQueue
    keeps_turn: ClassVar[bool] = False
    """Whether it stays a consumer of its queue while the database is away."""

    def __init__(
        self, consumer: Consumer, settings: WorkerSettings | None = None, queue: Queue | None = None
    ) -> None:
        super().__init__(consumer, settings)
        queue = queue or Queue(consumer.name, consumer.topic, self.settings.rabbitmq_exchange)
        self.queue = self.queue_type(self.settings.rabbitmq_url.get_secret_value(), queue, self._deliver)
        self._prefetch = self.settings.rabbitmq_prefetch or 2 * self.slots.count
        self._suspect: Arrival | None = None
        self._crowd: asyncio.Queue[Arrival] = asyncio.Queue()
        self._settled_now: list[Arrival] = []
        self._wake_ack = asyncio.Event()
        self._acknowledging = asyncio.Lock()
        self._next_probe = 0.0

    def loops(self) -> Iterable[Coroutine[Any, Any, None]]:
        """See MessageWorker."""
        loops = [self._acknowledge(), self._send_back()]
        if self.consumer.uses_database:
            loops.append(self._tidy())
        return loops

    def dead_letters(self) -> RabbitDeadLetters:
        """What `app.workers.dead_letters` works on."""
        url, patience = self.settings.rabbitmq_url, self.settings.rabbitmq_consumer_timeout_seconds
        return RabbitDeadLetters(url.get_secret_value(), self.queue.queue, patience)

    # -- getting messages ------------------------------------------------------------------------------

    async def feed(self) -> None:
        """See MessageWorker."""
        refuse_long_handlers(self._prefetch, self.settings)
        pause, well = 0.1, time.monotonic()
        while not self.stopping:
            try:
                await self._look()
            except BrokerDownError as error:
                if time.monotonic() - well > GIVE_UP_AFTER:
                    raise
                self._report(error)
                self.queue.lose()
                self.queue.changed.clear()  # it says what we know; the shutdown alone may cut a pause short
                if not self.stopping:
                    await wait_for(self.queue.changed, random.uniform(pause / 2, pause))
                pause = min(3.0, pause * 2)
            else:
                pause, well = 0.1, time.monotonic()
        await self._stop_consuming()

    async def _stop_consuming(self) -> None:
        """Get no more messages; what is in hand stays."""
        try:
            await self.queue.cancel()
        except BrokerDownError:
            self.queue.lose()

    async def _look(self) -> None:
        """Consume as the state of things asks for, see that it is so, and wait for a change."""
        if not self.queue.is_open:
            self._forget()
            await self.queue.open()
        if self.gate.reason is not None and not self.keeps_turn:
            await self.queue.cancel()
            self._well()
            await self.gate.wait_open(LOOK_EVERY)
            return
        # One message shows whether the database is well again; many would all have to be handed back.
        prefetch = 1 if self.gate.unproven else self._prefetch
        if prefetch != self.queue.prefetch:
            await self.queue.consume(prefetch)
        await self._probe()
        self._well()
        self.queue.changed.clear()
        await wait_for(self.queue.changed, LOOK_EVERY)

    def _well(self) -> None:
        """It consumes, as far as this look goes. Said before the wait, which ends with the channel too."""
        self.trouble, self.fed = None, time.monotonic()

    async def _probe(self) -> None:
        now = time.monotonic()
        if now >= self._next_probe:
            self._next_probe = now + PROBE_EVERY
            if not await self.queue.probe():
                raise BrokerDownError("RabbitMQ: the queue has no consumer, not even this one")

    def _forget(self) -> None:
        """What was not started over a channel that is gone comes again over the next. What runs goes on: its
        effect commits once, here or there.
        """
        for arrival in self.slots.ready:
            self.held.pop(arrival.id, None)
        self.slots.ready.clear()

    def _report(self, error: BrokerDownError) -> None:
        if self.trouble in (None, NOT_STARTED):
            logger.warning("%s: %s", self.name, error)
        self.trouble = str(error)

    def wake(self) -> None:
        """See MessageWorker."""
        self.queue.changed.set()

    def _deliver(self, arrival: Arrival) -> None:
        self.held[arrival.id] = arrival
        if self.queue.queue.type == "classic" and arrival.message.redelivered:
            self._crowd.put_nowait(arrival)  # a classic queue does not count: the copy does
            return
        if arrival.returns >= self.suspect_from:
            arrival.suspect = True
            if self._suspect is not None and self._suspect.id in self.held:
                self._crowd.put_nowait(arrival)
                return
            self._suspect = arrival
        self.start((arrival,))

    # -- handling and settling -------------------------------------------------------------------------

    async def decide(self, delivery: Arrival) -> Outcome:
        """See MessageWorker. A suspect starts when no other one is left in this worker's hands."""
        while delivery.suspect and self._others(delivery):
            await asyncio.sleep(0.02)
        return await super().decide(delivery)

    def _others(self, delivery: Arrival) -> bool:
        return self.queue.has(delivery) and any(
            other.suspect and other is not delivery and self.queue.has(other) for other in self.held.values()
        )

    async def _send_back(self) -> None:
        """Send suspects back that have to wait for their turn, and count what a classic queue did not."""
        while True:
            arrival = await self._crowd.get()
            if arrival.suspect:
                delay, attempts, returns = random.uniform(0.5, 2), arrival.count - 1, arrival.returns
            else:
                delay, attempts, returns = 0.0, arrival.count, arrival.returns + 1
            await self._persist(
                arrival,
                lambda a=arrival, d=delay, n=attempts, r=returns: self.queue.park(a, d, n, r),  # type: ignore[misc]
            )
            self.done(arrival)

    def done(self, delivery: Arrival) -> None:
        """See MessageWorker."""
        self._settled_now.append(delivery)
        self._wake_ack.set()

    async def give_up(self, delivery: Arrival, outcome: Outcome) -> None:
        """See MessageWorker."""
        if self.gate.reason is not None and self.queue.is_open:
            try:
                await self.queue.cancel()  # or what goes back comes at once again
            except BrokerDownError as error:
                logger.warning("%s: the channel is given up: %s", self.name, error)
                self.queue.lose()
        await self._persist(delivery, lambda: self._settle(delivery, outcome))
        await self._acknowledge_now([delivery])

    async def _settle(self, delivery: Arrival, outcome: Outcome) -> None:
        match outcome:
            case Retry(after=after):
                pause = self.settings.retry_policy.pause(delivery.count, after)
                await self.queue.park(delivery, pause, delivery.count)
            case Postpone(after=after):
                await self.queue.park(delivery, after, delivery.count - 1)
            case Down():
                await self.queue.park(delivery, 0, delivery.count - 1)
            case Dead(reason=reason):
                await self.queue.bury(delivery, reason)

    async def _persist(self, delivery: Arrival, step: Callable[[], Awaitable[Any]]) -> None:
        """What RabbitMQ has taken back needs no note."""
        if self.queue.has(delivery):
            await persist(step, (BrokerDownError,), lambda _: not self.queue.has(delivery))

    async def _acknowledge(self) -> None:
        """Acknowledge what was settled since the last time, together."""
        while True:
            await self._wake_ack.wait()
            few = len(self._settled_now) < self.queue.prefetch // 2
            await asyncio.sleep(ACK_WITHIN if few else 0)
            self._wake_ack.clear()
            settled, self._settled_now = self._settled_now, []
            await self._acknowledge_now(settled)
            for arrival in settled:
                self.held.pop(arrival.id, None)

    async def _acknowledge_now(self, arrivals: list[Arrival]) -> None:
        """One call at a time. aiormq's writer lets those wait who come while it is busy; a tag might then
        follow a later one that was acknowledged with all before it, and RabbitMQ would close the channel.
        """
        async with self._acknowledging:
            await self.queue.acknowledge(arrivals)

    async def hand_back(self, deliveries: list[Arrival]) -> None:
        """See MessageWorker. What cannot be sent back in time RabbitMQ takes back by itself, and counts."""
        back = [self._hand_back(delivery) for delivery in deliveries]
        if back:
            await asyncio.wait([asyncio.ensure_future(work) for work in back], timeout=5)

    async def _hand_back(self, delivery: Arrival) -> None:
        await self.give_up(delivery, Postpone("not started before the shutdown"))
        self.held.pop(delivery.id, None)

    async def _tidy(self) -> None:
        """Delete old inbox rows and end sessions of frozen workers, for ever; what fails is done later."""
        while True:
            await asyncio.sleep(TIDY_EVERY * random.uniform(0.8, 1.2))
            try:
                if self.gate.reason is None:
                    await end_stuck_sessions("inbox_message")
                    await inbox.prune(self.settings.inbox_keep)
            except Exception as error:
                logger.debug("not tidied: %s", describe(error))

    async def close(self) -> None:
        """See MessageWorker."""
        await self.queue.close()


def refuse_long_handlers(prefetch: int, settings: WorkerSettings) -> None:
    """RabbitMQ closes the channel of who holds a message for too long, and gives the message to another while
    it is still being done. Raises RefusedToStartError when that can happen.
    """
    longest = math.ceil(prefetch / settings.worker_concurrency) * settings.worker_handler_timeout_seconds
    allowed = settings.rabbitmq_consumer_timeout_seconds
    if longest >= allowed:
        raise RefusedToStartError(
            f"WORKER_HANDLER_TIMEOUT_SECONDS={settings.worker_handler_timeout_seconds:g}: with {prefetch} "
            f"messages in hand for {settings.worker_concurrency} at work one may be held for {longest:g} s, "
            f"less than RABBITMQ_CONSUMER_TIMEOUT_SECONDS ({allowed:g}) is needed; lower RABBITMQ_PREFETCH, "
            "or raise consumer_timeout in the broker and then here"
        )
