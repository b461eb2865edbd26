"""The dead letters of Celery tasks: how they are kept, and how they are sent again."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from typing import Any

from celery.exceptions import Reject
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.celery_app import COUNTED, celery_app
from app.core.celery_broker import in_thread
from app.core.celery_consumer import KEEP
from app.core.celery_loop import run
from app.core.database import get_session
from app.core.dead_letter_table import TableDeadLetters, bury
from app.core.dead_letters import Letter
from app.core.failures import describe
from app.core.outbox import CHANNEL, PLAIN, lane_of

PAUSE = 5.0


@celery_app.task(name=KEEP, **COUNTED)
def keep_letter(*args: Any, **kwargs: Any) -> None:
    """Keep what the main process of a worker could not use: one letter, or whatever came under this name."""
    try:
        run(keep, args[0] if len(args) == 1 and not kwargs else [args, kwargs])
    except Exception as error:  # whatever it is, the database most likely: the broker keeps it meanwhile
        raise Reject(describe(error), requeue=True) from error


async def keep(letter: Any) -> None:
    """Write a letter into the table; anything else that came under its name, too. Raises after a pause, so
    that trying again is no hot loop.
    """
    try:
        body = base64.b64decode(letter["body"], validate=True)
    except (LookupError, TypeError, ValueError) as error:
        body, reason = json.dumps(letter).encode(), f"no letter: {describe(error)}"
        letter = {"source": KEEP, "id": "", "reason": reason}
    headers = {name: letter.get(name) for name in ("content_type", "content_encoding", "headers")}
    try:
        async with get_session() as session:
            await bury(
                session,
                source=str(letter.get("source")),
                id=str(letter.get("id")),
                body=body,
                reason=str(letter.get("reason")),
                attempts=1,
                headers=headers,
            )
    except Exception:
        await asyncio.sleep(PAUSE)
        raise


def dead_letters(source: str) -> TableDeadLetters:
    """The dead letters of the task of that name; `celery` has what was no task at all."""
    return TableDeadLetters(source, resend)


async def resend(session: AsyncSession, letter: Letter) -> None:
    """Send a letter as on its first day: a message of ours through the outbox, anything else as it came."""
    if letter.headers:
        await in_thread(lambda: publish(letter))
        return
    id_ = str(letter.properties.get("message_id", letter.id))
    values = {
        "lane": lane_of(id_),
        "topic": letter.origin,
        "key": None,
        "message_id": as_uuid(id_),
        "body": (letter.body or b"").decode(),
        "channel": CHANNEL,
    }
    await session.execute(PLAIN, values)


def publish(letter: Letter) -> None:
    """Send the bytes with their headers to the default queue."""
    queue = celery_app.amqp.queues[celery_app.conf.task_default_queue]
    with celery_app.producer_or_acquire() as producer:
        producer.publish(
            letter.body or b"",
            exchange="",  # straight to the queue
            routing_key=queue.name,
            declare=[queue],
            headers=letter.headers.get("headers"),
            content_type=letter.headers.get("content_type"),
            content_encoding=letter.headers.get("content_encoding"),
            delivery_mode=2,
            retry=True,
            retry_policy=celery_app.conf.task_publish_retry_policy,
        )


def as_uuid(id_: str) -> uuid.UUID:
    """The id itself where it is one, as those of the outbox are."""
    try:
        return uuid.UUID(id_)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_URL, id_)
