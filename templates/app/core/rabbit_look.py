"""Looking at what is in a RabbitMQ queue without taking it out, page by page and in order."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterable
from contextlib import suppress

from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.abc import AbstractChannel, DeliveredMessage

from app.core.broker import BrokerDownError
from app.core.message_worker import wait_for
from app.core.rabbit import RABBIT_FAILURES, ask, say

PAGE, FEW = 200, 25
LOOK_AGAIN, LOOKS = 1.0, 60


class Look:
    """Letters in hand over one channel. RabbitMQ takes back what is not acknowledged, also when we crash."""

    def __init__(self, channel: AbstractChannel, queue: str) -> None:
        self._channel, self._queue = channel, queue
        self._page: dict[int, None] = {}
        self._before: list[array[int]] = []
        self._again = False
        self.since = time.monotonic()

    async def ready(self) -> int:
        """Letters that nobody holds. Raises BrokerDownError."""
        try:
            answer = await ask(self._channel.queue_declare(self._queue, passive=True))
        except BrokerDownError as error:
            if isinstance(error.__cause__, ChannelNotFoundEntity):
                raise BrokerDownError(
                    f"there is no queue {self._queue}: its worker has not run yet"
                ) from error
            raise
        return int(answer.message_count or 0)

    async def next(self, size: int) -> list[DeliveredMessage]:
        """Up to `size` more letters, by a consumer that gets no more than these: its prefetch bounds what is
        in memory. Letters of earlier pages stay in hand, or they would come again. Raises BrokerDownError.
        """
        self._turn()
        page: list[DeliveredMessage] = []
        full = asyncio.Event()

        async def arrived(message: DeliveredMessage) -> None:
            page.append(message)
            if len(page) == size:
                full.set()

        await ask(self._channel.basic_qos(prefetch_count=size))
        answer = await ask(self._channel.basic_consume(self._queue, arrived))
        for _ in range(LOOKS):
            await wait_for(full, LOOK_AGAIN)
            if full.is_set() or not await self.ready():  # another command may hold the rest
                break
        else:
            raise BrokerDownError(f"RabbitMQ does not deliver what is in {self._queue}")
        await ask(self._channel.basic_cancel(str(answer.consumer_tag)))
        self._page = dict.fromkeys(int(message.delivery_tag or 0) for message in page)
        self._again = bool(page) and bool(page[-1].redelivered)
        return page

    async def pass_over(self, count: int) -> None:
        """Take `count` letters that were looked at before."""
        while count > 0 and (page := await self.next(min(PAGE, count))):
            count -= len(page)

    @property
    def unsettled(self) -> int:
        """Letters of the page that are not removed."""
        return len(self._page)

    def _turn(self) -> None:
        """The page is done with: what is left of it stays in hand until the end, at eight bytes a letter."""
        self._before.append(array("Q", self._page))
        self._page = {}

    async def acknowledge(self, tags: Iterable[int]) -> None:
        """Remove letters, and wait until RabbitMQ has read so. Raises BrokerDownError."""
        try:
            for tag in tags:
                await self._channel.basic_ack(tag, wait=False)
                self._page.pop(tag, None)
        except RABBIT_FAILURES as error:
            raise BrokerDownError(f"RabbitMQ: {say(error)}") from error
        await self.ready()

    async def give_back(self) -> None:
        """Return the rest in order. RabbitMQ puts what is returned behind what was returned before, so all
        that somebody has looked at is returned anew; and it keeps the order of a few at a time only (seen
        with RabbitMQ 3.10).
        """
        with suppress(BrokerDownError, *RABBIT_FAILURES):
            while self._again and await self.ready():
                await self.next(PAGE)
            self._turn()
            ready = await self.ready()
            for tags in self._before:
                for start in range(0, len(tags), FEW):
                    few = tags[start : start + FEW]
                    ready += len(few)
                    await self._return(few[-1], ready)
        with suppress(BrokerDownError):
            await ask(self._channel.close())

    async def _return(self, last: int, ready: int) -> None:
        """Return all up to `last`, and wait until there are `ready` letters. Raises BrokerDownError."""
        await self._channel.basic_nack(last, multiple=True, requeue=True, wait=False)
        for _ in range(LOOKS):
            if await self.ready() >= ready:
                return
        raise BrokerDownError("somebody else takes the letters: their order is lost")
