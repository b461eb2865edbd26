"""Sends what services wrote into the outbox to Redis streams."""

from __future__ import annotations

from app.core.redis_broker import RedisBroker
from app.core.relay import OutboxRelay
from app.core.worker_settings import worker_settings


def worker() -> OutboxRelay:
    """What `python -m app.workers.run outbox_relay` runs."""
    settings = worker_settings()
    return OutboxRelay(RedisBroker(settings.redis_url.get_secret_value()), settings)
