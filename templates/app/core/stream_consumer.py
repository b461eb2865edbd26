"""A consumer of a Redis stream: reads, settles, and takes over from the dead."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from app.core.consumer import Consumer
from app.core.deadline import Watch
from app.core.foreign import Foreign
from app.core.message_worker import NOT_STARTED, MessageWorker, persist, wait_for
from app.core.outcomes import Dead, Down, Outcome, Postpone, Retry
from app.core.redis_stream import EVENT, REDIS_FAILURES, Entry, StreamGroup, is_missing_group, say
from app.core.stream_dead_letters import StreamDeadLetters
from app.core.stream_upkeep import Leases, tidy
from app.core.worker_settings import WorkerSettings

logger = logging.getLogger(__name__)

DUE_EVERY = 0.25
# The effect is committed, so the note may wait for company: a command costs more than a message in it. What a
# crash leaves unacknowledged is delivered again and found in the inbox.
ACK_DELAY = 0.02


class StreamDelivery:
    """An entry in hand."""

    __slots__ = ("entry", "suspect", "watch")

    def __init__(self, entry: Entry, *, suspect: bool = False) -> None:
        self.entry = entry
        self.suspect = suspect
        self.watch = Watch()

    @property
    def id(self) -> bytes:
        """The entry's id."""
        return self.entry.id

    @property
    def raw(self) -> bytes | None:
        """The message."""
        return self.entry.fields.get(EVENT)

    def foreign(self) -> Foreign:
        """See Delivery."""
        fields = {name.decode(): value.decode() for name, value in self.entry.fields.items()}
        return Foreign(self.entry.id.decode(), self.raw or b"", fields)

    @property
    def count(self) -> int:
        """The number of this delivery."""
        return self.entry.count


