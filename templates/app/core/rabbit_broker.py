"""The adapter for RabbitMQ of the relay and the publisher."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aio_pika import DeliveryMode, Message
from aio_pika.exceptions import ChannelNotFoundEntity

from app.core.broker import NOT_YET, BrokerDownError, Loss, Outgoing
from app.core.rabbit import WINDOW, Confirmed, UnroutableError
from app.core.rabbit_topology import declare_exchange, mark_queue

CONTENT_TYPE = "application/cloudevents+json"


class RabbitBroker:
    """Publishes persistent messages to a topic exchange, the topic being the routing key, and waits for the
    confirmation of each: RabbitMQ gives it when a durable queue has the message on disk.

    A queue of its own, in which nothing ever is, tells that RabbitMQ has come back empty: it is gone then.
    """

    def __init__(self, url: str, exchange: str, channels: int = 1) -> None:
        self._exchange = exchange
        self._confirmed = Confirmed(url, f"sends to {exchange}", channels)
        self._declared = False

    async def publish(self, messages: Sequence[Outgoing]) -> list[str | None]:
        """See Broker. A window of messages is under way at once, on one channel, which keeps their order."""
        results: list[str | None] = []
        for start in range(0, len(messages), WINDOW):
            window = messages[start : start + WINDOW]
            found = await self._send(window)
            for result in found:
                if isinstance(result, BrokerDownError):
                    self._declared = False
                    if not results:
                        raise result
                    return results
                results.append(result)
        return results

    async def _send(self, window: Sequence[Outgoing]) -> list[str | BrokerDownError | None]:
        if not self._declared:
            await declare_exchange(await self._confirmed.channel(), self._exchange)
            self._declared = True
        channel = await self._confirmed.channel()
        sending = [
            self._confirmed.publish(as_amqp(message), message.topic, self._exchange, channel=channel)
            for message in window
        ]
        return [verdict(result) for result in await asyncio.gather(*sending, return_exceptions=True)]

    async def loss(self, owner: str) -> Loss:
        """See Broker. What RabbitMQ has confirmed is on disk, so there is no loss of the last moments."""
        try:
            await mark_queue(await self._confirmed.channel(), self._exchange, owner, passive=True)
        except BrokerDownError as error:
            if isinstance(error.__cause__, ChannelNotFoundEntity):
                self._declared = False
                return Loss.ALL
            raise
        return Loss.NONE

    async def remember(self, owner: str) -> None:
        """See Broker."""
        await mark_queue(await self._confirmed.channel(), self._exchange, owner)

    async def close(self) -> None:
        """See Broker."""
        await self._confirmed.close()


def as_amqp(message: Outgoing) -> Message:
    """The message with the properties that RabbitMQ's tools and other consumers look at."""
    return Message(
        message.body,
        message_id=message.id,
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
    )


def verdict(result: BaseException | None) -> str | BrokerDownError | None:
    """None for a confirmation, the reason for a refusal, or the error; any other error is raised."""
    if isinstance(result, UnroutableError):
        return f"{NOT_YET}{result}"
    if result is None or isinstance(result, BrokerDownError):
        return result
    raise result
