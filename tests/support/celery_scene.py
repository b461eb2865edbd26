"""A fault test's world with Celery: its broker, its workers, and what they keep."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from celery import Celery
from kombu import Connection

from app.core.celery_app import build
from app.core.celery_settings import CelerySettings
from support.scene import FAULTY, Dead, Scene
from support.workers import IMPORT_PATH, WorkerProcess

LIMITS = {
    "WORKER_HANDLER_TIMEOUT_SECONDS": "1",
    "CELERY_SOFT_TIME_LIMIT_SECONDS": "3",
    "CELERY_TIME_LIMIT_SECONDS": "5",
    "CELERY_VISIBILITY_TIMEOUT_SECONDS": "12",
    "CELERY_DRAIN_SECONDS": "2",
    "CELERY_PUBLISH_TIMEOUT_SECONDS": "1",
}
# What asyncio and asyncpg say when a connection is used in two loops, processes or tasks.
LOOP_TROUBLE = (
    "attached to a different loop",
    "Event loop is closed",
    "another operation is in progress",
    "was never awaited",
)


@dataclass
class CeleryScene(Scene):
    """Messages in Celery's broker. The order's number is the message, as in the other scenes."""

    broker: ClassVar[str] = "celery"
    broker_url: str
    limits: dict[str, str] = field(default_factory=lambda: dict(LIMITS), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.app: Celery = build(CelerySettings(celery_broker_url=self.broker_url))  # type: ignore[arg-type]

    @property
    def uses_redis(self) -> bool:
        """Whether the broker is a Redis."""
        return self.broker_url.startswith("redis")

    @property
    def kind(self) -> str:
        """The broker's name."""
        return "Redis" if self.uses_redis else "RabbitMQ"

    def environment(self) -> dict[str, str]:
        return {"CELERY_BROKER_URL": self.broker_url, "REMAP_SIGTERM": "SIGQUIT", **self.limits}

    # -- workers -----------------------------------------------------------------------------------------

    def celery(
        self, *options: str, pool: str = "prefork", supervised: bool = False, **env: str
    ) -> WorkerProcess:
        """Start a Celery worker; `supervised` starts it again whenever it ends."""
        command = [sys.executable, "-m", "celery", "-A", "app.plain_celery", "worker"]
        command += ["--pool", pool, "--concurrency", "2", "--loglevel", "INFO"]
        command += ["--without-gossip", "--without-mingle", "-n", f"w{len(self.workers)}@%h", *options]
        if supervised:
            command = ["bash", "-c", 'while true; do "$@"; done', "supervisor", *command]
        settings = {
            "DATABASE_URL": self.postgres_url,
            "DB_POOL_SIZE": "12",
            "FAULTY_FOLDER": str(self.folder),
            "FAULTY_BROKER": self.broker,
            **self.environment(),
            **self.settings,
            **env,
        }
        name = f"celery {pool}"
        process = WorkerProcess(name, settings, command=command, import_path=[FAULTY, *IMPORT_PATH]).start()
        self.workers.append(process)
        return process

    def loop_trouble(self) -> list[str]:
        """Lines of the workers' logs that tell of connections in the wrong loop."""
        lines = [line for worker in self.workers for line in worker.log_text().splitlines()]
        return [line for line in lines if any(trouble in line for trouble in LOOP_TROUBLE)]

    # -- the broker --------------------------------------------------------------------------------------

    def put(self, events: Iterable[bytes]) -> None:
        with self.app.producer_or_acquire() as producer:
            for event in events:
                self.app.send_task(
                    self.topic,
                    [event.decode()],
                    task_id=json.loads(event)["id"],
                    producer=producer,
                    ignore_result=True,
                )

    def publish(self, body: bytes, **message: Any) -> None:
        """Send bytes that may be no task at all to the workers' queue."""
        queue = self.app.amqp.queues["tasks"]
        with self.app.producer_or_acquire() as producer:
            producer.publish(body, exchange="", routing_key=queue.name, declare=[queue], **message)

    def waiting(self) -> int:
        """Messages in the queue."""
        with Connection(self.broker_url, transport_options=self.app.conf.broker_transport_options) as link:
            channel: Any = link.default_channel
            if self.uses_redis:  # where kombu looks for a queue without the prefix of its keys
                return int(channel._size("tasks"))
            return int(channel.queue_declare("tasks", passive=True).message_count)

    def held(self) -> int:
        """On Redis: messages in the hands of workers."""
        with Connection(self.broker_url, transport_options=self.app.conf.broker_transport_options) as link:
            channel: Any = link.default_channel
            return int(channel.client.hlen(channel.unacked_key))

    def left(self) -> int:
        return self.waiting() + (self.held() if self.uses_redis else 0)

    async def letters(self) -> list[Dead]:
        """The dead letters, oldest first."""
        rows = await self.sql("SELECT * FROM dead_letter ORDER BY buried_at")
        return [Dead(row["body"], row["reason"], row["attempts"], {}) for row in rows]

    def close(self) -> None:
        super().close()
        self.app.close()
