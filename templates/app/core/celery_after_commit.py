"""Messages that are sent straight after the commit, for work that may get lost.

    async with get_session() as session:
        order = await OrderService(session).place(...)
        send_after_commit(session, "mail.invoice.v1", InvoiceEmail(user_id=7, email_type="hint"))

The tasks are the same as for `enqueue`, and what is rolled back is not sent here either. No row is written
and no relay is needed. The price: when the process ends or the broker is away at that moment, it is lost.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass
from functools import cache

from celery.exceptions import QueueNotFound
from pydantic import BaseModel
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from app.core.broker import BrokerDownError
from app.core.celery_app import load_tasks
from app.core.celery_broker import in_thread, put
from app.core.envelope import build, current_traceparent, topic_of
from app.core.worker_settings import worker_settings

KEY = "celery_after_commit"
# While the broker is silent each message holds a thread for seconds.
MOST = 100
logger = logging.getLogger(__name__)
sending: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class Pending:
    """A message, and the transaction or savepoint that it belongs to (None: one that has not begun)."""

    topic: str
    id: str
    body: str
    within: SessionTransaction | None

    def is_of(self, transaction: SessionTransaction) -> bool:
        """Whether it goes down with `transaction`."""
        outer = self.within
        while outer is not None and outer is not transaction:
            outer = outer.parent
        return outer is transaction


def send_after_commit(session: AsyncSession, type_: str, data: BaseModel) -> uuid.UUID:
    """Send `data` as a message of `type_` once the session's transaction has committed; the message's id.
    Nobody waits for it, and nobody is told when it is lost but the log.

    Raises ValueError for a type without a version.
    """
    id_, sync = uuid.uuid4(), session.sync_session
    source, parent = worker_settings().outbox_source, current_traceparent.get()
    body = build(type_, data, source=source, id_=str(id_), traceparent=parent).decode()
    if KEY not in sync.info:
        sync.info[KEY] = []
        event.listen(sync, "after_commit", send_all)
        event.listen(sync, "after_soft_rollback", forget)
        event.listen(sync, "after_transaction_end", forget_rest)
    within = sync.get_nested_transaction() or sync.get_transaction()
    sync.info[KEY].append(Pending(topic_of(type_), str(id_), body, within))
    return id_


def send_all(session: Session) -> None:
    """Send what waits; at the end of a savepoint nothing is committed."""
    if session.in_nested_transaction():
        return
    pending, session.info[KEY] = session.info[KEY], []
    for message in pending:
        if len(sending) >= MOST:
            logger.warning("%s %s is lost: too many wait for the broker", message.topic, message.id)
            continue
        task = asyncio.get_running_loop().create_task(send(message))
        sending.add(task)
        task.add_done_callback(sending.discard)


def forget(session: Session, transaction: SessionTransaction) -> None:
    """Forget what was to be sent from a transaction or savepoint that was rolled back."""
    session.info[KEY] = [message for message in session.info[KEY] if not message.is_of(transaction)]


def forget_rest(session: Session, transaction: SessionTransaction) -> None:
    """The whole transaction is over: what has not been sent by now was not committed."""
    if transaction.parent is None:
        session.info[KEY] = []


async def send(message: Pending) -> None:
    """Send a message, within a bounded time."""
    try:
        await in_thread(lambda: hand_over(message))
    except (BrokerDownError, QueueNotFound) as error:
        logger.warning("%s %s is lost: %s", message.topic, message.id, error)


def hand_over(message: Pending) -> None:
    """Send a message to its task's queue."""
    loaded()
    put(message.topic, [message.body], task_id=message.id)


@cache
def loaded() -> None:
    """The tasks, which know their queues."""
    load_tasks()
