"""What a consumer is, whatever carries its messages: types, handlers, the way from bytes to an outcome."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.core.deadline import Watch, cancellation
from app.core.envelope import Message, Reader, check_size, current_traceparent, fields
from app.core.failures import classify
from app.core.foreign import Foreign, Translate, as_event
from app.core.gate import database_answers, forget_idle_connections
from app.core.inbox import Handler, Process, transactional
from app.core.outcomes import Dead, Done, Down, InvalidMessageError, Outcome, Postpone, Retry
from app.core.worker_settings import WorkerSettings

T = TypeVar("T", bound=BaseModel)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """One message type: its payload model and what processes it."""

    name: str
    payload: type[BaseModel]
    process: Process
    transactional: bool = True


def on(type_: str, payload: type[T], handle: Handler[T]) -> Route:
    """Handle messages of `type_` in a transaction of their own, once each."""
    return Route(type_, payload, transactional(handle))


def on_without_transaction(
    type_: str, payload: type[T], handle: Callable[[Message[T]], Awaitable[Outcome | None]]
) -> Route:
    """Handle messages of `type_` without a database: the handler itself must make repeats harmless."""

    async def process(message: Message[Any], timeout: float) -> Outcome:  # noqa: ARG001  # as Process
        return await handle(message) or Done()

    return Route(type_, payload, process, transactional=False)


@dataclass(frozen=True)
class Consumer:
    """A named consumer of one topic.

    `name` is the consumer group and the inbox's consumer: two consumers of a topic both get every message.
    `skip` names types that share the topic and are none of this consumer's business. `translate` is for those
    who write no CloudEvents.
    """

    name: str
    topic: str
    routes: tuple[Route, ...]
    skip: frozenset[str] = frozenset()
    translate: Translate | None = None
    reader: Reader = field(init=False)
    processes: Mapping[str, Process] = field(init=False)

    def __post_init__(self) -> None:
        if not self.routes:
            raise ValueError(f"consumer {self.name}: no routes, so it would set every message aside")
        object.__setattr__(self, "reader", Reader({r.name: r.payload for r in self.routes}, self.skip))
        object.__setattr__(self, "processes", {r.name: r.process for r in self.routes})

    @property
    def uses_database(self) -> bool:
        """Whether a silent database concerns this consumer."""
        return any(route.transactional for route in self.routes)

    async def decide(
        self,
        raw: bytes | Callable[[], Foreign],
        delivery: int,
        watch: Watch,
        settings: WorkerSettings,
    ) -> Outcome:
        """Process one delivery, number `delivery`: its bytes, or what is to be translated. Every failure
        becomes an outcome.
        """
        try:
            if delivery > settings.worker_max_deliveries:
                return Dead(f"delivered {delivery - 1} times and never finished: it may kill its worker")
            most = settings.worker_max_message_bytes
            event = raw if isinstance(raw, bytes) else self._translated(raw(), most)
            envelope = self.reader.read(event, most)
            if envelope is None:
                return Done()
            message = Message(self.name, envelope, envelope.data, delivery)
            return bounded(await self._run(message, watch, settings), delivery, settings)
        except Exception as error:
            return await self._failed(error, delivery, watch, settings)

    def _translated(self, message: Foreign, most: int) -> bytes:
        check_size(message.body, most)
        try:
            return message.body if self.translate is None else as_event(message, self.translate)
        except ValidationError as error:
            raise InvalidMessageError(f"not translated: {fields(error)}") from None

    async def _run(self, message: Message[Any], watch: Watch, settings: WorkerSettings) -> Outcome:
        current_traceparent.set(message.envelope.traceparent)
        timeout = settings.worker_handler_timeout_seconds
        watch.start(time.monotonic(), timeout)
        try:
            outcome = await self.processes[message.envelope.type](message, timeout)
        except BaseException as error:
            if not watch.end():
                raise
            # Cleaning up may have failed too; what matters is where the deadline found the handler.
            raise TimeoutError(f"the handler took longer than {timeout:g} s") from cancellation(error)
        watch.end()
        return outcome

    async def _failed(
        self, error: Exception, delivery: int, watch: Watch, settings: WorkerSettings
    ) -> Outcome:
        if watch.revoked is not None:
            return Postpone(watch.revoked)
        outcome = classify(error)
        if isinstance(outcome, Down):
            outcome = await really_down(outcome, overrun=watch.overrun(time.monotonic()))
        outcome = bounded(outcome, delivery, settings)
        level = logging.ERROR if isinstance(outcome, Dead) else logging.WARNING
        # The traceback is for errors that nobody foresaw; an outage would print it for each message.
        logger.log(level, "%s: %s", self.name, outcome, exc_info=error if isinstance(outcome, Dead) else None)
        return outcome


async def really_down(outcome: Down, *, overrun: bool) -> Outcome:
    """Whether it is the database or the handler: one that overran its deadline inside a statement may have
    met a silent database, or sent a statement that takes too long. The latter must count, or its message
    would come back for ever.
    """
    if not overrun:
        return outcome
    await forget_idle_connections()
    return Retry(outcome.reason) if await database_answers() else outcome


def bounded(outcome: Outcome, delivery: int, settings: WorkerSettings) -> Outcome:
    """A retry that is one too many becomes a dead letter."""
    if isinstance(outcome, Retry) and settings.retry_policy.exhausted(delivery):
        return Dead(f"gave up after {delivery} attempts: {outcome.reason}")
    return outcome
