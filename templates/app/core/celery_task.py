"""The plain task: a message from the outbox, handled once, for work that needs no status.

    consumer = Consumer("invoice_email", "mail.invoice", (on("mail.invoice.v1", InvoiceEmail, handle),))
    task = plain_task(consumer)

`enqueue(session, "mail.invoice.v1", InvoiceEmail(...))` sends it, in the transaction of its cause.
What it does commits together with the note that it is done: Celery may deliver it as often as it likes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery.app.task import Task
from celery.exceptions import Reject, SoftTimeLimitExceeded

from app.core.celery_app import COUNTED, ROUTES, celery_app
from app.core.celery_broker import put
from app.core.celery_loop import run
from app.core.celery_settings import MARGIN, celery_settings
from app.core.consumer import Consumer
from app.core.database import get_session
from app.core.dead_letter_table import bury
from app.core.deadline import Watch, enforce
from app.core.failures import classify, describe
from app.core.gate import database_answers
from app.core.outcomes import Dead, Done, Down, Outcome, Postpone, RefusedToStartError, Retry
from app.core.task_starts import excuse_start, note_start
from app.core.worker_settings import worker_settings

# How long a process waits for a database that is away before it takes the next task.
PATIENCE = 20.0
NOTE_PAUSE = 5.0
EARLY = 0.5
APART = 1.0
MOST_ATTEMPTS = 1_000_000
FAR = 1e11  # a time in seconds that no sender means
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivery of a message. `attempt` is 1 for the first; a message whose worker died comes back with the
    same one, and `redelivered`. `not_before` is in seconds since 1970.
    """

    task: str
    id: str
    raw: str
    attempt: int = 1
    not_before: float = 0
    redelivered: bool = False


def plain_task(consumer: Consumer, *, queue: str | None = None) -> Task[Any, None]:
    """The Celery task of `consumer`, named after its topic. `queue` is one of CELERY_QUEUES, the first unless
    given. Raises RefusedToStartError for another one.
    """
    if queue is not None and queue not in celery_settings().queues:
        raise RefusedToStartError(f"task {consumer.topic}: queue {queue} is not in CELERY_QUEUES")

    def task(self: Task[Any, None], *args: Any, **kwargs: Any) -> None:
        receive(consumer, self.request, args, kwargs)

    if queue is not None:
        ROUTES[consumer.topic] = queue
    register: Any = celery_app.task(name=consumer.topic, bind=True, **COUNTED)
    made: Task[Any, None] = register(task)
    return made


