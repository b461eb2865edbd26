"""Tasks for the fault tests: the message says what goes wrong, as in `app.consumers.faulty`."""

import importlib
import os
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.celery_task import plain_task
from app.core.consumer import Consumer, on
from app.core.envelope import Message
from app.core.outcomes import Outcome, TransientError

faulty: Any = importlib.import_module("app.consumers.faulty")


async def handle(message: Message[Any], session: AsyncSession) -> Outcome:
    """As the consumer does, and what only concerns Celery."""
    if message.data.do == "later" and message.delivery <= message.data.times:
        faulty.note(f"{message.data.order_id} {message.delivery} {os.getpid()}")
        raise TransientError("come back later", retry_after=message.data.seconds)
    outcome: Outcome = await faulty.handle(message, session)
    return outcome


routes = (on("shop.work.v1", faulty.Work, handle),)
task = plain_task(Consumer(name="faulty", topic="shop.work", routes=routes))
# A task that only the next version of the application has.
if os.environ.get("FAULTY_FUTURE"):
    future = plain_task(Consumer(name="future", topic="shop.future", routes=routes))
