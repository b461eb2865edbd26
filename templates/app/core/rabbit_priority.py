"""Priority by queue: one consumer on several queues, each with handlers of its own.

Nothing waits behind what is less urgent, and a flood of urgent messages leaves the others their handlers.
RabbitMQ's own priorities do not serve: quorum queues have two levels from version 4 on, and none before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from app.core.consumer import Consumer
from app.core.deadline import end
from app.core.rabbit_consumer import RabbitConsumer
from app.core.rabbit_topology import Queue
from app.core.worker_settings import WorkerSettings, worker_settings


class PriorityConsumer:
    """Runs `consumer` on a queue NAME.LANE for each of `lanes`, bound to TOPIC.LANE, with so many handlers.

    A message is done once, also when it is sent again to another lane. The handlers of all lanes share the
    database pool.
    """

    def __init__(
        self, consumer: Consumer, lanes: Mapping[str, int], settings: WorkerSettings | None = None
    ) -> None:
        settings = settings or worker_settings()
        self.name = consumer.name
        self.workers = [lane_of(consumer, lane, count, settings) for lane, count in lanes.items()]

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; when one of the lanes fails, all end."""
        running = [asyncio.ensure_future(worker.run(stop)) for worker in self.workers]
        try:
            await asyncio.gather(*running)
        finally:
            await end(running)

    def problems(self) -> list[str]:
        """Why one of the lanes is not consuming; empty when all are."""
        return [problem for worker in self.workers for problem in worker.problems()]


def lane_of(consumer: Consumer, lane: str, handlers: int, settings: WorkerSettings) -> RabbitConsumer:
    """The worker of one lane."""
    queue = Queue(f"{consumer.name}.{lane}", f"{consumer.topic}.{lane}", settings.rabbitmq_exchange)
    worker = RabbitConsumer(consumer, settings.model_copy(update={"worker_concurrency": handlers}), queue)
    worker.name = queue.name
    return worker