def receive(consumer: Consumer, request: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Handle a delivery; whatever comes of it is settled, or the message goes back to the broker."""
    arrival = arrived(consumer.topic, request, args, kwargs)
    try:
        if arrival is None:
            run(refuse_arguments, consumer.topic, request.id, args, kwargs)
        elif (early := arrival.not_before - time.time()) > EARLY:
            send_again(arrival, arrival.attempt, early)
        else:
            settle(arrival, *attempted(consumer, arrival))
    except Exception as error:  # neither done nor sent again: the broker still has it
        logger.exception("%s %s goes back to the queue", consumer.topic, request.id)
        raise Reject(describe(error), requeue=True) from error


def arrived(task: str, request: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arrival | None:
    """The delivery; None when these are not the arguments of a plain task."""
    attempt, not_before = kwargs.get("attempt", 1), kwargs.get("not_before", 0)
    if len(args) != 1 or not isinstance(args[0], str) or set(kwargs) - {"attempt", "not_before"}:
        return None
    if not isinstance(attempt, int) or not 0 < attempt < MOST_ATTEMPTS or not is_text(args[0]):
        return None
    if not isinstance(not_before, int | float) or not -FAR < not_before < FAR:
        return None
    redelivered = bool((request.delivery_info or {}).get("redelivered"))
    return Arrival(task, request.id, args[0], attempt, not_before, redelivered)


def is_text(value: str) -> bool:
    """Whether it can be written as bytes: JSON may hold half a character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


async def refuse_arguments(task: str, id_: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Keep a message with arguments that nobody here understands; a later version may."""
    headers = {"lang": "py", "task": task, "id": id_}
    await keep(
        Arrival(task, id_, json.dumps([args, kwargs, {}])),
        "unknown arguments: one text is expected, a CloudEvents message",
        1,
        {"content_type": "application/json", "content_encoding": "utf-8", "headers": headers},
    )


async def keep(
    arrival: Arrival, reason: str, delivery: int, headers: Mapping[str, Any] | None = None
) -> None:
    """Write a dead letter."""
    async with get_session() as session:
        body = arrival.raw.encode(errors="surrogateescape")
        await bury(
            session,
            source=arrival.task,
            id=arrival.id,
            body=body,
            reason=reason,
            attempts=delivery,
            headers=headers,
        )


def attempted(consumer: Consumer, arrival: Arrival) -> tuple[Outcome, int]:
    """What became of it, and which delivery this was."""
    try:
        return run(attempt, consumer, arrival)
    except SoftTimeLimitExceeded:
        return Retry("it took longer than the soft time limit"), arrival.attempt


async def attempt(consumer: Consumer, arrival: Arrival) -> tuple[Outcome, int]:
    """Handle it, in the event loop. A start that was cut short, by a shutdown say, counts as none."""
    settings, watch, delivery = worker_settings(), Watch(), arrival.attempt
    ends = time.monotonic() + celery_settings().celery_soft_time_limit_seconds - MARGIN
    watch.task = task = asyncio.current_task()
    counted = not arrival.redelivered
    enforcing = asyncio.ensure_future(enforce(lambda: [watch]))
    try:
        if arrival.redelivered:
            # What a worker held comes back together: what kills it must not always take the same ones along.
            await asyncio.sleep(random.uniform(0, APART))
            delivery += await note_start(arrival.task, arrival.id, arrival.attempt)
            counted = True
        outcome = await consumer.decide(arrival.raw.encode(), delivery, watch, settings)
        if isinstance(outcome, Dead):
            await keep(arrival, outcome.reason, delivery)
    except asyncio.CancelledError:
        if task is not None and task.cancelling():
            if counted:
                await excuse_start(arrival.task, arrival.id, arrival.attempt)
            raise
        outcome = Retry("something that the handler waited for was cancelled")
    except Exception as error:  # at a note of our own
        logger.warning("%s %s: %s", arrival.task, arrival.id, describe(error))
        outcome = classify(error)
        outcome = outcome if isinstance(outcome, Down) else Postpone(describe(error), NOTE_PAUSE)
    finally:
        enforcing.cancel()
    if isinstance(outcome, Down):
        await until_back(min(ends, time.monotonic() + PATIENCE))
    return outcome, delivery


async def until_back(ends: float) -> None:
    """Wait for the database until `ends`: all tasks need it, so the next one would fare no better."""
    pause = 0.25
    while time.monotonic() < ends and not await database_answers():
        await asyncio.sleep(random.uniform(pause / 2, pause))
        pause = min(5.0, pause * 2)


def settle(arrival: Arrival, outcome: Outcome, delivery: int) -> None:
    """Send again what is not over. Celery acknowledges the message after that: the copy comes first."""
    match outcome:
        case Retry(_, after):
            pause = worker_settings().retry_policy.pause(delivery, after)
            send_again(arrival, delivery + 1, pause)
        case Postpone(_, after):
            send_again(arrival, delivery, after)
        case Down():
            send_again(arrival, delivery, random.uniform(0, NOTE_PAUSE))
        case Done() | Dead():
            return


def send_again(arrival: Arrival, attempt: int, pause: float) -> None:
    """Send the message once more, to be handled in `pause` seconds. A long pause takes several steps: on
    Redis a worker has the message meanwhile, and may hold it for so long only. Not `Task.retry`, which drops
    the message when it cannot be sent.
    """
    put(
        arrival.task,
        [arrival.raw],
        task_id=arrival.id,
        kwargs={"attempt": attempt, "not_before": time.time() + pause},
        # Whole seconds: RabbitMQ's delays are.
        countdown=math.ceil(min(pause, celery_settings().longest_countdown)),
    )
