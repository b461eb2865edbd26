"""Sends what services wrote into the outbox to Celery, and forgets what its tasks no longer need."""

from __future__ import annotations

import asyncio
import logging
import random

from app.core import inbox, task_starts
from app.core.celery_broker import CeleryBroker
from app.core.deadline import together
from app.core.failures import describe
from app.core.relay import OutboxRelay
from app.core.worker_settings import worker_settings

FORGET_EVERY = 60.0
logger = logging.getLogger(__name__)


class CeleryRelay(OutboxRelay):
    """Celery's workers run tasks and nothing else, so what other workers do on the side is done here."""

    async def run(self, stop: asyncio.Event) -> None:
        """See OutboxRelay."""
        await together(super().run(stop), [self._forget()])

    async def _forget(self) -> None:
        keep = self.settings.inbox_keep
        while True:
            await asyncio.sleep(FORGET_EVERY * random.uniform(0.8, 1.2))
            try:
                while await inbox.prune(keep) + await task_starts.prune(keep):
                    await asyncio.sleep(0.1)
            except Exception as error:  # the database is away: there is no hurry
                logger.debug("nothing forgotten: %s", describe(error))


def worker() -> CeleryRelay:
    """What `python -m app.workers.run celery_relay` runs."""
    return CeleryRelay(CeleryBroker(), worker_settings())
