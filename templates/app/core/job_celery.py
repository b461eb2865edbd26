"""Celery as what brings the ids of jobs to workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from celery.exceptions import QueueNotFound
from sqlalchemy import Row

from app.core.celery_app import celery_app
from app.core.celery_broker import BATCH_SECONDS, CeleryBroker, in_thread, put

RUN = "jobs.run"


class CeleryCarrier(CeleryBroker):
    """See Carrier. One Celery task runs the jobs of all kinds: which one it is the row says."""

    via = "celery"

    async def send(self, jobs: Sequence[Row[Any]]) -> list[str | None]:
        """See Carrier."""
        return await in_thread(lambda: send(jobs))


def send(jobs: Sequence[Row[Any]]) -> list[str | None]:
    """Send the ids of `jobs`; what does not fit into a few seconds is left for the next time."""
    results: list[str | None] = []
    ends = time.monotonic() + BATCH_SECONDS
    with celery_app.producer_or_acquire() as producer:
        for job in jobs:
            if results and time.monotonic() > ends:
                break
            queue = None if job.queue == "default" else job.queue
            try:
                put(RUN, [str(job.id)], task_id=f"{job.id}.{job.sends}", queue=queue, producer=producer)
            except QueueNotFound as error:
                results.append(str(error.args[0]))
            except Exception:  # a transport raises what its library does; what is sent, is sent
                if not results:
                    raise
                break
            else:
                results.append(None)
    return results
