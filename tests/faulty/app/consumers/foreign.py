"""The consumer `faulty` for senders that write no CloudEvents: fields in Redis, a body over RabbitMQ."""

import importlib
import json
from typing import Any

from app.core.consumer import Consumer
from app.core.envelope import build
from app.core.foreign import Foreign
from app.core.rabbit_consumer import RabbitConsumer
from app.core.stream_consumer import StreamConsumer
from support.mischief import Work

# A sibling, though another folder has a package of the same name
faulty: Any = importlib.import_module("app.consumers.faulty")


def translate(message: Foreign) -> bytes:
    """The work that a sender asks for; its number is the sender's, or else the entry's."""
    fields = json.loads(message.body) if message.body else message.fields
    work = Work(order_id=fields["order_id"], do=fields.get("do", "process"))
    return build("shop.work.v1", work, source="/others", id_=fields.get("number", message.id))


consumer = Consumer("foreign", "shop.work", faulty.consumer.routes, translate=translate)


def worker() -> StreamConsumer | RabbitConsumer:
    """What the fault tests run."""
    return StreamConsumer(consumer) if faulty.ON_REDIS else RabbitConsumer(consumer)
