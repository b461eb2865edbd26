"""Batches: one handler call and one transaction for many messages.

    async def handle(messages: Sequence[Message[OrderPaid]], session: AsyncSession) -> None:
        await OrderService(session).mark_all_paid([message.data for message in messages])

    consumer = Consumer(..., routes=(on_batch("shop.order.paid.v1", OrderPaid, handle),))

The effect and the inbox rows of all its messages commit together. When a batch fails, each of its messages is
done alone, so that a bad one does not spoil the rest. A batch is never larger than WORKER_CONCURRENCY.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.consumer import Route, really_down
from app.core.database import get_session
from app.core.deadline import within
from app.core.envelope import Message, current_traceparent
from app.core.failures import classify, describe
from app.core.inbox import IDLE_MARGIN, LOCK_PATIENCE, transactional
from app.core.outcomes import Done, Down, Outcome, Postpone
from app.core.worker_settings import worker_settings

T = TypeVar("T", bound=BaseModel)
BatchHandler = Callable[[Sequence[Message[T]], AsyncSession], Awaitable[None]]
logger = logging.getLogger(__name__)

# As `inbox.CLAIM`, for many. Sorted: two workers with the same messages in different order would each wait
# for a row of the other, and PostgreSQL would end one of them.
CLAIM_ALL = text(
    """
    INSERT INTO inbox_message (consumer, message_id)
    SELECT :consumer, ids.id FROM unnest(CAST(:message_ids AS varchar[])) AS ids (id)
    WHERE set_config('idle_in_transaction_session_timeout', :idle, true) IS NOT NULL
      AND set_config('lock_timeout', :patience, true) IS NOT NULL
    ORDER BY ids.id
    ON CONFLICT DO NOTHING
    RETURNING message_id
    """
)
# Of the handler's time. The rest is for doing its messages alone, should the batch hang.
BATCH_SHARE = 0.5
TURN_SHARE = 0.75
# Each needs a connection of the pool, which has five unless the project says otherwise.
ALONE_AT_ONCE = 5


def on_batch(
    type_: str, payload: type[T], handle: BatchHandler[T], *, most: int = 100, wait: float = 0.05
) -> Route:
    """Handle messages of `type_` up to `most` at a time, which have gathered within `wait` seconds.

    The handler gets messages in the order of their arrival, none that was done before and none twice. What it
    raises concerns all of them: then it is called again for each one alone, and that outcome counts.
    """
    if most < 1 or wait < 0:
        raise ValueError(f"batches of {type_}: most={most}, wait={wait:g}; at least 1 and 0 are needed")
    collector: Collector | None = None

    async def process(message: Message[Any], timeout: float) -> Outcome:
        nonlocal collector
        loop = asyncio.get_running_loop()
        if collector is None or collector.loop is not loop:
            collector = Collector(loop, handle, most, wait)
        return await collector.process(message, timeout)

    return Route(type_, payload, process)


@dataclass(slots=True, eq=False)
class Place:
    """A message in a batch, and what becomes of it; None: it has to be done alone."""

    message: Message[Any]
    outcome: asyncio.Future[Outcome | None]


@dataclass(slots=True, eq=False)
class Batch:
    """Messages of one consumer that are done together."""

    consumer: str
    timeout: float
    most: int
    places: list[Place] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None

    def settle(self, outcome: Outcome | None) -> None:
        """Tell everybody who still waits."""
        for place in self.places:
            if not place.outcome.done():
                place.outcome.set_result(outcome)


class Collector:
    """Gathers messages into batches and runs them in tasks of their own: the end of one slot, by a deadline
    or a shutdown, is not the end of the others' batch.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, handle: BatchHandler[Any], most: int, wait: float
    ) -> None:
        self.loop = loop
        self._handle, self._wait = handle, wait
        # A batch cannot fill up beyond the slots; waiting for more would only lose time.
        self._most = min(most, worker_settings().worker_concurrency)
        self._single = transactional(self._handle_one)
        self._gathering: dict[str, Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(ALONE_AT_ONCE)

    async def process(self, message: Message[Any], timeout: float) -> Outcome:
        """What becomes of `message`. One that was delivered before may be what spoiled its batch, or killed
        its worker: it joins no other.
        """
        began = time.monotonic()
        if message.delivery == 1:
            outcome = await self._together(message, timeout)
            if outcome is not None:
                return outcome
        return await self._alone(message, began, timeout)

    # -- together --------------------------------------------------------------------------------------

    async def _together(self, message: Message[Any], timeout: float) -> Outcome | None:
        batch, place = self._join(message, timeout)
        try:
            return await place.outcome
        except asyncio.CancelledError:
            self._leave(batch, place)
            raise

    def _join(self, message: Message[Any], timeout: float) -> tuple[Batch, Place]:
        batch = self._gathering.get(message.consumer)
        if batch is None:
            batch = self._gathering[message.consumer] = Batch(message.consumer, timeout, self._most)
            batch.timer = self.loop.call_later(self._wait, self._begin, batch)
        place = Place(message, self.loop.create_future())
        batch.places.append(place)
        if len(batch.places) >= batch.most:
            self._begin(batch)
        return batch, place

    def _leave(self, batch: Batch, place: Place) -> None:
        """Take the message out of a batch that has not begun. One that has may still commit it, which the
        inbox makes harmless; when nobody waits for it any more it is cancelled.
        """
        batch.places.remove(place)
        if batch.places:
            return
        self._close(batch)
        if batch.task is not None:
            batch.task.cancel()

    def _close(self, batch: Batch) -> None:
        if self._gathering.get(batch.consumer) is batch:
            del self._gathering[batch.consumer]
        if batch.timer is not None:
            batch.timer.cancel()

    def _begin(self, batch: Batch) -> None:
        self._close(batch)
        if len(batch.places) == 1:
            batch.settle(None)
            return
        batch.task = self.loop.create_task(self._run(batch))
        self._tasks.add(batch.task)
        batch.task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: Batch) -> None:
        """Do the batch and settle it, whatever happens."""
        current_traceparent.set(None)  # the messages come from different traces
        places = list(batch.places)
        try:
            new = await within(batch.timeout * BATCH_SHARE, self._do(batch, [p.message for p in places]))
            for place in places:
                if not place.outcome.done():
                    place.outcome.set_result(Done(repeated=place.message.message_id not in new))
                new.discard(place.message.message_id)
        except Exception as error:
            batch.settle(await self._failed(batch, error))
        finally:
            batch.settle(None)

    async def _do(self, batch: Batch, messages: Sequence[Message[Any]]) -> set[str]:
        """Claim and handle `messages` in one transaction; the ids of those that were not done before."""
        unique = {message.message_id: message for message in reversed(messages)}
        async with get_session() as session:
            new = await claim_all(session, batch.consumer, unique, batch.timeout)
            first = [m for m in messages if m.message_id in new and unique[m.message_id] is m]
            if first:
                await self._handle(first, session)
        return new

    async def _failed(self, batch: Batch, error: Exception) -> Outcome | None:
        """What a failure means for all messages of a batch; None: each has to be done alone."""
        outcome = classify(error)
        if isinstance(outcome, Down):
            outcome = await really_down(outcome, overrun=isinstance(error, TimeoutError))
        alone = not isinstance(outcome, Down | Postpone)
        logger.warning(
            "%s: a batch of %d failed%s: %s",
            batch.consumer,
            len(batch.places),
            ", each is done alone" if alone else "",
            describe(error),
        )
        return None if alone else outcome

    # -- alone -----------------------------------------------------------------------------------------

    async def _alone(self, message: Message[Any], began: float, timeout: float) -> Outcome:
        """Do one message in a transaction of its own. Who does not get a turn in time has made no attempt."""
        spent = time.monotonic() - began
        try:
            async with asyncio.timeout(max(0.0, timeout * TURN_SHARE - spent)):
                await self._turns.acquire()
        except TimeoutError:
            return Postpone("others, done alone as well, took all the time", 1.0)
        try:
            return await self._single(message, timeout)
        finally:
            self._turns.release()

    async def _handle_one(self, message: Message[Any], session: AsyncSession) -> None:
        await self._handle([message], session)


async def claim_all(
    session: AsyncSession, consumer: str, message_ids: Iterable[str], timeout: float
) -> set[str]:
    """Note messages as done in this transaction; the ids of those that no earlier delivery has committed."""
    values = {
        "consumer": consumer,
        "message_ids": list(message_ids),
        "idle": f"{int((timeout + IDLE_MARGIN) * 1000)}ms",
        "patience": LOCK_PATIENCE,
    }
    return set((await session.execute(CLAIM_ALL, values)).scalars())
