"""The side of request and reply that works: a consumer whose handlers return the reply.

The reply is sent when the transaction is committed and before the request is acknowledged. Requests are not
retried here: the caller waits, and knows best whether to ask again. See `app.core.rabbit_rpc`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from aio_pika import Message as AmqpMessage
from pydantic import BaseModel, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.broker import BrokerDownError
from app.core.consumer import Consumer, Route
from app.core.envelope import Envelope, Message, build
from app.core.failures import classify, describe
from app.core.inbox import Process, transactional
from app.core.outcomes import Dead, Done, Down, InvalidMessageError, Outcome, Postpone, Retry
from app.core.rabbit import Confirmed, UnroutableError
from app.core.rabbit_consumer import RabbitConsumer
from app.core.rabbit_queue import Arrival
from app.core.rabbit_rpc import ALREADY_DONE, CONTENT_TYPE, FAILED, REPLIES, Failed, reply_type
from app.core.rabbit_topology import Queue
from app.core.worker_settings import WorkerSettings

T = TypeVar("T", bound=BaseModel)
logger = logging.getLogger(__name__)

Work = Callable[[Message[Any], float], Awaitable[BaseModel | Outcome]]


@dataclass(frozen=True, slots=True)
class Answered(Done):
    """Committed, and `data` is to be sent as a reply of `type`; `request` is what it answers."""

    request: Envelope | None = None
    type: str = ""
    data: BaseModel | None = None


def answer(
    type_: str, payload: type[T], handle: Callable[[Message[T], AsyncSession], Awaitable[BaseModel]]
) -> Route:
    """Reply to requests of `type_` with what `handle` returns, from a transaction of its own.

    A request that is asked again with the same id is done once. When it is done already its reply is gone,
    and the caller is told that (AlreadyDoneError).
    """

    async def work(message: Message[Any], timeout: float) -> BaseModel | Outcome:
        replies: list[BaseModel] = []

        async def note(message: Message[Any], session: AsyncSession) -> Outcome:
            replies.append(await handle(message, session))
            return Done()

        outcome = await transactional(note)(message, timeout)
        return replies[0] if replies else outcome

    return Route(type_, payload, replying(work))


def answer_without_transaction(
    type_: str, payload: type[T], handle: Callable[[Message[T]], Awaitable[BaseModel]]
) -> Route:
    """Reply with what `handle` returns. It is run again for a request that is repeated: only read there."""

    async def work(message: Message[Any], timeout: float) -> BaseModel:  # noqa: ARG001  # as Work
        return await handle(message)

    return Route(type_, payload, replying(work), transactional=False)


def replying(work: Work) -> Process:
    """Turn what `work` returns or raises into a reply."""

    async def process(message: Message[Any], timeout: float) -> Outcome:
        request = message.envelope
        if address_of(request) is None:
            raise InvalidMessageError(f"not a request: replyto is {request.replyto!r}, no queue for replies")
        if request.expirytime is not None and request.expirytime <= datetime.now(UTC):
            logger.info("%s: request %s came too late", message.consumer, request.id)
            return Done()
        try:
            found = await work(message, timeout)
        except Exception as error:
            return Answered(request=request, type=FAILED, data=refusal(message, error))
        if isinstance(found, BaseModel):
            return Answered(request=request, type=reply_type(request.type), data=found)
        if isinstance(found, Done):
            gone = Failed(error=ALREADY_DONE, reason="done by an earlier delivery, whose reply went out then")
            return Answered(request=request, type=FAILED, data=gone)
        return found

    return process


def refusal(message: Message[Any], error: Exception) -> Failed:
    """What the caller gets to know of `error`. Raises what is not the caller's business: a deadline or an
    outage of the database, after which the request is delivered again.
    """
    task = asyncio.current_task()
    outcome = classify(error)
    if isinstance(outcome, Down | Postpone) or (task is not None and task.cancelling()):
        raise error
    transient = isinstance(outcome, Retry)
    level = logging.WARNING if transient else logging.ERROR
    told = None if transient else error
    logger.log(
        level, "%s: request %s failed: %s", message.consumer, message.envelope.id, error, exc_info=told
    )
    return Failed(error=type(error).__name__, reason=describe(error), transient=transient)


def address_of(request: Envelope) -> str | None:
    """The queue for the reply; None when there is none, or one that is not for replies."""
    return request.replyto if request.replyto and request.replyto.startswith(REPLIES) else None


class RpcServer(RabbitConsumer):
    """A RabbitConsumer that sends the replies of routes made with `answer`."""

    def __init__(
        self, consumer: Consumer, settings: WorkerSettings | None = None, queue: Queue | None = None
    ) -> None:
        super().__init__(consumer, settings, queue)
        self._replies = Confirmed(self.settings.rabbitmq_url.get_secret_value(), f"{self.name} replies")

    async def decide(self, delivery: Arrival) -> Outcome:
        """See MessageWorker. Who asked for something that becomes a dead letter is told as well."""
        outcome = await super().decide(delivery)
        if isinstance(outcome, Answered) and outcome.request is not None and outcome.data is not None:
            await self._reply(outcome.request, outcome.type, outcome.data)
        if isinstance(outcome, Dead) and (request := request_in(delivery.raw)) is not None:
            await self._reply(request, FAILED, Failed(error="Dead", reason=outcome.reason))
        return outcome

    async def _reply(self, request: Envelope, type_: str, data: BaseModel) -> None:
        id_ = str(uuid.uuid4())
        source = self.settings.outbox_source
        trace = request.traceparent
        body = build(type_, data, source=source, id_=id_, traceparent=trace, correlationid=request.id)
        if len(body) > self.settings.worker_max_message_bytes:
            large = Failed(error="TooLarge", reason=f"the reply has {len(body)} bytes")
            body = build(FAILED, large, source=source, id_=id_, traceparent=trace, correlationid=request.id)
        reply = AmqpMessage(body, message_id=id_, correlation_id=request.id, content_type=CONTENT_TYPE)
        try:
            await self._replies.publish(reply, str(address_of(request)))
        except UnroutableError:
            logger.debug("%s: reply to %s dropped, the caller is gone", self.name, request.id)
        except BrokerDownError as error:
            logger.warning("%s: reply to %s not sent: %s", self.name, request.id, error)

    async def close(self) -> None:
        """See MessageWorker."""
        await super().close()
        await self._replies.close()


def request_in(raw: bytes | None) -> Envelope | None:
    """The request in a message that was refused, if it can be answered at all."""
    try:
        envelope = Envelope.model_validate_json(raw or b"")
    except ValidationError:
        return None
    return None if address_of(envelope) is None else envelope
