"""Followers of jobs: any number of readers in a process, which together cost one query for each change.

A reader that is slow is no burden. What all readers of a job share is a short window of its newest events;
who falls behind reads from the table until it has caught up.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator
from itertools import islice
from weakref import WeakValueDictionary

from app.core.deadline import end, within
from app.core.failures import describe
from app.core.job_events import EVENTS_CHANNEL, PAGE, Event, Page, read
from app.core.listen import listen

WINDOW = 200
STEP_TIMEOUT = 10.0
POLL = 1.0
# Proxies give up a connection that is silent for a minute, many after 30 seconds.
PING_EVERY = 15.0
# Of many commits one query hears.
SHORTLY = 0.05
logger = logging.getLogger(__name__)


class Followed:
    """What the readers of one job share."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.recent: deque[Event] = deque()
        self.floor = self.top = -1  # positions; the events between them are those of `recent`
        self.page = Page("queued", None)

    @property
    def begun(self) -> bool:
        """Whether there is a window."""
        return self.floor >= 0

    def begin(self, position: int) -> bool:
        """Open the window at the position up to which a reader has read, unless it reaches back to it."""
        if self.begun and position >= self.floor:
            return False
        self.recent.clear()
        self.floor = self.top = position
        return True

    def forget(self) -> None:
        """Close the window: the readers look for themselves."""
        self.floor = self.top = -1
        self.tell()

    def take(self, page: Page) -> None:
        """Add the events behind `top`."""
        news = bool(page.events) or page.ended != self.page.ended
        self.page = page
        self.recent.extend(page.events)
        while len(self.recent) > WINDOW:
            self.floor = self.recent.popleft().id
        if page.events:
            self.top = page.events[-1].id
        if news:
            self.tell()

    def tell(self) -> None:
        """Wake the readers."""
        self.changed.set()
        self.changed = asyncio.Event()

    def since(self, position: int) -> Page | None:
        """What is known behind a position; None when the window does not reach back to it."""
        if not self.begun or position < self.floor:
            return None
        newer = next((at for at, event in enumerate(self.recent) if event.id > position), len(self.recent))
        state = self.page.state if self.page.ended else "running"
        return Page(state, self.page.error, list(islice(self.recent, newer, newer + PAGE)))


class Followers:
    """The readers of a process; one for each router. It works while there are any."""

    def __init__(self) -> None:
        self._followed: WeakValueDictionary[uuid.UUID, Followed] = WeakValueDictionary()
        self._wake = asyncio.Event()
        self._running = False
        self._pinged = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self, job: uuid.UUID, after: int = 0) -> AsyncGenerator[Event | Page | None, None]:
        """The events of a job behind a position; when there will be no more, how it ended, as a Page. Just
        nothing more when it is deleted. None is a sign of life, now and then while there is nothing new.

        While the database is away the reader waits: browsers that are turned away do not come again.
        """
        # Held by the readers alone: when the last one has gone, however that went, the job is forgotten.
        followed, quiet = self._followed.setdefault(job, Followed()), False
        while True:
            self._start()
            changed = followed.changed
            try:
                page = followed.since(after) or await self._read(job, after)
            except Exception as error:  # whatever it is, the reader stays: the next look may go well
                logger.debug("a reader waits: %s", describe(error))
                await asyncio.sleep(POLL)
                yield None
                continue
            if page is None:
                return
            for event in page.events:
                yield event
                after = event.id
            if page.ended:
                yield page
                return
            if not page.events:
                if quiet:
                    yield None
                if followed.begin(after):
                    self._wake.set()  # something may have come since we looked
                await changed.wait()
            quiet = not page.events

    async def close(self) -> None:
        """Stop; readers hear nothing more."""
        await end(list(self._tasks))

    @staticmethod
    async def _read(job: uuid.UUID, after: int) -> Page | None:
        """A page from the table; None when the job is gone."""
        return (await within(STEP_TIMEOUT, read({job: after}))).get(job, Page("running", None))

    def _start(self) -> None:
        if not self._running:
            self._running = True
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        """Look when something was written, and now and then in case that was not heard."""
        ears = asyncio.ensure_future(listen(EVENTS_CHANNEL, self._wake.set, POLL))
        try:
            while self._followed:
                self._wake.clear()
                try:
                    full = await within(STEP_TIMEOUT, self._look())
                except Exception as error:  # the readers wait with us
                    logger.debug("no news of jobs: %s", describe(error))
                    full = False
                self._ping()
                if not full:
                    await self._sleep()
        finally:
            self._running = False
            await end([ears])

    async def _look(self) -> bool:
        """Bring what is new to all that are followed; whether there is more."""
        open_ = {job: followed for job, followed in self._followed.items() if followed.begun}
        positions = {job: followed.top for job, followed in open_.items() if not followed.page.ended}
        pages = await read(positions) if positions else {}
        for job, page in pages.items():
            if page is None:
                open_[job].forget()
            elif open_[job].top == positions[job]:  # else it was opened anew in the meantime
                open_[job].take(page)
        return any(page.full for page in pages.values() if page is not None)

    def _ping(self) -> None:
        """Wake the readers now and then: who has nothing new shows that it is there."""
        now = time.monotonic()
        if now - self._pinged > PING_EVERY:
            self._pinged = now
            for followed in list(self._followed.values()):
                followed.tell()

    async def _sleep(self) -> None:
        await asyncio.sleep(SHORTLY)
        try:
            async with asyncio.timeout(POLL):
                await self._wake.wait()
        except TimeoutError:
            return
