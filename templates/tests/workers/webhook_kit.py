"""The sender of webhooks, as the tests see it, and as the process that plays it runs it."""

from __future__ import annotations

import importlib
import uuid
from typing import Any

from sqlalchemy import text

DELIVERIES = "SELECT payload->>'message_id' AS id, state FROM job WHERE owner = :owner"
SENDER = "SELECT runner FROM job WHERE payload->>'message_id' = :id"
DISABLED = "SELECT disabled_at IS NOT NULL FROM webhook_endpoint WHERE owner = :owner"
ANNOUNCED = text(
    """
    SELECT payload->>'message_id' FROM job
    WHERE owner = :owner AND xmin::text::bigint = txid_current() % 4294967296
    """
)
SETTINGS = {
    "JOB_LEASE_SECONDS": "4",
    "JOB_POLL_SECONDS": "0.2",
    "JOB_FLUSH_SECONDS": "0.05",
    "WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
}


def start(labs: Any) -> WebhookLab:
    """The lab of the sender of webhooks."""
    receiver = labs.support("webhook_lab").start(labs.support("http_lab").start)
    lab = labs.lab("webhook_kit", "webhooks", SETTINGS, "webhooks")
    lab.on_release.append(receiver.release)
    lab.ending.callback(receiver.close)
    return WebhookLab(lab, receiver)


class WebhookLab:
    """Senders of webhooks, and the `receiver` that they send to, in a lab."""

    def __init__(self, lab: Any, receiver: Any) -> None:
        self._lab, self.receiver = lab, receiver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lab, name)

    def endpoint(self, url: str = "") -> tuple[str, str]:
        """A new owner whose webhooks are sent to a URL, the receiver's unless given; and the secret."""
        owner = f"lab {uuid.uuid4().hex}"
        _, secret = self._lab.desk.ask("add_endpoint", owner, url or self.receiver.url)
        return owner, secret

    def announce(self, owner: str, ending: str = "commit") -> list[str]:
        """Announce something in a transaction that ends with commit or rollback; the ids of the webhooks."""
        return list(self._lab.desk.ask("announce", owner, ending))

    def states(self, owner: str) -> dict[str, str]:
        """The states of an owner's deliveries, by the ids of the webhooks."""
        return {row.id: row.state for row in self._lab.rows(DELIVERIES, owner=owner)}

    def disabled(self, owner: str) -> bool:
        """Whether an owner's endpoint is disabled."""
        ((disabled,),) = self._lab.rows(DISABLED, owner=owner)
        return bool(disabled)

    def sending(self, id_: str) -> Any:
        """The worker that is in the middle of a try to deliver a webhook."""
        self._lab.wait_for(lambda: self.receiver.tries(id_), f"{id_} is tried")
        ((runner,),) = self._lab.rows(SENDER, id=id_)
        return next(
            replica for replica in self._lab.replicas if replica.process.pid == int(runner.split(":")[1])
        )


# -- in the process ------------------------------------------------------------------------------------


def play(role: str) -> int:
    """Run the sender, which does not wait for long before it tries again."""
    assert role == "webhooks"
    sender: Any = importlib.import_module("app.core.webhooks")
    sender.SCHEDULE = (0.2,) * len(sender.SCHEDULE)
    return int(of("replica", "run")("webhooks"))


async def add_endpoint(owner: str, url: str) -> tuple[str, str]:
    """Have an owner's webhooks sent to a URL; the endpoint's id, and its secret."""
    endpoint, secret = await of("app.core.webhook_endpoints", "add")(owner, url)
    return str(endpoint.id), secret.get_secret_value()


async def announce(owner: str, ending: str) -> list[str]:
    """Announce something in a transaction that ends with commit or rollback; the ids of the webhooks."""
    async with of("replica", "transaction")(ending) as session:
        await of("app.core.webhooks", "announce")(session, owner=owner, type="lab.test", data={"n": 1})
        found = await session.execute(ANNOUNCED, {"owner": owner})
        ids = list(found.scalars())
    return [str(id_) for id_ in ids]


def of(module: str, name: str) -> Any:
    """Something of a module that only some projects have."""
    return getattr(importlib.import_module(module), name)
