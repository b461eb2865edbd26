"""RabbitMQ, where there is one: that of RABBITMQ_URL, or a node that the demo starts and can kill."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from demo.process import Process, until
from demo.rabbit_node import RabbitNode, installed
from demo.stage import Stage

T = TypeVar("T")

START_SECONDS, GIVEN_SECONDS, ANSWER_SECONDS = 60.0, 10.0, 2.0
ABSENT = "none here (neither RABBITMQ_URL nor a rabbitmq-server): this part is left out"
CONSUMER = "order_placed"
PAUSES = [0.25 * 2**n for n in range(12)]
AWAY = (*CONNECTION_EXCEPTIONS, TimeoutError)
for library in ("aiormq", "aio_pika"):
    logging.getLogger(library).setLevel(logging.CRITICAL)  # that a broker was killed is no news here


class Rabbit:
    """A RabbitMQ. One that is not the demo's own is not killed, and nothing of the demo stays in it."""

    def __init__(self, stage: Stage) -> None:
        given = os.environ.get("RABBITMQ_URL")
        self.node = RabbitNode(stage) if given is None else None
        self.url = self.node.url if self.node is not None else str(given)
        # In somebody's RabbitMQ, names that nobody else has.
        suffix = f"_{secrets.token_hex(3)}" if given else ""
        self.exchange, self.queue = f"shop_demo{suffix}", f"{CONSUMER}{suffix}"
        self.version = ""
        self._asking = asyncio.Lock()
        self._connection: AbstractConnection | None = None

    @staticmethod
    def found() -> bool:
        """Whether there is one to use."""
        return "RABBITMQ_URL" in os.environ or installed()

    @property
    def process(self) -> Process | None:
        """The process of today; None for one that is not ours."""
        return self.node.process if self.node is not None else None

    async def start(self) -> None:
        """Start it, if it is ours, with the data that are there; wait until it answers. Raises DemoError."""
        if self.node is None:
            await until(self._answers, GIVEN_SECONDS, "the RabbitMQ of RABBITMQ_URL answers")
        else:
            await until(self._answers, START_SECONDS, "RabbitMQ answers", self.node.start())

    async def _answers(self) -> bool:
        async def nothing(_: AbstractChannel) -> bool:
            return True

        return await self._answer(nothing) is not None

    async def waiting(self) -> int | None:
        """Messages in the queue that no worker has in hand; None while RabbitMQ is away.

        Only to be asked when a worker has made the queue.
        """

        async def count(channel: AbstractChannel) -> int:
            queue = await channel.declare_queue(self.queue, passive=True)
            return int(queue.declaration_result.message_count or 0)

        return await self._answer(count)

    async def _answer(self, question: Callable[[AbstractChannel], Awaitable[T]]) -> T | None:
        """The answer; None while RabbitMQ is away."""
        try:
            async with self._asking, asyncio.timeout(ANSWER_SECONDS):
                return await self._ask(question)
        except asyncio.CancelledError:  # a channel that closes cancels those who wait for its answer
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        except AWAY:
            pass
        self._connection = None  # it may not know yet that it is broken
        return None

    async def _ask(self, question: Callable[[AbstractChannel], Awaitable[T]]) -> T:
        """Do something over a channel of its own; its result."""
        if self._connection is None or self._connection.is_closed:
            self._connection = await aio_pika.connect(self.url, timeout=ANSWER_SECONDS)
            transport = self._connection.transport
            assert transport is not None, "it is connected"
            self.version = str(transport.connection.server_properties.get("version", ""))
        channel = await self._connection.channel()
        try:
            return await question(channel)
        finally:
            if not channel.is_closed:
                await channel.close()

    async def close(self, outbox: str) -> None:
        """Delete what the demo has made for `outbox` in a RabbitMQ that is not its own, and hang up."""

        async def delete(channel: AbstractChannel) -> None:
            pauses = [f"{self.exchange}.pause.{seconds:g}s" for seconds in PAUSES]
            mark = f"{self.exchange}.outbox.{outbox}"
            for queue in (self.queue, f"{self.queue}.dead", mark, *pauses):
                await channel.queue_delete(queue)
            for exchange in (self.exchange, f"{self.exchange}.dead", *pauses):
                await channel.exchange_delete(exchange)

        with suppress(*AWAY):
            async with asyncio.timeout(GIVEN_SECONDS):
                if self.node is None:
                    await self._ask(delete)
                if self._connection is not None:
                    await self._connection.close()
