"""The dead letters of a consumer of a RabbitMQ queue: those that its worker buried, and RabbitMQ's own."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from aio_pika import DeliveryMode, Message
from aiormq.abc import DeliveredMessage

from app.core.broker import BrokerDownError
from app.core.dead_letters import Letter
from app.core.rabbit import Confirmed, RabbitConnection, UnroutableError, say
from app.core.rabbit_look import PAGE, Look
from app.core.rabbit_queue import (
    AT,
    ATTEMPTS,
    BROKERS_OWN,
    DELIVERIES,
    QUEUE,
    REASON,
    RETURNS,
    number,
    sendable,
)
from app.core.rabbit_topology import Queue

# The worker's notes; a replayed message starts without them, so with a fresh set of attempts.
NOTES = (REASON, DELIVERIES, QUEUE, AT, ATTEMPTS, RETURNS)
PROPERTIES = (
    "content_type",
    "content_encoding",
    "priority",
    "correlation_id",
    "reply_to",
    "message_id",
    "timestamp",
    "type",
    "app_id",
)


class RabbitDeadLetters:
    """See DeadLetters. A letter's id is made from its body: copies of one message share it.

    `patience` is for how many seconds RabbitMQ lets a message be held (`consumer_timeout`).
    """

    def __init__(self, url: str, queue: Queue, patience: float) -> None:
        self._queue, self._patience = queue, patience
        self._incoming = RabbitConnection(url, f"{queue.dead} command")
        self._copies = Confirmed(url, f"{queue.dead} command sends", channels=1)
        self._look: Look | None = None

    async def _open(self) -> Look:
        channel = await self._incoming.channel()
        self._look = Look(await channel.get_underlay_channel(), self._queue.dead)
        return self._look

    async def pages(self, at_most: int | None = None) -> AsyncGenerator[list[Letter], None]:
        """See DeadLetters. What comes in meanwhile is left for the next time: it stands behind the others."""
        look = await self._open()
        try:
            left = await look.ready()
            left = left if at_most is None else min(left, at_most)
            kept = 0
            while left > 0:
                if time.monotonic() - look.since > self._patience / 2:
                    await look.give_back()
                    look = await self._open()
                    await look.pass_over(kept)
                page = await look.next(min(PAGE, left))
                if not page:
                    return
                left -= len(page)
                yield [letter_of(message, self._queue.name) for message in page]
                kept += look.unsettled
        finally:
            await look.give_back()

    async def replay(self, letters: Sequence[Letter]) -> list[str | None]:
        """See DeadLetters. Past the exchange, straight to the queue: other consumers do not get it again."""
        results = await self._send([(letter, {}) for letter in letters], self._queue.name)
        sent = [letter for letter, result in zip(letters, results, strict=True) if result is None]
        await self.drop(sent)
        return refusals(results)

    async def drop(self, letters: Sequence[Letter]) -> None:
        """See DeadLetters."""
        if self._look is not None:
            await self._look.acknowledge(letter.handle for letter in letters)

    async def add(self, letters: Sequence[Letter]) -> list[str | None]:
        """See DeadLetters."""
        return refusals(
            await self._send([(letter, notes_of(letter)) for letter in letters], self._queue.dead)
        )

    async def _send(
        self, letters: Iterable[tuple[Letter, dict[str, Any]]], queue: str
    ) -> list[BaseException | None]:
        sending = [self._copy(letter, notes, queue) for letter, notes in letters]
        return list(await asyncio.gather(*sending, return_exceptions=True))

    async def _copy(self, letter: Letter, notes: dict[str, Any], queue: str) -> None:
        try:
            await self._copies.publish(message_of(letter, notes), queue)
        except UnroutableError as error:
            raise BrokerDownError(f"there is no queue {queue}: start its worker, which makes it") from error

    async def close(self) -> None:
        """See DeadLetters."""
        await self._copies.close()
        await self._incoming.close()


def refusals(results: Iterable[BaseException | None]) -> list[str | None]:
    """Why a letter cannot be sent as it is. Raises BrokerDownError when that is not the letter's fault."""
    found: list[str | None] = []
    for result in results:
        if isinstance(result, BrokerDownError) or not isinstance(result, Exception | None):
            raise result
        found.append(say(result) if result else None)
    return found


def letter_of(message: DeliveredMessage, queue: str) -> Letter:
    """A message of the queue of dead letters."""
    given = message.header.properties
    headers: dict[str, Any] = dict(given.headers or {})
    properties = {name: getattr(given, "message_type" if name == "type" else name) for name in PROPERTIES}
    return Letter(
        id=hashlib.sha256(message.body).hexdigest()[:12],
        body=message.body,
        **told(headers, queue),
        headers={k: v for k, v in headers.items() if k not in NOTES and not k.startswith(BROKERS_OWN)},
        properties={name: value for name, value in properties.items() if value is not None},
        handle=message.delivery_tag,
    )


def told(headers: Mapping[str, Any], queue: str) -> dict[str, Any]:
    """What the headers say about the end of a message. RabbitMQ notes it when it sets one aside itself; a
    worker's copy starts without such notes, so they are newer than the worker's.
    """
    deaths = headers.get("x-death")
    noted = [death for death in deaths if isinstance(death, dict)] if isinstance(deaths, list) else []
    ours = [death for death in noted if death.get("queue") == queue]
    for death in ours or noted:
        reason, origin, at = f"RabbitMQ: {death.get('reason')}", death.get("queue"), death.get("time")
        deliveries = number(headers.get(ATTEMPTS)) + number(death.get("count"))
        break
    else:
        reason, origin, at = headers.get(REASON, ""), headers.get(QUEUE, ""), headers.get(AT)
        deliveries = number(headers.get(DELIVERIES))
    return {
        "reason": str(reason),
        "deliveries": deliveries,
        "at": at if isinstance(at, datetime) else None,
        "origin": str(origin),
    }


def notes_of(letter: Letter) -> dict[str, Any]:
    """The headers that say what `told` found."""
    notes = {REASON: letter.reason, DELIVERIES: letter.deliveries, QUEUE: letter.origin}
    return notes if letter.at is None else {**notes, AT: letter.at}


def message_of(letter: Letter, notes: Mapping[str, Any]) -> Message:
    """The message as it came, persistent; its expiration is left out, or it would be gone again."""
    return Message(
        letter.body or b"",
        headers={**sendable(dict(letter.headers)), **notes},
        delivery_mode=DeliveryMode.PERSISTENT,
        **{name: letter.properties[name] for name in PROPERTIES if name in letter.properties},
    )