class StreamConsumer(MessageWorker[StreamDelivery]):
    """Runs `consumer` on its Redis stream until it is told to stop."""

    def __init__(self, consumer: Consumer, settings: WorkerSettings | None = None) -> None:
        super().__init__(consumer, settings)
        self.group = self.open_group()
        self.leases = Leases(self.group, lambda: self.held, self.settings)
        self._done: list[bytes] = []
        self._wake_ack = asyncio.Event()
        self._next_take_over = self._next_due = 0.0

    def open_group(self) -> StreamGroup:
        """The worker's end of the stream."""
        url, connections = self.settings.redis_url.get_secret_value(), self.slots.count + 10
        return StreamGroup(url, self.consumer.topic, self.consumer.name, connections)

    def loops(self) -> Iterable[Coroutine[Any, Any, None]]:
        """See MessageWorker."""
        return self._acknowledge(), self.leases.keep(), tidy(self.group, self.gate, self.settings)

    def late(self) -> str | None:
        """See MessageWorker."""
        return self.leases.problem()

    def dead_letters(self) -> StreamDeadLetters:
        """What `app.workers.dead_letters` works on."""
        return StreamDeadLetters(self.group)

    async def hand_back(self, deliveries: list[StreamDelivery]) -> None:
        """See MessageWorker. `leave` tells Redis."""
        for delivery in deliveries:
            self.held.pop(delivery.id, None)

    async def leave(self) -> None:
        """See MessageWorker."""
        try:
            handed_back = await self.group.leave()
        except REDIS_FAILURES as error:
            logger.warning("%s: left without a farewell, others take over: %s", self.name, say(error))
        else:
            logger.info("%s: stopped, %d messages handed back", self.name, handed_back)

    async def close(self) -> None:
        """See MessageWorker."""
        await self.group.close()

    # -- getting entries -------------------------------------------------------------------------------

    async def feed(self) -> None:
        """See MessageWorker."""
        with suppress(*REDIS_FAILURES):
            await self.group.ensure()
        pause = 0.1
        while not self.stopping:
            try:
                self._start(await self._next())
            except REDIS_FAILURES as error:
                await self._recover(error, pause)
                pause = min(2.0, pause * 2)
            else:
                pause = 0.1
                self.fed = time.monotonic()
                self.trouble = None

    async def _next(self) -> list[StreamDelivery]:
        """The next entries: of dead workers, then retries that are due, then new ones."""
        if not await self.gate.wait_open(1.0):
            return []
        room = self.slots.room()
        if room == 0:
            self.slots.hungry.clear()
            await wait_for(self.slots.hungry, 1.0)
            return []
        if self.gate.unproven:  # one message shows whether it goes well again
            room = 1
        found: list[StreamDelivery] = []
        now = time.monotonic()
        if now >= self._next_take_over:
            self._next_take_over = now + self.settings.worker_heartbeat_seconds * random.uniform(0.8, 1.2)
            found += await self._take_over(room)
        if now >= self._next_due and len(found) < room:
            self._next_due = now + DUE_EVERY
            found += map(StreamDelivery, await self.group.due(room - len(found)))
        if len(found) < room:
            suspect = self._suspect_in_hand()
            wait = not found and not suspect
            found += map(StreamDelivery, await self.group.read(room - len(found), wait=wait))
            if suspect and not found:  # when it is done the next one may be taken over
                self.slots.hungry.clear()
                await wait_for(self.slots.hungry, 0.1)
        return found

    def _suspect_in_hand(self) -> bool:
        return any(delivery.suspect for delivery in self.held.values())

    async def _take_over(self, room: int) -> list[StreamDelivery]:
        suspects = 0 if self._suspect_in_hand() else 1
        lease = self.settings.worker_lease_seconds
        found = await self.group.take_over(lease, room, self.suspect_from, suspects)
        if found:
            logger.warning("%s: took over %d messages of workers that went silent", self.name, len(found))
        return [StreamDelivery(entry, suspect=entry.count > self.suspect_from) for entry in found]

    def _start(self, found: list[StreamDelivery]) -> None:
        new: list[StreamDelivery] = []
        for delivery in found:
            running = self.held.get(delivery.entry.id)
            if running is None:
                self.held[delivery.entry.id] = delivery
                new.append(delivery)
            else:  # our own, claimed again after a silence of ours
                running.entry.count = delivery.entry.count
        self.start(new)

    async def _recover(self, error: Exception, pause: float) -> None:
        """Redis is away, or came back without our group: say so, wait, mend."""
        if self.trouble in (None, NOT_STARTED):
            logger.warning("%s: Redis: %s", self.name, say(error))
        self.trouble = f"Redis: {say(error)}"
        if not is_missing_group(error):
            await asyncio.sleep(random.uniform(pause / 2, pause))
        try:
            await self.group.ensure()
        except REDIS_FAILURES:
            await asyncio.sleep(pause)

    # -- settling --------------------------------------------------------------------------------------

    def done(self, delivery: StreamDelivery) -> None:
        """See MessageWorker."""
        self._done.append(delivery.id)
        self._wake_ack.set()

    async def give_up(self, delivery: StreamDelivery, outcome: Outcome) -> None:
        """See MessageWorker."""
        await self._persist(lambda: self._settle(delivery.entry, outcome))

    async def _settle(self, entry: Entry, outcome: Outcome) -> None:
        match outcome:
            case Retry(after=after):
                pause = self.settings.retry_policy.pause(entry.count, after)
                await self.group.park(entry, pause, counted=True)
            case Postpone(after=after):
                await self.group.park(entry, after, counted=False)
            case Down():
                await self.group.park(entry, 0, counted=False)
            case Dead(reason=reason):
                await self.group.bury(entry, reason)

    async def _acknowledge(self) -> None:
        """Acknowledge all that was done since the last time: one command, however many there are."""
        while True:
            await self._wake_ack.wait()
            await asyncio.sleep(ACK_DELAY)
            self._wake_ack.clear()
            ids, self._done = self._done, []
            if ids:
                await self._persist(lambda ids=ids: self.group.ack(ids))  # type: ignore[misc]
                for id_ in ids:
                    delivery = self.held.pop(id_, None)
                    if delivery is not None and delivery.suspect:
                        self._next_take_over = 0.0
                        self.slots.hungry.set()

    async def _persist(self, step: Callable[[], Awaitable[Any]]) -> None:
        """The lease goes on meanwhile; a Redis that lost the entry needs no note."""
        await persist(step, REDIS_FAILURES, is_missing_group)
