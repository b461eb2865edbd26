"""The way to Celery: the relay's adapter, and `send` for one task.

Celery publishes with blocking calls. Here they run in threads and end within seconds, so no event loop waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any, TypeVar

from amqp.exceptions import AMQPError, MessageNacked, NotFound
from celery.exceptions import QueueNotFound
from kombu import Connection
from kombu.exceptions import EncodeError, KombuError

from app.core.broker import NOT_YET, BrokerDownError, Loss, Outgoing
from app.core.celery_app import celery_app, load_tasks
from app.core.celery_settings import celery_settings
from app.core.failures import describe
from app.core.redis_memory import check_memory

T = TypeVar("T")

# A batch that has come so far in this time is enough; below the relay's own limit for a step.
BATCH_SECONDS = 6.0
ATTEMPTS = 2
# Not asyncio's threads: the whole process resolves names in those, and a silent broker would hold them all.
THREADS = ThreadPoolExecutor(8, "celery")  # fewer than the connections in Celery's pool


async def send(task_name: str, args: list[Any], *, task_id: str, queue: str | None = None) -> None:
    """Send a task and wait for the broker to have it. `queue` is the task's own unless given.

    Raises BrokerDownError within a bounded time when the broker does not confirm; it may have the task all
    the same, so that a second call with the same `task_id` may lead to a second delivery.
    """
    await in_thread(lambda: put(task_name, args, task_id=task_id, queue=queue))


def put(
    task_name: str,
    args: Sequence[Any],
    *,
    task_id: str,
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    countdown: float = 0,
    producer: Any = None,
) -> None:
    """`send` that blocks, for tasks and threads. Raises what Celery raises, see `trouble`.

    The limits of the process that sends stay at home: they would override those of the worker. The
    arguments do not appear in logs and events.
    """
    settings = celery_settings()
    options: dict[str, Any] = {} if settings.uses_redis else {"mandatory": True}
    if queue is not None:
        options["queue"] = queue
    celery_app.send_task(
        task_name,
        list(args),
        dict(kwargs or {}),
        task_id=task_id,
        countdown=countdown or None,
        producer=producer,
        ignore_result=True,
        time_limit=None,
        soft_time_limit=None,
        argsrepr="…",
        kwargsrepr="…",
        confirm_timeout=settings.celery_publish_timeout_seconds,
        **options,
    )


class CeleryBroker:
    """Sends the outbox to Celery: the topic is the task's name, the message its only argument.

    A mark in the broker tells that it has come back empty, or, on Redis, without its last moments.
    """

    def __init__(self) -> None:
        load_tasks()  # they say which queue is theirs
        self._accepted = False

    async def publish(self, messages: Sequence[Outgoing]) -> list[str | None]:
        """See Broker. One after the other; what does not fit into a few seconds is left for the next time."""
        return await in_thread(lambda: publish(messages))

    async def loss(self, owner: str) -> Loss:
        """See Broker. The first time a Redis is looked at as a whole: it may be refused."""
        if not self._accepted:
            await in_thread(look_at_broker)
            self._accepted = True
        return await in_thread(lambda: marks().loss(owner))

    async def remember(self, owner: str) -> None:
        """See Broker."""
        await in_thread(lambda: marks().remember(owner))

    async def close(self) -> None:
        """See Broker."""
        await asyncio.to_thread(celery_app.close)


def publish(messages: Sequence[Outgoing]) -> list[str | None]:
    """Send `messages` in their order; see Broker.publish."""
    results: list[str | None] = []
    ends = time.monotonic() + BATCH_SECONDS
    with celery_app.producer_or_acquire() as producer:
        for message in messages:
            if results and time.monotonic() > ends:
                break
            try:
                put(message.topic, [message.body.decode()], task_id=message.id, producer=producer)
            except QueueNotFound as error:
                results.append(f"{NOT_YET}{error.args[0]}")
            except Exception:  # whatever it is: the next call begins with this message, and raises it
                if not results:
                    raise
                break
            else:
                results.append(None)
    return results


async def in_thread(call: Callable[[], T]) -> T:
    """The result of a blocking `call` to the broker. Raises BrokerDownError."""
    patience = ATTEMPTS * 3 * celery_settings().celery_publish_timeout_seconds
    try:
        async with asyncio.timeout(patience):
            return await asyncio.get_running_loop().run_in_executor(THREADS, copy_context().run, call)
    except TimeoutError as error:
        raise BrokerDownError(f"Celery's broker: no answer within {patience:g} s") from error
    except Exception as error:
        if trouble(error):
            raise BrokerDownError(f"Celery's broker: {describe(error)}") from error
        raise


def trouble(error: Exception) -> bool:
    """Whether `error` is the broker's, and not that of the message."""
    if isinstance(error, EncodeError):
        return False
    connection = celery_app.connection_for_write()  # it is not opened for this
    errors = (*connection.connection_errors, *connection.channel_errors)
    return isinstance(error, (KombuError, AMQPError, MessageNacked, OSError, *errors))


