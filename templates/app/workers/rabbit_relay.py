"""Sends what services wrote into the outbox to RabbitMQ."""

from __future__ import annotations

from app.core.rabbit_broker import RabbitBroker
from app.core.relay import OutboxRelay
from app.core.worker_settings import worker_settings


def worker() -> OutboxRelay:
    """What `python -m app.workers.run rabbit_relay` runs."""
    settings = worker_settings()
    broker = RabbitBroker(settings.rabbitmq_url.get_secret_value(), settings.rabbitmq_exchange)
    return OutboxRelay(broker, settings)
