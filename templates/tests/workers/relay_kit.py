"""The outbox relay, as the tests see it, and as the process that plays it runs it."""

from __future__ import annotations

import importlib
import json
from typing import Any

TOPIC_TYPE = "worker_lab.numbered.v1"


def start(labs: Any, broker: str) -> RelayLab:
    """The lab of the outbox relay."""
    carrier = labs.broker(broker)
    return RelayLab(labs.lab("relay_kit", "relay", carrier.environment, "relay"), carrier)


class RelayLab:
    """Workers that run the outbox relay, in a lab."""

    def __init__(self, lab: Any, broker: Any) -> None:
        self._lab, self.broker = lab, broker
        self.topic = TOPIC_TYPE.removesuffix(".v1")
        self.outbox = f"{lab.source}:{lab.desk.ask('database')}"
        broker.listen(self.topic)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lab, name)

    def enqueue(self, count: int, ending: str = "commit") -> list[str]:
        """Write messages into the outbox in a transaction that ends with commit or rollback; their ids."""
        return list(self._lab.desk.ask("enqueue", TOPIC_TYPE, '{"number": 1}', count, ending))

    def sent(self) -> list[str]:
        """The messages that the broker has got, in order."""
        return [json.loads(raw)["id"] for raw in self.broker.received(self.topic)]

    def wait_sent(self, *messages: str) -> None:
        """Wait until the broker has got all `messages`."""
        self._lab.wait_for(lambda: set(messages) <= set(self.sent()), "the messages are sent")

    def forget(self) -> None:
        """Let the broker lose what it had, as after a start without its data."""
        self.broker.forget(self.topic, self.outbox)


# -- in the process ------------------------------------------------------------------------------------


def play(role: str) -> int:
    """Run the relay."""
    assert role == "relay"
    replica: Any = importlib.import_module("replica")
    hold_relay(replica)
    return int(replica.run("outbox_relay"))


def hold_relay(replica: Any) -> None:
    """Let the relay stop between the broker's confirmation and its own note of it."""
    outbox_relay: Any = importlib.import_module("app.workers.outbox_relay")
    make = outbox_relay.worker

    def worker() -> Any:
        relay: Any = make()
        publish = relay.broker.publish

        async def published(messages: Any) -> Any:
            results = await publish(messages)
            for message in messages:
                replica.note(json.loads(message.body)["id"])
            await replica.hold()
            return results

        relay.broker.publish = published
        return relay

    outbox_relay.worker = worker


async def database() -> str:
    """How the relay names its database to the broker."""
    return str(await importlib.import_module("app.core.relay").database_name())