# -- marks ---------------------------------------------------------------------------------------------


class RedisMarks:
    """A key with the id of the server's run: missing when all is lost, another when the last moments are."""

    def loss(self, owner: str) -> Loss:
        """See Broker."""
        with connected() as connection, self._client(connection) as client:
            mark, run = client.get(self._key(owner)), run_of(client)
        if mark is None:
            return Loss.ALL
        return Loss.NONE if mark.decode() == run else Loss.RECENT

    def remember(self, owner: str) -> None:
        """See Broker."""
        with connected() as connection, self._client(connection) as client:
            client.set(self._key(owner), run_of(client))

    def _client(self, connection: Connection) -> Any:
        from redis import Redis

        channel: Any = connection.default_channel
        return Redis(connection_pool=channel.pool)  # the channel's own would put its prefix before some keys

    def _key(self, owner: str) -> str:
        return f"{celery_settings().celery_key_prefix}outbox:{owner}:run"


def run_of(client: Any) -> str:
    """The id that a Redis gives itself when it starts."""
    return str(client.info("server")["run_id"])


class RabbitMarks:
    """A queue in which nothing ever is. What RabbitMQ has confirmed is on disk: it loses all or nothing."""

    def loss(self, owner: str) -> Loss:
        """See Broker."""
        try:
            self._declare(owner, passive=True)
        except NotFound:
            return Loss.ALL
        return Loss.NONE

    def remember(self, owner: str) -> None:
        """See Broker."""
        self._declare(owner, passive=False)

    def _declare(self, owner: str, *, passive: bool) -> None:
        arguments = {} if passive else {"x-queue-type": "quorum"}
        name = f"celery.outbox.{owner}"[:255]
        with connected() as connection, connection.channel() as opened:
            channel: Any = opened
            channel.queue_declare(name, passive=passive, durable=True, auto_delete=False, arguments=arguments)


@contextmanager
def connected() -> Iterator[Connection]:
    """A connection of the pool, open. One that has failed may be half dead and does not go back as it is."""
    with celery_app.connection_or_acquire() as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0.2)
            yield connection
        except Exception:  # whatever it is, it may have come in the middle of an exchange
            connection.collect()
            raise


def look_at_broker() -> None:
    """Raises RefusedToStartError for one that deletes messages."""
    with connected() as connection:
        refuse_eviction(connection)


def refuse_eviction(connection: Connection) -> None:
    """Raises RefusedToStartError for a Redis that deletes messages; one that may not tell is taken."""
    if celery_settings().uses_redis:
        channel: Any = connection.default_channel
        with suppress(channel.ResponseError):
            check_memory(channel.client.info("memory"))


def marks() -> RedisMarks | RabbitMarks:
    """The marks for the broker that is set."""
    return RedisMarks() if celery_settings().uses_redis else RabbitMarks()
