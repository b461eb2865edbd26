"""A consumer of messages, as the tests see it, and as the process that plays it runs it."""

from __future__ import annotations

import importlib
import json
import uuid
from typing import Any, Protocol

from sqlalchemy import text

# xmin is the transaction that wrote a row: the effect finds its message only in the inbox row of its own one.
EFFECT = text(
    """
    INSERT INTO worker_lab_effect (message_id, process)
    SELECT message_id, :process FROM inbox_message
    WHERE CAST(CAST(xmin AS text) AS bigint) = txid_current() % 4294967296
    RETURNING message_id
    """
)


class Broker(Protocol):
    """What carries messages, as its own file provides it.

    `consumer` is what `describe` says of one.
    """

    environment: dict[str, str]

    def answers(self) -> bool: ...

    def stop(self) -> None: ...

    def clear(self, consumer: dict[str, Any]) -> None: ...

    def send(self, consumer: dict[str, Any], raw: bytes) -> None: ...

    def left(self, consumer: dict[str, Any]) -> int: ...

    def finished(self, consumer: dict[str, Any]) -> bool: ...

    def taken(self, consumer: dict[str, Any], workers: int) -> bool: ...

    def holds(self, consumer: dict[str, Any], process: int) -> bool: ...

    def dead(self, consumer: dict[str, Any]) -> list[tuple[bytes, str]]: ...


def start(
    labs: Any, broker: str, worker: str, calls: str, payload: dict[str, Any] | None = None
) -> ConsumerLab:
    """The lab of a consumer: its name, the service it calls, and a payload if none can be made up."""
    carrier = labs.broker(broker)
    lab = labs.lab("consumer_kit", worker, carrier.environment, "consume", worker, calls)
    return ConsumerLab(lab, carrier, worker, payload)


class ConsumerLab:
    """Workers that run one consumer, in a lab."""

    def __init__(self, lab: Any, broker: Broker, worker: str, payload: dict[str, Any] | None) -> None:
        self._lab, self.broker = lab, broker
        self.consumer: dict[str, Any] = lab.desk.ask("describe", worker)
        self.type: str = self.consumer["type"]
        self.payload: dict[str, Any] = self.consumer["payload"] if payload is None else payload
        self.required: list[str] = self.consumer["required"]
        broker.clear(self.consumer)
        lab.ending.callback(broker.clear, self.consumer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lab, name)

    def message(self, **changes: Any) -> tuple[str, bytes]:
        """Id and bytes of a message that fits, but for `changes`."""
        id_ = uuid.uuid4().hex
        attributes = {"specversion": "1.0", "id": id_, "source": self._lab.source, "type": self.type}
        return id_, json.dumps({**attributes, "data": self.payload, **changes}).encode()

    def send(self, raw: bytes) -> None:
        """Put a message where the consumer finds it."""
        self.broker.send(self.consumer, raw)

    def send_new(self) -> str:
        """Put a new message that fits where the consumer finds it; its id."""
        id_, raw = self.message()
        self.send(raw)
        return id_

    def wait_done(self, *messages: str) -> None:
        """Wait until all `messages` are done and nothing is left for anybody."""
        self._lab.wait_for(lambda: set(messages) <= set(self._lab.done()), "the messages are done")
        self._lab.wait_for(lambda: self.left() == 0, "the messages are settled")

    def left(self) -> int:
        """How many messages are not settled, as far as the broker tells."""
        return self.broker.left(self.consumer)

    def finished(self) -> bool:
        """Whether workers that have ended have left nothing behind."""
        return self.broker.finished(self.consumer)

    def taken(self, workers: int) -> bool:
        """Whether so many workers have a message in hand, when so many messages were sent."""
        return self.broker.taken(self.consumer, workers)

    def holds(self, worker: Any) -> bool:
        """Whether a worker that has ended still has a message in hand."""
        return self.broker.holds(self.consumer, worker.process.pid)

    def dead(self) -> list[tuple[bytes, str]]:
        """The dead letters: their bytes and the reason."""
        return self.broker.dead(self.consumer)


# -- in the process ------------------------------------------------------------------------------------


def play(role: str, name: str, calls: str) -> int:
    """Run the consumer."""
    assert role == "consume"
    replica: Any = importlib.import_module("replica")
    replica.replace_service(calls, EFFECT)
    return int(replica.run(name))


def describe(name: str) -> dict[str, Any]:
    """What the consumer's own definition says: name, topic, type, a payload that fits, and its queue."""
    module = importlib.import_module(f"app.consumers.{name}")
    consumer = module.consumer
    type_, model = consumer.routes[0].name, consumer.routes[0].payload
    return {
        "name": consumer.name,
        "topic": consumer.topic,
        "type": type_,
        **importlib.import_module("samples").of(model),
        **queue_of(module.worker()),
    }


def queue_of(worker: Any) -> dict[str, str]:
    """Where a consumer of RabbitMQ gets its messages; nothing for others."""
    queue = getattr(getattr(worker, "queue", None), "queue", None)
    if queue is None:
        return {}
    return {"queue": queue.name, "exchange": queue.exchange, "dead": queue.dead}
