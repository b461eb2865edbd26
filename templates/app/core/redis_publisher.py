"""Sends messages straight to a Redis stream; `app.core.publisher` says when that is right."""

from __future__ import annotations

from app.core.publisher import BrokerDownError, Publisher, RefusedError
from app.core.redis_broker import RedisBroker
from app.core.worker_settings import WorkerSettings, worker_settings


class StreamPublisher(Publisher):
    """A publisher to Redis streams."""

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        settings = settings or worker_settings()
        super().__init__(RedisBroker(settings.redis_url.get_secret_value()), settings)


__all__ = ["BrokerDownError", "RefusedError", "StreamPublisher"]
