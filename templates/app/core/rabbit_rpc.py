"""Request and reply over RabbitMQ: a call that waits for its reply, and no longer than it is told to.

    async with RpcClient() as rpc:  # one for each process, opened in the lifespan
        quote = await rpc.call("shop.order.quote.v1", QuoteOrder(order_id=7), Quote, timeout=5)

Requests and replies are CloudEvents like all messages. A request says in `replyto` where its reply is to go
and in `expirytime` until when; the reply names its request in `correlationid`. `app.core.rabbit_rpc_server`
is the other side.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self, TypeVar

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel
from aiormq.abc import DeliveredMessage
from pydantic import BaseModel, ValidationError

from app.core.broker import BrokerDownError
from app.core.envelope import Envelope, build, current_traceparent, fields, topic_of
from app.core.outcomes import InvalidMessageError, PermanentError, TransientError
from app.core.rabbit import REQUEST_TIMEOUT, Confirmed, UnroutableError, ask
from app.core.rabbit_topology import declare_exchange
from app.core.worker_settings import WorkerSettings, worker_settings

R = TypeVar("R", bound=BaseModel)
logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/cloudevents+json"
# Every queue for replies is named like this, and a reply goes to no other: a request may come from anybody,
# and must not make its server write into the queue of a consumer.
REPLIES = "rpc.replies."
FAILED = "rpc.failed.v1"
ALREADY_DONE = "AlreadyDone"
LOST = "the connection was lost: it is not known whether the request is done"
# Who waits this long in vain for a confirmation has a dead connection; the next call then gets a new one.
LEAST_PATIENCE = 3.0


class Failed(BaseModel):
    """The reply to a request that was not done. `error` is the class of the error; `transient`: ask again."""

    error: str
    reason: str
    transient: bool = False


class NoReplyError(TransientError):
    """No reply in time. It is not known whether the request is done; with the same `request_id` it is done
    once, however often it is asked for.
    """


class RequestFailedError(PermanentError):
    """The server refused the request; `error` is the name of its error."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.reason)
        self.error = failed.error


class AlreadyDoneError(RequestFailedError):
    """The request was done before, when its reply did not arrive: read the effect where it was written."""


class TryAgainError(TransientError):
    """The request failed on something that may pass, and has changed nothing."""


def reply_type(type_: str) -> str:
    """The type of the reply to a request: `shop.order.quote.v1` gives `shop.order.quote.reply.v1`.

    Raises ValueError for a type without a version.
    """
    return f"{topic_of(type_)}.reply.v{type_.rpartition('.v')[2]}"


