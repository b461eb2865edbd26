"""A consumer of a Redis stream: reads, runs, settles, and takes over from the dead.

When one of its loops fails the process ends, and its supervisor starts a new one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

from app.core.consumer import Consumer
from app.core.deadline import Watch, end, enforce
from app.core.gate import Gate
from app.core.outcomes import Dead, Done, Down, Outcome, Postpone, Retry
from app.core.redis_stream import EVENT, REDIS_FAILURES, Entry, StreamGroup, is_missing_group, say
from app.core.slots import Slots
from app.core.stream_upkeep import Leases, tidy
from app.core.worker_settings import WorkerSettings, worker_settings

logger = logging.getLogger(__name__)

DUE_EVERY = 0.25
# The effect is committed, so the note may wait for company: a command costs more than a message in it. What a
# crash leaves unacknowledged is delivered again and found in the inbox.
ACK_DELAY = 0.02
SILENT_AFTER = 10.0
NOT_STARTED = "has not started"


class Delivery:
    """An entry in hand. A suspect is one whose worker died with it before, more than once."""

    __slots__ = ("entry", "suspect", "watch")

    def __init__(self, entry: Entry, *, suspect: bool = False) -> None:
        self.entry = entry
        self.suspect = suspect
        self.watch = Watch()


class StreamConsumer:
    """Runs `consumer` on its Redis stream until it is told to stop."""

    def __init__(self, consumer: Consumer, settings: WorkerSettings | None = None) -> None:
        self.consumer = consumer
        self.name = consumer.name
        self.settings = settings or worker_settings()
        slots = self.settings.worker_concurrency
        url = self.settings.redis_url.get_secret_value()
        self.group = StreamGroup(url, consumer.topic, consumer.name, connections=slots + 10)
        self.gate = Gate()
        self.slots: Slots[Delivery] = Slots(slots, self._handle)
        self.held: dict[bytes, Delivery] = {}
        self.leases = Leases(self.group, lambda: self.held, self.settings)
        # A suspect runs beside no other suspect: what kills workers is set aside after its own deliveries,
        # and the messages beside it do not run out of theirs.
        self._suspect_from = 2 if self.settings.worker_max_deliveries > 3 else 1
        self._done: list[bytes] = []
        self._wake_ack = asyncio.Event()
        self._stopping = False
        self._fed = time.monotonic()
        self._trouble: str | None = NOT_STARTED
        self._next_take_over = self._next_due = 0.0

    # -- life ------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, then finish or hand back what is in hand."""
        loops = [
            self._acknowledge(),
            self.leases.keep(),
            tidy(self.group, self.gate, self.settings),
            enforce(self._watches),
            self.gate.watch(),
            *(self.slots.work() for _ in range(self.slots.count)),
        ]
        if self.consumer.uses_database:
            loops.append(self.gate.doubt(self._watches))
        try:
            async with asyncio.TaskGroup() as tasks:
                feed = tasks.create_task(self._feed())
                running = [tasks.create_task(loop) for loop in loops]
                await stop.wait()
                await self._drain(feed)
                await end([feed, *running])
            await self._leave()
        finally:
            await self.group.close()

    def problems(self) -> list[str]:
        """Why this worker is not consuming; empty when it is."""
        silence = time.monotonic() - self._fed
        found = [
            self._trouble,
            f"paused: {self.gate.reason}" if self.gate.reason else None,
            f"has not asked for messages for {silence:.0f} s" if silence > SILENT_AFTER else None,
            self.leases.problem(),
        ]
        return [f"{self.name}: {problem}" for problem in found if problem]

    def _watches(self) -> Iterator[Watch]:
        return (delivery.watch for delivery in self.held.values())

    async def _drain(self, feed: asyncio.Task[None]) -> None:
        self._stopping = True
        self.slots.hungry.set()
        await asyncio.wait([feed], timeout=2)
        feed.cancel()
        for delivery in self.slots.ready:  # not started: `leave` hands it back
            self.held.pop(delivery.entry.id, None)
        self.slots.ready.clear()
        await self._settled(self.settings.worker_drain_seconds)
        for watch in list(self._watches()):
            watch.revoke("handed back at shutdown")
        await self._settled(5)

    async def _settled(self, timeout: float) -> None:
        """Wait until what was started is done and acknowledged, at most `timeout` seconds."""
        ends = time.monotonic() + timeout
        while self.held and time.monotonic() < ends:
            await asyncio.sleep(0.02)

    async def _leave(self) -> None:
        try:
            handed_back = await self.group.leave()
        except REDIS_FAILURES as error:
            logger.warning("%s: left without a farewell, others take over: %s", self.name, say(error))
        else:
            logger.info("%s: stopped, %d messages handed back", self.name, handed_back)

    # -- getting entries -------------------------------------------------------------------------------

    async def _feed(self) -> None:
        with suppress(*REDIS_FAILURES):
            await self.group.ensure()
        pause = 0.1
        while not self._stopping:
            try:
                self._start(await self._next())
            except REDIS_FAILURES as error:
                await self._recover(error, pause)
                pause = min(2.0, pause * 2)
            else:
                pause = 0.1
                self._fed = time.monotonic()
                self._trouble = None

    async def _next(self) -> list[Delivery]:
        """The next entries: of dead workers, then retries that are due, then new ones."""
        if not await self.gate.wait_open(1.0):
            return []
        room = self.slots.room()
        if room == 0:
            self.slots.hungry.clear()
            await wait_for(self.slots.hungry, 1.0)
            return []
        found: list[Delivery] = []
        now = time.monotonic()
        if now >= self._next_take_over:
            self._next_take_over = now + self.settings.worker_heartbeat_seconds * random.uniform(0.8, 1.2)
            found += await self._take_over(room)
        if now >= self._next_due and len(found) < room:
            self._next_due = now + DUE_EVERY
            found += map(Delivery, await self.group.due(room - len(found)))
        if len(found) < room:
            found += map(Delivery, await self.group.read(room - len(found), wait=not found))
        return found

    async def _take_over(self, room: int) -> list[Delivery]:
        suspects = 0 if any(delivery.suspect for delivery in self.held.values()) else 1
        lease = self.settings.worker_lease_seconds
        found = await self.group.take_over(lease, room, self._suspect_from, suspects)
        if found:
            logger.warning("%s: took over %d messages of workers that went silent", self.name, len(found))
        return [Delivery(entry, suspect=entry.count > self._suspect_from) for entry in found]

    def _start(self, found: list[Delivery]) -> None:
        new: list[Delivery] = []
        for delivery in found:
            running = self.held.get(delivery.entry.id)
            if running is None:
                self.held[delivery.entry.id] = delivery
                new.append(delivery)
            else:  # our own, claimed again after a silence of ours
                running.entry.count = delivery.entry.count
        self.slots.add(new)

    async def _recover(self, error: Exception, pause: float) -> None:
        """Redis is away, or came back without our group: say so, wait, mend."""
        if self._trouble in (None, NOT_STARTED):
            logger.warning("%s: Redis: %s", self.name, say(error))
        self._trouble = f"Redis: {say(error)}"
        if not is_missing_group(error):
            await asyncio.sleep(random.uniform(pause / 2, pause))
        try:
            await self.group.ensure()
        except REDIS_FAILURES:
            await asyncio.sleep(pause)

    # -- handling and settling -------------------------------------------------------------------------

    async def _handle(self, delivery: Delivery) -> None:
        entry, raw = delivery.entry, delivery.entry.fields.get(EVENT)
        outcome: Outcome
        if self.gate.reason is not None:  # it closed after this entry was read
            outcome = Postpone(self.gate.reason)
        elif raw is None:
            outcome = Dead(f"no field '{EVENT.decode()}' in the entry")
        else:
            outcome = await self.consumer.decide(raw, entry.count, delivery.watch, self.settings)
        if isinstance(outcome, Done):
            self.gate.succeeded()
            self._done.append(entry.id)
            self._wake_ack.set()
        else:
            await persist(lambda: self._give_up(entry, outcome))
            self.held.pop(entry.id, None)

    async def _give_up(self, entry: Entry, outcome: Outcome) -> None:
        match outcome:
            case Retry(after=after):
                pause = self.settings.retry_policy.pause(entry.count, after)
                await self.group.park(entry, pause, counted=True)
            case Postpone(after=after):
                await self.group.park(entry, after, counted=False)
            case Down(reason=reason):
                self.gate.close(reason)
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
                await persist(lambda ids=ids: self.group.ack(ids))  # type: ignore[misc]
                for id_ in ids:
                    self.held.pop(id_, None)


async def persist(step: Callable[[], Awaitable[None]]) -> None:
    """Repeat `step` until Redis has taken it: the work is done, only the note is missing. The lease goes on
    meanwhile; a Redis that lost the entry needs no note.
    """
    pause = 0.1
    while True:
        try:
            await step()
            return
        except REDIS_FAILURES as error:
            if is_missing_group(error):
                return
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(2.0, pause * 2)


async def wait_for(event: asyncio.Event, timeout: float) -> None:
    """Wait for `event`, at most `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return
