"""Tasks for the fault tests: the message says what goes wrong, as in `app.consumers.faulty`."""

import importlib
import os
import resource
import signal
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.celery_app import celery_app
from app.core.celery_settings import celery_settings
from app.core.celery_task import plain_task
from app.core.consumer import Consumer, on
from app.core.envelope import Message
from app.core.outcomes import Outcome, TransientError

faulty: Any = importlib.import_module("app.consumers.faulty")


async def handle(message: Message[Any], session: AsyncSession) -> Outcome:
    """As the consumer does, and what only concerns Celery."""
    work = message.data
    if message.delivery <= work.times and work.do in ("later", "kill_once", "exhaust"):
        faulty.note(f"{work.order_id} {message.delivery} {os.getpid()}")
        match work.do:
            case "later":
                raise TransientError("come back later", retry_after=work.seconds)
            case "kill_once":  # as the kernel does when memory is short
                os.kill(os.getpid(), signal.SIGKILL)
            case "exhaust":
                exhaust()
    if work.do == "grow":
        grow(int(work.seconds))
    outcome: Outcome = await faulty.handle(message, session)
    return outcome


grown: list[bytearray] = []


def grow(megabytes: int) -> None:
    """Take memory, as a leak does."""
    block = bytearray(megabytes << 20)
    for page in range(0, len(block), 4096):
        block[page] = 1
    grown.append(block)


def exhaust() -> None:
    """Ask for more memory than this process may have. Raises MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (64 << 20), hard))
    try:
        grow(1024)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


routes = (on("shop.work.v1", faulty.Work, handle),)
task = plain_task(
    Consumer(name="faulty", topic="shop.work", routes=routes), queue=os.environ.get("FAULTY_OWN")
)
if "slow" in celery_settings().queues:
    slow_routes = (on("shop.slow.v1", faulty.Work, handle),)
    slow = plain_task(Consumer(name="slow", topic="shop.slow", routes=slow_routes), queue="slow")
if os.environ.get("FAULTY_ASYNC"):
    celery_app.task(name="shop.async")(handle)
# A task that only the next version of the application has.
if os.environ.get("FAULTY_FUTURE"):
    future = plain_task(Consumer(name="future", topic="shop.future", routes=routes))