class RpcClient:
    """Calls others, many at once, over one connection that is opened with the first call."""

    def __init__(self, settings: WorkerSettings | None = None) -> None:
        self._settings = settings or worker_settings()
        self._confirmed = Confirmed(self._settings.rabbitmq_url.get_secret_value(), "asks and gets replies")
        self._waiting: dict[str, asyncio.Future[Envelope | BrokerDownError]] = {}
        self._channel: AbstractChannel | None = None
        self._address = ""
        self._opening = asyncio.Lock()

    async def call(
        self,
        type_: str,
        data: BaseModel,
        reply: type[R],
        *,
        timeout: float = 5.0,
        request_id: uuid.UUID | None = None,
    ) -> R:
        """Send `data` as a request of `type_`, wait for its reply at most `timeout` seconds, and read that.

        Raises NoReplyError, RequestFailedError and TryAgainError; UnroutableError when no server has ever
        made its queue; BrokerDownError when the connection fails; ValueError for a type without a version,
        a message that is too large, and a `request_id` that is being asked for already.
        """
        request = str(request_id or uuid.uuid4())
        try:
            async with asyncio.timeout(timeout):
                envelope = await self._ask(request, type_, data, timeout)
        except TimeoutError as error:
            raise NoReplyError(f"{type_}: no reply within {timeout:g} s") from error
        return read(envelope, reply_type(type_), reply)

    async def _ask(self, request: str, type_: str, data: BaseModel, timeout: float) -> Envelope:
        ends = time.monotonic() + timeout
        address = await self._ready()
        message = self._message(request, type_, data, address, ends - time.monotonic())
        if request in self._waiting:
            raise ValueError(f"request {request} is under way")
        self._waiting[request] = waiting = asyncio.get_running_loop().create_future()
        try:
            patience = min(REQUEST_TIMEOUT, max(LEAST_PATIENCE, 0.9 * timeout))
            await self._confirmed.publish(
                message, topic_of(type_), self._settings.rabbitmq_exchange, timeout=patience
            )
            found: Envelope | BrokerDownError = await waiting
        finally:
            del self._waiting[request]
        if isinstance(found, BrokerDownError):
            raise found
        return found

    def _message(self, request: str, type_: str, data: BaseModel, address: str, left: float) -> Message:
        body = build(
            type_,
            data,
            source=self._settings.outbox_source,
            id_=request,
            traceparent=current_traceparent.get(),
            replyto=address,
            expirytime=datetime.now(UTC) + timedelta(seconds=left),
        )
        if len(body) > self._settings.worker_max_message_bytes:
            raise ValueError(f"request of {len(body)} bytes: send an id and let the server read")
        # Without the property `expiration`: RabbitMQ would keep what is too late as a dead letter. The server
        # looks at `expirytime`, and lets it go.
        return Message(
            body,
            message_id=request,
            correlation_id=request,
            reply_to=address,
            content_type=CONTENT_TYPE,
            delivery_mode=DeliveryMode.PERSISTENT,
        )

    async def _ready(self) -> str:
        """The queue that replies arrive in. It is gone with its connection, so each has a new one."""
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = None
                channel = await self._confirmed.connection.channel()
                await declare_exchange(channel, self._settings.rabbitmq_exchange)
                underlay = await channel.get_underlay_channel()
                underlay.closing.add_done_callback(lambda _: self._lost(LOST))
                underlay.on_consumer_cancel_callbacks.add(self._cancelled)
                address = f"{REPLIES}{uuid.uuid4().hex}"
                await ask(underlay.queue_declare(address, exclusive=True))
                await ask(underlay.basic_consume(address, self._arrived, no_ack=True))
                self._channel, self._address = channel, address
            return self._address

    async def _arrived(self, message: DeliveredMessage) -> None:
        try:
            envelope = Envelope.model_validate_json(message.body)
        except ValidationError as error:
            logger.warning("a reply that is none: %s", fields(error))
            return
        waiting = self._waiting.get(envelope.correlationid or "")
        if waiting is None or waiting.done():
            logger.debug("reply to %s dropped: nobody waits for it", envelope.correlationid)
        else:
            waiting.set_result(envelope)

    def _cancelled(self, _frame: object) -> None:
        """RabbitMQ has ended our consumer: somebody deleted the queue."""
        self._channel = None
        self._confirmed.connection.drop()

    def _lost(self, reason: str) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(BrokerDownError(f"RabbitMQ: {reason}"))

    async def close(self) -> None:
        """Fail what is under way and close the connection."""
        self._lost("the client was closed")
        await self._confirmed.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def read(envelope: Envelope, type_: str, reply: type[R]) -> R:
    """What a reply says. Raises RequestFailedError, TryAgainError, and InvalidMessageError for what is no
    reply of `type_`.
    """
    try:
        if envelope.type == FAILED:
            raise failure(Failed.model_validate(envelope.data))
        if envelope.type != type_:
            raise InvalidMessageError(f"reply of type {envelope.type}, {type_} was expected")
        return reply.model_validate(envelope.data)
    except ValidationError as error:
        raise InvalidMessageError(f"reply {type_}: {fields(error)}") from error


def failure(failed: Failed) -> RequestFailedError | TryAgainError:
    """The error that a reply tells of."""
    if failed.transient:
        return TryAgainError(failed.reason)
    return AlreadyDoneError(failed) if failed.error == ALREADY_DONE else RequestFailedError(failed)


__all__ = [
    "AlreadyDoneError",
    "BrokerDownError",
    "NoReplyError",
    "RequestFailedError",
    "RpcClient",
    "TryAgainError",
    "UnroutableError",
]
