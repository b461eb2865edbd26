"""What every consumer does, whatever carries its messages: slots, deadlines, the gate, and the way out.

An adapter (`stream_consumer`, `rabbit_consumer`) gets messages and settles them. When one of its loops fails
the process ends, and its supervisor starts a new one.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from app.core.consumer import Consumer
from app.core.deadline import Watch, enforce, together
from app.core.foreign import Foreign
from app.core.gate import Gate
from app.core.outcomes import Dead, Done, Down, Outcome, Postpone
from app.core.slots import Slots
from app.core.worker_settings import WorkerSettings, worker_settings

SILENT_AFTER = 10.0
NOT_STARTED = "has not started"


class Delivery(Protocol):
    """A message in hand."""

    watch: Watch

    @property
    def id(self) -> Hashable:
        """What tells it from the others in hand."""

    @property
    def raw(self) -> bytes | None:
        """The message; None when there is nothing that could be one."""

    def foreign(self) -> Foreign:
        """The same for those who translate it. Raises ValueError for fields that are no text."""

    @property
    def count(self) -> int:
        """1 for the first delivery."""


D = TypeVar("D", bound=Delivery)


class MessageWorker(ABC, Generic[D]):
    """Runs `consumer` until it is told to stop. What an adapter has to write is at the end."""

    def __init__(self, consumer: Consumer, settings: WorkerSettings | None = None) -> None:
        self.consumer = consumer
        self.name = consumer.name
        self.settings = settings or worker_settings()
        self.gate = Gate()
        self.slots: Slots[D] = Slots(self.settings.worker_concurrency, self._handle)
        self.held: dict[Any, D] = {}
        self.stopping = False
        self.trouble: str | None = NOT_STARTED
        self.fed = time.monotonic()
        # A suspect's worker died with it before, more than once; it runs beside no other suspect. So what
        # kills workers is set aside after its own deliveries, and its neighbours do not run out of theirs.
        self.suspect_from = 2 if self.settings.worker_max_deliveries > 3 else 1

    # -- life ------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, then finish or hand back what is in hand."""
        feed = asyncio.ensure_future(self.feed())
        loops: list[Coroutine[Any, Any, None] | asyncio.Task[None]] = [
            feed,
            *self.loops(),
            enforce(self._watches),
            self.gate.watch(),
            *(self.slots.work() for _ in range(self.slots.count)),
        ]
        if self.consumer.uses_database:
            loops.append(self.gate.doubt(self._watches))
        try:
            await together(self._until(stop, feed), loops)
            await self.leave()
        finally:
            await self.close()

    def problems(self) -> list[str]:
        """Why this worker is not consuming; empty when it is."""
        silence = time.monotonic() - self.fed
        found = [
            self.trouble,
            f"paused: {self.gate.reason}" if self.gate.reason else None,
            f"has not asked for messages for {silence:.0f} s" if silence > SILENT_AFTER else None,
            self.late(),
        ]
        return [f"{self.name}: {problem}" for problem in found if problem]

    def _watches(self) -> Iterator[Watch]:
        return (delivery.watch for delivery in self.held.values())

    async def _until(self, stop: asyncio.Event, feed: asyncio.Task[None]) -> None:
        await stop.wait()
        self.stopping = True
        self.wake()
        await asyncio.wait([feed], timeout=2)
        feed.cancel()
        unstarted = list(self.slots.ready)
        self.slots.ready.clear()
        await self.hand_back(unstarted)
        await self._settled(self.settings.worker_drain_seconds)
        for watch in list(self._watches()):
            watch.revoke("handed back at shutdown")
        await self._settled(5)

    async def _settled(self, timeout: float) -> None:
        """Wait until what was started is done and settled, at most `timeout` seconds."""
        ends = time.monotonic() + timeout
        while self.held and time.monotonic() < ends:
            await asyncio.sleep(0.02)

    def start(self, deliveries: Iterable[D]) -> None:
        """Handle `deliveries` as soon as there is room."""
        self.slots.add(deliveries)

    # -- handling --------------------------------------------------------------------------------------

    async def _handle(self, delivery: D) -> None:
        outcome = await self.decide(delivery)
        if isinstance(outcome, Done):
            self.gate.succeeded()
            self.done(delivery)
        else:
            if isinstance(outcome, Down):
                self.gate.close(outcome.reason)
                self.wake()
            await self.give_up(delivery, outcome)
            self.held.pop(delivery.id, None)

    async def decide(self, delivery: D) -> Outcome:
        """Handle a message; what has become of it."""
        if self.gate.reason is not None:  # it closed after this message was fetched
            return Postpone(self.gate.reason)
        raw = delivery.raw if self.consumer.translate is None else delivery.foreign
        if raw is None:
            return Dead("no field 'event' in the entry")
        return await self.consumer.decide(raw, delivery.count, delivery.watch, self.settings)

    # -- what an adapter writes ------------------------------------------------------------------------

    @abstractmethod
    async def feed(self) -> None:
        """Fetch messages, add them to `held` and `slots`, until `stopping`. Failures of the broker are waited
        for, with the reason in `trouble`, and `fed` says when it last went well.
        """

    def wake(self) -> None:
        """Let `feed` look at once what has changed."""
        self.slots.hungry.set()

    def loops(self) -> Iterable[Coroutine[Any, Any, None]]:
        """What else runs beside it, for ever."""
        return ()

    def late(self) -> str | None:
        """Why others may take over what is in hand; None when they may not."""
        return None

    @abstractmethod
    def done(self, delivery: D) -> None:
        """Acknowledge soon, and take out of `held` then."""

    @abstractmethod
    async def give_up(self, delivery: D, outcome: Outcome) -> None:
        """Settle what is not done: Retry, Postpone, Down or Dead."""

    @abstractmethod
    async def hand_back(self, deliveries: list[D]) -> None:
        """Return what was not started, without counting it, and take it out of `held`."""

    async def leave(self) -> None:
        """Say farewell to the broker; nothing may fail here."""

    async def close(self) -> None:
        """Close the connections."""


async def persist(
    step: Callable[[], Awaitable[Any]],
    failures: tuple[type[Exception], ...],
    useless: Callable[[Exception], bool],
) -> None:
    """Repeat `step` until the broker took it or it is `useless`: the work is done, the note is missing."""
    pause = 0.1
    while True:
        try:
            await step()
            return
        except failures as error:
            if useless(error):
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
