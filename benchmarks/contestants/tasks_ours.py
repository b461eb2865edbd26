"""The templates on Celery: the tracked task, a job whose id Celery brings, and the plain task.

Jobs are in the table and their ids in the broker before the worker begins, so that its speed shows and not
the dispatcher's.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.celery_app import celery_app
from app.core.celery_task import plain_task
from app.core.consumer import Consumer, on, on_without_transaction
from app.core.envelope import Message
from app.core.job import JobContext, job
from app.core.job_celery import RUN
from app.core.outcomes import Done, Outcome
from app.services.orders import OrderService
from benchmarks.contestants.cloudevents import event
from benchmarks.contestants.tasks_celery import start
from benchmarks.counter import Counter
from benchmarks.spec import Spec
from benchmarks.work import CONSUMER, TOPIC, TYPE, Work


def serve(spec: Spec, counter: Counter) -> None:
    """Run a worker until it is killed."""
    register(spec)
    start(celery_app, spec, counter)


def register(spec: Spec) -> None:
    """Make the kind of job, and the plain task."""
    route = on_without_transaction(TYPE, Work, nothing) if spec.task == "noop" else on(TYPE, Work, write)
    plain_task(Consumer(CONSUMER, TOPIC, (route,)))
    job(TYPE, Work)(job_nothing if spec.task == "noop" else job_write)


async def nothing(_: Message[Work]) -> Outcome:
    """A handler that does nothing."""
    return Done()


async def write(message: Message[Work], session: AsyncSession) -> Outcome:
    """A handler that calls a service."""
    await OrderService(session).process(message.data.order_id)
    return Done()


async def job_nothing(_: JobContext[Work], __: AsyncSession) -> None:
    """A job that does nothing."""


async def job_write(context: JobContext[Work], session: AsyncSession) -> None:
    """A job that calls a service."""
    await OrderService(session).process(context.data.order_id)


class Publisher:
    """Celery's own client, over one connection."""

    def __init__(self, spec: Spec) -> None:
        register(spec)
        self._tracked = spec.contestant == "tasks_tracked"

    async def publish(self, batch: Sequence[Work]) -> None:
        """See `benchmarks.spec.Publisher`."""
        with celery_app.producer_or_acquire() as producer:
            for work in batch:
                name, argument = self._message(work)
                celery_app.send_task(name, [argument], producer=producer, ignore_result=True)

    def _message(self, work: Work) -> tuple[str, Any]:
        if self._tracked:
            return RUN, str(uuid.UUID(int=work.order_id))
        return TOPIC, event(work).decode()

    async def close(self) -> None:
        """See `benchmarks.spec.Publisher`."""
        celery_app.close()
