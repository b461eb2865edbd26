"""RabbitMQ for the tests of workers: the server, what tests send to it, and what they see in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelClosed

T = TypeVar("T")
Facts = Mapping[str, Any]

EXCHANGE = "worker_lab"
# Of a worker that holds one message at a time it can be told from outside whether it holds one.
SETTINGS = {"RABBITMQ_EXCHANGE": EXCHANGE, "RABBITMQ_PREFETCH": "1"}
ANSWER_SECONDS = 30.0
# Before the PATH: Debian's program there insists on the system's own node and user.
FOLDERS = ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/opt/homebrew/opt/rabbitmq/sbin")
NO_SERVER = "no RabbitMQ: set TEST_RABBITMQ_URL to the address of one for tests, or install rabbitmq-server"


def start(folder: Path, port: Callable[[], int]) -> RabbitLab:
    """The RabbitMQ of TEST_RABBITMQ_URL, or a node of our own. Without both the test fails."""
    given = os.environ.get("TEST_RABBITMQ_URL")
    return RabbitLab(given) if given else start_node(folder / "rabbitmq", port)


def start_node(folder: Path, port: Callable[[], int]) -> RabbitLab:
    """A node that shares nothing with others on this machine: name, data, ports, port mapper, cookie."""
    server = shutil.which("rabbitmq-server", path=os.pathsep.join([*FOLDERS, os.environ.get("PATH", "")]))
    mappers = [shutil.which("epmd"), *map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))]
    mapper = next(filter(None, mappers), None)
    if server is None or mapper is None:
        pytest.fail(NO_SERVER)
    folder.mkdir()
    (folder / "lab.conf").write_text("loopback_users = none\ndisk_free_limit.absolute = 1MB\n")
    (folder / "plugins").write_text("[].\n")
    amqp, mapping = str(port()), str(port())
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")},
        "HOME": str(folder),
        "ERL_EPMD_PORT": mapping,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"lab{amqp}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": amqp,
        "RABBITMQ_DIST_PORT": str(port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_CONFIG_FILE": str(folder / "lab"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        # With these the script becomes the node, and no port mapper outlives it.
        "RABBITMQ_ALLOW_INPUT": "1",
        "RABBITMQ_SERVER_START_ARGS": "-noinput",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false +sbwt none +sbwtdcpu none +sbwtdio none",
    }
    log = folder / "server.log"
    with log.open("wb") as output:
        processes = [
            subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            for command in ([mapper, "-port", mapping, "-address", "127.0.0.1"], [server])
        ]
    return RabbitLab(f"amqp://guest:guest@127.0.0.1:{amqp}/", processes, log)


class RabbitLab:
    """A RabbitMQ; `environment` leads workers to it. Queues of the consumers under test are deleted in it."""

    def __init__(
        self, url: str, processes: list[subprocess.Popen[bytes]] | None = None, log: Path | None = None
    ) -> None:
        self.environment = {"RABBITMQ_URL": url, **SETTINGS}
        self._url, self._processes, self._log = url, processes or [], log
        self._connection: AbstractConnection | None = None
        # A loop in a thread of its own, so that no event loop of a plugin is disturbed.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._taken: dict[str, list[AbstractIncomingMessage]] = defaultdict(list)

    def _ask(self, question: Callable[[AbstractChannel], Awaitable[T]]) -> T:
        """Do something over a channel; its result."""

        async def work() -> T:
            if self._connection is None or self._connection.is_closed:
                self._connection = await aio_pika.connect(self._url, timeout=10)
            channel = await self._connection.channel(on_return_raises=True)
            try:
                return await question(channel)
            finally:
                if not channel.is_closed:
                    await channel.close()

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(ANSWER_SECONDS)

    def answers(self) -> bool:
        """Whether it takes connections. Raises AssertionError when it is ours and has ended."""
        for process in self._processes:
            assert process.poll() is None, self._log and self._log.read_text()[-2000:]

        async def nothing(_: AbstractChannel) -> bool:
            return True

        try:
            return self._ask(nothing)
        except (*CONNECTION_EXCEPTIONS, TimeoutError):
            return False

    def stop(self) -> None:
        """End the server if it is ours."""

        async def close() -> None:
            if self._connection is not None:
                await self._connection.close()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(ANSWER_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    # -- a consumer ------------------------------------------------------------------------------------

    def clear(self, consumer: Facts) -> None:
        """Delete what there is of a consumer, and the queues in which its retries wait."""
        pauses = [f"{consumer['exchange']}.pause.{0.25 * 2**n:g}s" for n in range(6)]
        self._delete(consumer["queue"], consumer["dead"], *pauses, exchanges=pauses)
        self._taken.clear()

    def send(self, consumer: Facts, raw: bytes) -> None:
        """Put a message where the consumer finds it."""

        async def publish(channel: AbstractChannel) -> None:
            exchange = await channel.get_exchange(consumer["exchange"], ensure=False)
            message = aio_pika.Message(raw, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, consumer["topic"])

        self._ask(publish)

    def left(self, consumer: Facts) -> int:
        """Messages that no worker has in hand; of the others RabbitMQ tells nothing over AMQP."""
        return self._counts(consumer)[0]

    def finished(self, consumer: Facts) -> bool:
        """Whether workers that have ended have left nothing behind. What they held is back as soon as
        they do not count as consumers any more.
        """
        return self._counts(consumer) == (0, 0)

    def _counts(self, consumer: Facts) -> tuple[int, int]:
        """Messages that wait, and consumers."""

        async def count(channel: AbstractChannel) -> tuple[int, int]:
            result = (await channel.declare_queue(consumer["queue"], passive=True)).declaration_result
            return int(result.message_count or 0), int(result.consumer_count or 0)

        return self._ask(count)

    def taken(self, consumer: Facts, workers: int) -> bool:  # noqa: ARG002  # each has one at a time
        """Whether so many workers have a message in hand, when so many messages were sent."""
        return self.left(consumer) == 0

    def holds(self, consumer: Facts, process: int) -> bool:  # noqa: ARG002
        """Whether a process that has ended has a message in hand: RabbitMQ takes it back from everyone."""
        return False

    def dead(self, consumer: Facts) -> list[tuple[bytes, str]]:
        """The dead letters: their bytes and the reason."""
        letters = self._take(consumer["dead"])
        return [(letter.body, str(letter.headers.get("dead-reason", ""))) for letter in letters]

    # -- a relay ---------------------------------------------------------------------------------------

    def listen(self, topic: str) -> None:
        """Get ready to receive what a relay sends."""

        async def declare(channel: AbstractChannel) -> None:
            exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
            queue = await channel.declare_queue(topic, durable=True, arguments={"x-queue-type": "quorum"})
            await queue.bind(exchange, topic)

        self._delete(topic)
        self._taken.clear()
        self._ask(declare)

    def received(self, topic: str) -> list[bytes]:
        """What the relay has sent, in order."""
        return [message.body for message in self._take(topic)]

    def forget(self, topic: str, outbox: str) -> None:
        """Lose what came from an outbox, and that it did, as after a start without the data."""
        self._delete(topic, f"{EXCHANGE}.outbox.{outbox}"[:255])
        self.listen(topic)

    # -- both ------------------------------------------------------------------------------------------

    def _take(self, queue: str) -> list[AbstractIncomingMessage]:
        """All messages that were ever taken out of a queue."""

        async def take(channel: AbstractChannel) -> None:
            try:
                source = await channel.declare_queue(queue, passive=True)
            except ChannelClosed:  # no such queue yet
                return
            while (message := await source.get(no_ack=True, fail=False)) is not None:
                self._taken[queue].append(message)

        self._ask(take)
        return self._taken[queue]

    def _delete(self, *queues: str, exchanges: list[str] | None = None) -> None:
        """Delete queues and exchanges, whether they are there or not."""

        async def delete(channel: AbstractChannel) -> None:
            for queue in queues:
                await channel.queue_delete(queue)
            for exchange in exchanges or ():
                await channel.exchange_delete(exchange)

        self._ask(delete)
