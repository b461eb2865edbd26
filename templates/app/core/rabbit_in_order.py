"""Strict order on a RabbitMQ queue: see `app.core.in_order`.

The queue has a single active consumer: RabbitMQ gives its messages to one worker, one at a time, and to the
next worker when that one's channel is gone. What it takes back keeps its place at the front.

- Killed, or its connection lost: the next worker goes on at once.
- Frozen: RabbitMQ waits for two heartbeats in vain, 40 to 60 s, before it gives the connection up. Whoever
  freezes for a shorter time keeps its turn. What the frozen one still does meets the inbox.
- Alive, but with one message in hand for longer than `consumer_timeout`: so no message is held that long.
  One that has to wait longer, for a database that is away, is returned and comes again at once.

A return counts as a delivery for RabbitMQ. So does the hand-back of a message whose handler does not end
within the drain time, where other consumers send a copy: a copy would go to the end of the queue.
"""

from __future__ import annotations

import time
from contextlib import suppress

from app.core.broker import BrokerDownError
from app.core.consumer import Consumer
from app.core.in_order import InOrder, one_at_a_time
from app.core.outcomes import Dead, Outcome
from app.core.rabbit import RABBIT_FAILURES
from app.core.rabbit_consumer import RabbitConsumer
from app.core.rabbit_queue import Arrival, RabbitQueue
from app.core.rabbit_topology import Queue
from app.core.worker_settings import WorkerSettings, worker_settings

# Of the time that RabbitMQ and the handler leave for waiting.
HOLD_SHARE = 0.9


class OrderedQueue(RabbitQueue):
    """A queue whose messages keep their place."""

    async def put_back(self, arrival: Arrival) -> None:
        """Return a message to the front of the queue, from where it comes again: one delivery more.

        Not `basic.nack`, which RabbitMQ no longer counts from 4.3 on.
        """
        if self.has(arrival):
            self._unsettled.pop(arrival.tag, None)
            with suppress(*RABBIT_FAILURES):
                await self._usable().basic_reject(arrival.tag, requeue=True, wait=False)


class OrderedRabbitConsumer(InOrder[Arrival], RabbitConsumer):
    """Runs `consumer` on its queue strictly in order, or stands by while another worker does.

    Raises ValueError for a `queue` that cannot keep order: it has to be a quorum queue with `single_active`.
    """

    queue: OrderedQueue
    queue_type = OrderedQueue
    keeps_turn = True

    def __init__(
        self, consumer: Consumer, settings: WorkerSettings | None = None, queue: Queue | None = None
    ) -> None:
        settings = one_at_a_time(settings or worker_settings())
        queue = queue or Queue(consumer.name, consumer.topic, settings.rabbitmq_exchange, single_active=True)
        if queue.type != "quorum" or not queue.single_active:
            raise ValueError(f"queue {queue.name}: only a quorum queue with single_active keeps order")
        super().__init__(consumer, settings, queue)
        spare = settings.rabbitmq_consumer_timeout_seconds - settings.worker_handler_timeout_seconds
        self._hold = HOLD_SHARE * spare
        self._came = 0.0
        # How often the message in hand was returned for no fault of its own: RabbitMQ counts that as well.
        self._waited: tuple[bytes | None, int] = (None, 0)

    # -- getting messages ------------------------------------------------------------------------------

    def _deliver(self, arrival: Arrival) -> None:
        if not self.queue.has(arrival):  # it comes over a channel that was given up, and again over the next
            return
        body, returns = self._waited
        if body == arrival.raw:
            arrival.count = max(1, arrival.count - returns)
        else:
            self._waited = (None, 0)
        self._came = time.monotonic()
        self.held[arrival.id] = arrival
        self.start((arrival,))

    async def _stop_consuming(self) -> None:
        """With something in hand, `finish` does it. Otherwise not by cancelling: a message that is on its way
        to us would then stay with us while the next worker gets the one behind it.
        """
        if not self.held:
            self.queue.lose()

    async def hand_back(self, deliveries: list[Arrival]) -> None:
        """See MessageWorker. RabbitMQ takes back what a closed channel leaves, at its place."""
        for delivery in deliveries:
            self.held.pop(delivery.id, None)

    # -- settling --------------------------------------------------------------------------------------

    async def finish(self, delivery: Arrival) -> None:
        """See InOrder. The turn is given up before the last acknowledgement, or one more message comes."""
        if self.stopping and self.queue.has(delivery):
            try:
                await self.queue.cancel()
            except BrokerDownError:
                self.queue.lose()
        await self.queue.acknowledge([delivery])

    async def give_up(self, delivery: Arrival, outcome: Outcome) -> None:
        """See MessageWorker."""
        if isinstance(outcome, Dead):
            await self._persist(delivery, lambda: self.queue.bury(delivery, outcome.reason))
            await self.finish(delivery)

    def ours(self, delivery: Arrival) -> bool:
        """See InOrder."""
        return self.queue.has(delivery) and time.monotonic() - self._came < self._hold

    async def again(self, delivery: Arrival, *, counted: bool) -> bool:
        """See InOrder. To be counted, the message goes through the queue."""
        if self.stopping or not self.queue.has(delivery):
            return False
        if not counted:
            if self.ours(delivery):
                return True
            self._waited = (delivery.raw, self._waited[1] + 1)
        await self.queue.put_back(delivery)
        return False
