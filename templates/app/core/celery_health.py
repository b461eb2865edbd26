"""Liveness and readiness of a Celery worker; see `app.core.health`.

Its main process answers, which takes messages and gives them to the pool: it is alive while its loop turns
and ready while it is connected to the broker.
"""

from __future__ import annotations

import os
from typing import Any

from celery.concurrency.solo import TaskPool as SoloPool

from app.core.celery_settings import celery_settings
from app.core.celery_stop import stopping
from app.core.health import Health
from app.core.worker_settings import worker_settings


class CeleryHealth(Health):
    """Answers for `consumer`, Celery's. Its threads neither log nor import: a fork finds no lock taken."""

    def __init__(self, consumer: Any) -> None:
        super().__init__(worker_settings(), self.problems)
        self._consumer = consumer
        # This pool runs a task in the loop itself, which waits for it.
        self._busy = longest_limit(consumer.app) if isinstance(consumer.pool, SoloPool) else 0.0

    def start(self) -> None:
        """See Health."""
        super().start()
        if self._server is not None:
            # A child lives on when the main process is killed; the next one needs the port.
            os.register_at_fork(after_in_child=self._server.socket.close)

    def problems(self) -> list[str]:
        """Why no messages are taken."""
        if stopping():
            return ["celery: stopping"]
        if self._consumer.connection is None or self._consumer.task_consumer is None:
            return ["celery: not connected to the broker"]
        return []

    def _blocked(self, limit: float) -> list[str]:
        """See Health. The loop does not turn in a stop, nor while the broker is away: the one is bounded, and
        a restart does not help against the other.
        """
        if stopping() or self._consumer.connection is None:
            return []
        return super()._blocked(limit + self._busy)


def longest_limit(celery: Any) -> float:
    """Seconds after which a task is killed, whichever takes longest."""
    limits = [task.time_limit for task in celery.tasks.values()]
    own = [limit for limit in limits if isinstance(limit, int | float)]
    return max([celery_settings().celery_time_limit_seconds, *own])
