"""Sends messages straight to RabbitMQ; `app.core.publisher` says when that is right."""

from __future__ import annotations

from app.core.publisher import BrokerDownError, Publisher, RefusedError
from app.core.rabbit_broker import RabbitBroker
from app.core.worker_settings import WorkerSettings, worker_settings


class RabbitPublisher(Publisher):
    """A publisher to the exchange RABBITMQ_EXCHANGE, over a small pool of channels."""

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        settings = settings or worker_settings()
        url = settings.rabbitmq_url.get_secret_value()
        super().__init__(RabbitBroker(url, settings.rabbitmq_exchange, channels=4), settings)


__all__ = ["BrokerDownError", "RabbitPublisher", "RefusedError"]
