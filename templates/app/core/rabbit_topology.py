"""What there is on RabbitMQ, declared in one place: exchanges, a consumer's queue, dead letters, pauses.

    publisher --topic--> exchange EVENTS (topic)           --> queue NAME --> consumer
    consumer  --NAME-->  exchange EVENTS.dead (direct)     --> queue NAME.dead
    consumer  --NAME-->  exchange EVENTS.pause.8s (fanout) --> queue EVENTS.pause.8s --when due--> queue NAME

A queue's arguments are part of its identity. None of them depends on a setting or on the broker's version,
so that neither a change of the one nor an upgrade of the other makes a queue that nobody can declare.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import ChannelPreconditionFailed

from app.core.broker import BrokerDownError
from app.core.outcomes import RefusedToStartError
from app.core.rabbit import ask

# The workers' own cap (WORKER_MAX_DELIVERIES, at most 100) comes first; this one ends the loop of a worker
# that dies before it can look. Without an argument RabbitMQ 4 takes 20, and 3.x none.
DELIVERY_LIMIT = 200
# Nobody consumes dead letters; looking at one counts all the same, and the 21st look would drop it.
LOOKS_LIMIT = 1_000_000
# Each pause has a queue of its own: in one queue, a message that is due would wait behind one that is not.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 131_072.0
INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for (?P<what>queue|exchange) '(?P<of>[^']+)'(?P<rest>.*)"
)


class TopologyError(RefusedToStartError):
    """Something on the broker is not as this version declares it; one line says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A consumer's queue. `binding` is a topic, or a pattern of topics such as `shop.order.*`.

    With `single_active` one worker at a time gets messages, in order; the others stand by.
    """

    name: str
    binding: str
    exchange: str = "events"
    exchange_type: Literal["topic", "fanout", "direct"] = "topic"
    type: Literal["quorum", "classic"] = "quorum"
    single_active: bool = False

    @property
    def dead(self) -> str:
        """The queue of its dead letters."""
        return f"{self.name}.dead"

    @property
    def dead_exchange(self) -> str:
        """Where its dead letters are sent to, with its name as the key."""
        return f"{self.exchange}.dead"

    @property
    def arguments(self) -> dict[str, Any]:
        """What the queue is declared with."""
        arguments: dict[str, Any] = {
            "x-queue-type": self.type,
            "x-dead-letter-exchange": self.dead_exchange,
            "x-dead-letter-routing-key": self.name,
            "x-overflow": "reject-publish",
        }
        if self.type == "quorum":
            arguments |= {"x-dead-letter-strategy": "at-least-once", "x-delivery-limit": DELIVERY_LIMIT}
        if self.single_active:
            arguments["x-single-active-consumer"] = True
        return arguments


async def declare(channel: AbstractChannel, queue: Queue) -> None:
    """Declare `queue` and all that belongs to it; what is there already stays.

    Raises TopologyError when it is there with other arguments, and BrokerDownError.
    """
    await declare_exchange(channel, queue.exchange, queue.exchange_type)
    await declare_exchange(channel, queue.dead_exchange, "direct")
    # The dead letters first: between the two a message could find no place.
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": LOOKS_LIMIT}
    await declare_queue(channel, queue.dead, arguments, bind_to=(queue.dead_exchange, queue.name))
    await declare_queue(channel, queue.name, queue.arguments, bind_to=(queue.exchange, queue.binding))


async def declare_exchange(channel: AbstractChannel, name: str, type_: str = "topic") -> AbstractExchange:
    """Declare a durable exchange. Raises TopologyError and BrokerDownError."""
    try:
        return await ask(channel.declare_exchange(name, ExchangeType(type_), durable=True))
    except BrokerDownError as error:
        raise refusal(error) from error


async def declare_queue(
    channel: AbstractChannel, name: str, arguments: dict[str, Any], bind_to: tuple[str, str]
) -> None:
    """Declare a durable queue and bind it to an exchange. Raises TopologyError and BrokerDownError."""
    try:
        queue = await ask(channel.declare_queue(name, durable=True, arguments=arguments))
        exchange, key = bind_to
        await ask(queue.bind(exchange, key))
    except BrokerDownError as error:
        raise refusal(error) from error


async def mark_queue(channel: AbstractChannel, exchange: str, owner: str, *, passive: bool = False) -> None:
    """Declare the queue by which an outbox notices that RabbitMQ was emptied; `passive` only looks for it.

    Raises BrokerDownError, caused by ChannelNotFoundEntity when it is missing.
    """
    arguments: dict[str, Any] | None = None if passive else {"x-queue-type": "quorum"}
    name = f"{exchange}.outbox.{owner}"[:255]
    await ask(channel.declare_queue(name, durable=True, passive=passive, arguments=arguments))


def refusal(error: BrokerDownError) -> BrokerDownError | TopologyError:
    """TopologyError when something is there with other arguments, else `error` itself."""
    cause = error.__cause__
    if not isinstance(cause, ChannelPreconditionFailed):
        return error
    found = INEQUIVALENT.search(str(cause))
    if found is None:
        return TopologyError(f"RabbitMQ refuses the declaration: {cause}")
    what, of, name = found["what"], found["of"], found["name"]
    way = (
        f"drain it, delete it (rabbitmqctl delete_queue {of}) and start again, or take another name"
        if what == "queue"
        else "set RABBITMQ_EXCHANGE to another name, or delete it"
    )
    return TopologyError(f"the {what} {of} exists with another {name}{found['rest']}: {way}")


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue in which messages wait: each at least as long as it asks for, at most `seconds`."""

    exchange: str
    seconds: float

    @property
    def name(self) -> str:
        """Of the queue, and of the exchange in front of it."""
        return f"{self.exchange}.pause.{self.seconds:g}s"


def pause_for(exchange: str, delay: float) -> Pause:
    """The shortest pause that holds a message for `delay` seconds. Messages of up to twice the delay share
    it, so one may wait behind another, at most until it has waited twice as long.
    """
    seconds = SHORTEST_PAUSE
    while seconds < delay and seconds < LONGEST_PAUSE:
        seconds *= 2
    return Pause(exchange, seconds)


async def declare_pause(channel: AbstractChannel, pause: Pause) -> None:
    """Declare the queue of `pause`. A fanout exchange leads to it, so that the routing key stays the name of
    the queue to which the message goes back, and all consumers share the pauses. Raises as `declare`.
    """
    await declare_exchange(channel, pause.name, "fanout")
    arguments = {
        "x-queue-type": "quorum",
        "x-message-ttl": int(pause.seconds * 1000),
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    await declare_queue(channel, pause.name, arguments, bind_to=(pause.name, ""))
