"""Asks providers of language models for many answers at once, for less and later: jobs `via` batch.

Any number of them may run: each batch is worked on by one, which keeps a lease of its row. The row is there
before the provider is asked. So when a worker dies in between, the next one knows that there may be a batch,
and looks for it before it asks again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
import uuid
from contextlib import suppress
from datetime import timedelta

from app.core import llm_batch, llm_batch_store
from app.core.database import get_session
from app.core.deadline import together, within
from app.core.failures import describe
from app.core.gate import forget_idle_connections
from app.core.job import BusyError
from app.core.job_settings import JobSettings, job_settings
from app.core.llm_batch import Asked, Used
from app.core.llm_batch_provider import BatchProvider, Look, RefusedBatchError, Result
from app.core.llm_batch_settings import LlmBatchSettings, llm_batch_settings
from app.core.llm_batch_store import Batch, LostError
from app.core.llm_settings import llm_settings
from app.core.outcomes import Dead, Outcome, PermanentError, Postpone, Retry, TransientError, WorkerError
from app.core.worker_settings import worker_settings

STEP_TIMEOUT = 60.0
CHUNK = 100
# How far a provider's clock may be from ours.
SKEW = timedelta(minutes=10)
NOT_STARTED = "has not started"
DIED = "its worker was not heard of any more while the batch was made"
logger = logging.getLogger(__name__)


class BatchWorker:
    """Makes batches and looks at them, one after the other, until it is told to stop."""

    name = "llm_batches"

    def __init__(
        self,
        provider: BatchProvider,
        settings: LlmBatchSettings | None = None,
        jobs: JobSettings | None = None,
    ) -> None:
        self.provider = provider
        self.settings = settings or llm_batch_settings()
        self.jobs = jobs or job_settings()
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._held: Batch | None = None
        self._trouble: str | None = NOT_STARTED
        self._refused = False  # by the provider: what is not asked goes well, and proves nothing
        self._moved = time.monotonic()
        self._silence = llm_settings().llm_silence_seconds + STEP_TIMEOUT

    # -- life ------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. What does not end in the drain time is broken off: at every point of it
        another worker can go on.
        """
        turns = asyncio.ensure_future(self._turns(stop))

        async def until() -> None:
            await stop.wait()
            await asyncio.wait([turns], timeout=worker_settings().worker_drain_seconds)

        try:
            await together(until(), [turns, self._beat()])
        finally:
            await self.provider.aclose()

    def problems(self) -> list[str]:
        """Why batches are not cared for; empty when all is well. Called from another thread."""
        silence = time.monotonic() - self._moved
        still = f"has not moved for {silence:.0f} s" if silence > self._silence else None
        return [f"{self.name}: {problem}" for problem in (self._trouble, still) if problem]

    async def _turns(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            busy = False
            try:
                busy = await self._turn()
                if busy or not self._refused:
                    self._trouble, self._refused = None, False
            except LostError as error:  # its new holder goes on
                logger.warning("%s", error)
            except Exception as error:  # shown by `problems`; the next turn goes on
                await self._troubled(error)
            self._moved = time.monotonic()
            if not busy:
                with suppress(TimeoutError):
                    pause = self.jobs.job_poll_seconds * random.uniform(0.8, 1.2)  # jitter, not a secret
                    await asyncio.wait_for(stop.wait(), pause)

    async def _troubled(self, error: Exception) -> None:
        if self._trouble is None:
            foreseen = isinstance(error, WorkerError)
            logger.warning("batches: %s", describe(error), exc_info=None if foreseen else error)
        self._trouble, self._refused = describe(error), isinstance(error, PermanentError)
        if isinstance(error, TimeoutError):
            await forget_idle_connections()

    async def _turn(self) -> bool:
        """Look at a batch that is due, or make one; whether there was anything to do."""
        try:
            taking = llm_batch_store.take(self.holder, self.jobs.lease, self.jobs.keep)
            batch = await within(STEP_TIMEOUT, taking)
            if self._trouble == NOT_STARTED:
                self._trouble = None
            if batch is not None:
                self._held = batch
                await self._look(batch)
                return True
            collecting = llm_batch_store.collect(self.settings, self.holder, self.jobs.lease)
            if collected := await within(STEP_TIMEOUT, collecting):
                self._held, rows = collected
                await self._submit(self._held, await llm_batch.gather(self._held, rows))
                return True
        finally:
            self._held = None
        return False

    async def _beat(self) -> None:
        """Keep the lease of the batch that is worked on, for ever."""
        while True:
            await asyncio.sleep(self.jobs.job_lease_seconds / 4)
            batch = self._held
            if batch is None:
                continue
            try:
                await within(STEP_TIMEOUT, self._keep(batch))
            except Exception as error:  # when it is lost, the next thing that is written finds out
                logger.debug("the lease of batch %s: %s", batch.id, describe(error))

    async def _keep(self, batch: Batch) -> None:
        async with get_session() as session:
            if self._held is batch:
                await llm_batch_store.keep(session, batch, self.jobs.lease)

    # -- a batch ---------------------------------------------------------------------------------------

    async def _submit(self, batch: Batch, asked: list[Asked]) -> None:
        """Ask for a batch. What may have been accepted is left to the next look, when the lease is over."""
        if not asked:
            return
        try:
            id_ = await self.provider.submit(batch.id, [(one.row.id, one.prompt) for one in asked])
        except RefusedBatchError as error:
            await self._give_back(batch, Dead(str(error)), blame=True)
        except BusyError as error:
            pause = error.retry_after or self.settings.llm_batch_poll_seconds
            await self._give_back(batch, Postpone(str(error), pause))
        except PermanentError as error:  # the key, perhaps: no job is to blame
            await self._give_back(batch, Postpone(str(error), self.settings.llm_batch_poll_seconds))
            raise
        else:
            await self._accepted(batch, id_)

    async def _accepted(self, batch: Batch, id_: str) -> None:
        """Note it; a batch that was given up in the meantime is cancelled, since its jobs are asked anew."""
        try:
            await within(STEP_TIMEOUT, llm_batch_store.accept(batch, id_, self.settings.pause(0)))
        except LostError:
            if id_ not in await llm_batch_store.known():
                await self.provider.cancel(id_)
            raise

    async def _look(self, batch: Batch) -> None:
        try:
            if batch.posted_at is None:
                await self._give_back(batch, Retry(DIED), blame=True)
            elif batch.provider_id is None:
                await self._find(batch)
            else:
                await self._poll(batch, batch.provider_id)
        except (BusyError, TransientError, PermanentError) as error:
            pause = getattr(error, "retry_after", None) or self.settings.pause(batch.looks)
            await llm_batch_store.later(batch, pause, describe(error)[:500])
            if isinstance(error, PermanentError):
                raise

    async def _find(self, batch: Batch) -> None:
        """See whether the provider has it. It is asked twice before the answer is no: lists may lag."""
        assert batch.posted_at is not None  # or it would not be looked for
        known = await llm_batch_store.known()
        id_ = await self.provider.find(batch.id, batch.requests, batch.posted_at - SKEW, known)
        if id_ is not None:
            await llm_batch_store.accept(batch, id_, 0)
        elif batch.looks == 0:
            await llm_batch_store.later(batch, self.jobs.job_lease_seconds, "not found, yet")
        else:
            await self._give_back(batch, Postpone("the provider has not got its batch"))

    async def _poll(self, batch: Batch, id_: str) -> None:
        look = await self.provider.poll(id_)
        if look.refused is not None:
            await self._give_back(batch, look.refused, blame=isinstance(look.refused, Dead))
        elif look.ended:
            await self._finish(batch, look)
        else:
            if batch.looks % 5 == 4 and not await llm_batch_store.wanted(batch):
                with suppress(PermanentError):  # it is being cancelled
                    await self.provider.cancel(id_)
            await llm_batch_store.later(batch, self.settings.pause(batch.looks))

    async def _finish(self, batch: Batch, look: Look) -> None:
        """Give the jobs their results, line by line; after a breakdown from the beginning."""
        used, chunk = Used(), list[Result]()
        for source in look.sources:
            async for result in self.provider.results(source):
                if result.name.startswith(batch.id.hex):
                    chunk.append(result)
                if len(chunk) >= CHUNK:
                    await self._fan_in(batch, chunk, used)
                    chunk = []
        await self._fan_in(batch, chunk, used)
        if look.whole and used.results < batch.requests:
            raise TransientError(f"{batch.requests - used.results} results are missing")
        await self._give_back(batch, Postpone("its batch ended without an answer"), used)

    async def _fan_in(self, batch: Batch, results: list[Result], used: Used) -> None:
        self._moved = time.monotonic()
        await within(STEP_TIMEOUT, llm_batch.fan_in(batch, results, used))

    async def _give_back(
        self, batch: Batch, outcome: Outcome, used: Used | None = None, *, blame: bool = False
    ) -> None:
        await within(STEP_TIMEOUT, llm_batch.give_back(batch, outcome, used or Used(), blame=blame))
