"""Celery on a quorum queue.

Chosen for throughput, from its documentation and source (5.7): a prefetch of 100; `acks_late`, which
acknowledges when the task has ended; no results, no events, no gossip and no mingling. Tasks that do nothing
run in the pool `solo`, which takes more of them than processes or threads do; tasks that wait for the
database in `threads`, with the service's coroutine on an event loop beside them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery

from benchmarks.meter import Meter
from benchmarks.spec import PREFETCH, Spec
from benchmarks.threads import FromThreads
from benchmarks.work import CONSUMER, Work

TASK = "bench.work"


def app_for(spec: Spec, concurrency: int = 1) -> Any:
    """The application, for both sides."""
    app = Celery("bench", broker=spec.rabbit_url, set_as_current=False)
    app.conf.update(
        task_default_queue=CONSUMER,
        task_default_queue_type="quorum",
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=max(1, PREFETCH // concurrency),
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
    )
    return app


async def consume(spec: Spec, meter: Meter) -> None:
    """Run the worker in a thread until all tasks are done. It goes down with the process."""
    logging.disable(logging.INFO)
    shared = FromThreads(meter)
    solo = spec.task == "noop"
    concurrency = 1 if solo else spec.concurrency
    app = app_for(spec, concurrency)
    app.task(no_op(shared) if solo else service_write(shared), name=TASK)
    worker = app.WorkController(
        pool="solo" if solo else "threads",
        concurrency=concurrency,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    running = asyncio.create_task(asyncio.to_thread(worker.start))
    await asyncio.wait([running, asyncio.create_task(meter.finished.wait())], return_when="FIRST_COMPLETED")
    if running.done():
        running.result()


def no_op(meter: FromThreads) -> Callable[[int, float], None]:
    """A task that does nothing."""

    def handle(order_id: int, at: float) -> None:  # noqa: ARG001  # the payload
        meter.done(at)

    return handle


def service_write(meter: FromThreads) -> Callable[[int, float], None]:
    """A task that calls a service and waits for it."""
    from benchmarks.writing import write

    loop = asyncio.get_running_loop()

    def handle(order_id: int, at: float) -> None:
        asyncio.run_coroutine_threadsafe(write(str(order_id), order_id), loop).result()
        meter.done(at)

    return handle


class Publisher:
    """Celery's own client, over one connection."""

    def __init__(self, spec: Spec) -> None:
        self._app = app_for(spec)
        self._task = self._app.task(nothing, name=TASK)

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`."""
        with self._app.producer_or_acquire() as producer:
            for work in batch:
                self._task.apply_async((work.order_id, work.at), producer=producer)

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        self._app.close()


def nothing(order_id: int, at: float) -> None:
    """The signature of the task, for the side that only sends it."""
