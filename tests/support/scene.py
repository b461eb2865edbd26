"""One fault test's world: a shop with orders, a broker, workers, and what became of it all."""

import json
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import asyncpg
import redis

from app.core.rabbit_topology import SHORTEST_PAUSE, Queue, pause_for
from app.core.stream_scripts import PARKED
from support import reaper
from support.amqp import Amqp
from support.ledger import Ledger
from support.servers import RabbitServer
from support.wait import eventually
from support.workers import IMPORT_PATH, ROOT, WorkerProcess

FAULTY = ROOT / "tests" / "faulty"
SOURCE = "/tests"
QUICK = {
    "WORKER_LEASE_SECONDS": "3",
    "WORKER_HEARTBEAT_SECONDS": "1",
    "WORKER_RETRY_BASE_SECONDS": "0.2",
    "WORKER_RETRY_CAP_SECONDS": "2",
    "WORKER_DRAIN_SECONDS": "2",
    "WORKER_MAX_DELIVERIES": "5",
}


@dataclass(frozen=True)
class Dead:
    """A dead letter."""

    event: bytes
    reason: str
    deliveries: int
    fields: Mapping[str, bytes]


@dataclass
class Scene:
    """Orders in a database, messages in a broker, and workers that are killed when the scene ends.

    `postgres_url` leads to the server; workers may be sent through a proxy by `worker(env=…)`. `topic` and
    `group` are those of the consumer under test. What depends on the broker is in the subclasses.
    """

    broker: ClassVar[str]
    postgres_url: str
    topic: str = field(default="shop.work", kw_only=True)
    group: str = field(default="faulty", kw_only=True)
    settings: dict[str, str] = field(default_factory=lambda: dict(QUICK), kw_only=True)
    workers: list[WorkerProcess] = field(default_factory=list, kw_only=True)

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="scene-"))
        reaper.watch_folder(self.folder)
        self.accepted: list[int] = []

    # -- the broker --------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """How a worker finds the broker."""
        raise NotImplementedError

    def put(self, events: Iterable[bytes]) -> None:
        """Send messages as they are."""
        raise NotImplementedError

    def waiting(self) -> int:
        """Messages that wait for a retry."""
        raise NotImplementedError

    def held(self) -> int:
        """Messages in the hands of workers."""
        raise NotImplementedError

    def left(self) -> int:
        """Messages that are not settled: waiting, in hand, or unread. 0 when all is done."""
        raise NotImplementedError

    def dead(self) -> list[Dead]:
        """The dead letters."""
        raise NotImplementedError

    # -- workers -----------------------------------------------------------------------------------------

    def worker(self, name: str = "faulty", **env: str) -> WorkerProcess:
        """Start a worker against this scene's servers; `env` overrides settings."""
        settings = {
            "DATABASE_URL": self.postgres_url,
            "DB_POOL_SIZE": "12",
            "FAULTY_FOLDER": str(self.folder),
            "FAULTY_BROKER": self.broker,
            **self.environment(),
            **self.settings,
            **env,
        }
        process = WorkerProcess(name, settings, import_path=[FAULTY, *IMPORT_PATH]).start()
        self.workers.append(process)
        return process

    def release(self) -> None:
        """Let handlers go on that wait for it."""
        (self.folder / "release").touch()

    def starts(self) -> list[tuple[int, int, int]]:
        """Order, delivery and process id of each start of a handler."""
        file = self.folder / "starts"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in lines)]

    # -- the shop ----------------------------------------------------------------------------------------

    async def sql(self, statement: str, *args: object) -> list[asyncpg.Record]:
        """Run one statement in the shop's database."""
        url = self.postgres_url.replace("+asyncpg", "")
        connection = await asyncpg.connect(url, timeout=10)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *args)
            return rows
        finally:
            await connection.close(timeout=5)

    async def orders(self, count: int) -> list[int]:
        """Place orders; their ids."""
        await self.sql(
            "INSERT INTO customer (id, name, email)"
            " VALUES (1, 'Ada', 'ada@example.org') ON CONFLICT DO NOTHING"
        )
        rows = await self.sql(
            "INSERT INTO customer_order (customer_id, status, total_cents)"
            " SELECT 1, 'placed', 100 FROM generate_series(1, $1) RETURNING id",
            count,
        )
        return [row["id"] for row in rows]

    async def effects(self, kind: str = "processed") -> list[int]:
        """The orders that were processed, an order as many times as it was."""
        rows = await self.sql("SELECT order_id FROM order_event WHERE kind = $1", kind)
        return [row["order_id"] for row in rows]

    async def until_processed(self, orders: Iterable[int], deadline_s: float = 60) -> None:
        """Wait until every one of `orders` has been processed."""
        wanted = set(orders)

        async def missing() -> bool:
            return wanted <= set(await self.effects())

        await eventually(missing, deadline_s, f"{len(wanted)} orders are processed", ignore=(OSError,))

    # -- messages ----------------------------------------------------------------------------------------

    def event(
        self, order_id: int, *, id_: str | None = None, type_: str = "shop.work.v1", **data: Any
    ) -> bytes:
        """A message about an order."""
        return json.dumps(
            {
                "specversion": "1.0",
                "id": id_ or str(uuid.uuid4()),
                "source": SOURCE,
                "type": type_,
                "data": {"order_id": order_id, **data},
            }
        ).encode()

    def send(self, orders: Iterable[int], **data: Any) -> list[int]:
        """Add a message for each order; the orders, which now are accepted."""
        chosen = list(orders)
        self.put(self.event(order_id, **data) for order_id in chosen)
        self.accepted += chosen
        return chosen

    def send_raw(self, event: bytes) -> None:
        """Add a message as it is."""
        self.put([event])

    # -- the account -------------------------------------------------------------------------------------

    async def ledger(
        self, name: str, *, attempted: Iterable[int] | None = None, kind: str = "processed"
    ) -> Ledger:
        """The account of all that was sent; starts beyond the first of an order count as recovered."""
        starts = Counter(order for order, _, _ in self.starts())
        effects = await self.effects(kind)
        again = {order for order, count in starts.items() if count > 1} & set(effects)
        return Ledger.of(
            name,
            attempted=self.accepted if attempted is None else attempted,
            accepted=self.accepted,
            effects=effects,
            recovered=len(again),
        )

    def close(self) -> None:
        """Kill the workers and remove the folder."""
        for worker in self.workers:
            worker.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class RedisScene(Scene):
    """Messages in a Redis stream."""

    broker: ClassVar[str] = "redis"
    redis_url: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.redis: Any = redis.Redis.from_url(self.redis_url, socket_timeout=10)

    def environment(self) -> dict[str, str]:
        return {"REDIS_URL": self.redis_url}

    def put(self, events: Iterable[bytes]) -> None:
        for chunk in batched(events, 500):
            pipe = self.redis.pipeline(transaction=False)
            for event in chunk:
                pipe.xadd(self.topic, {"event": event})
            pipe.execute()

    def pending(self) -> list[dict[str, Any]]:
        """Entries that are in somebody's hands or wait for a retry."""
        if not self.redis.exists(self.topic):
            return []
        return list(self.redis.xpending_range(self.topic, self.group, "-", "+", 10_000))

    def parked(self) -> list[dict[str, Any]]:
        """Entries that wait for a retry."""
        return [entry for entry in self.pending() if entry["consumer"] == PARKED.encode()]

    def waiting(self) -> int:
        return len(self.parked())

    def held(self) -> int:
        return len(self.pending()) - len(self.parked())

    def left(self) -> int:
        (group,) = self.redis.xinfo_groups(self.topic)
        unread = self.redis.xrange(self.topic, min=b"(" + group["last-delivered-id"])
        return len(unread) + int(group["pending"])

    def dead(self) -> list[Dead]:
        letters = []
        for _, fields in self.redis.xrange(f"{{{self.topic}}}:dead:{self.group}"):
            named = {key.decode(): value for key, value in fields.items()}
            letters.append(
                Dead(
                    named.get("event", b""),
                    named["dead.reason"].decode(),
                    int(named["dead.deliveries"]),
                    named,
                )
            )
        return letters

    def close(self) -> None:
        super().close()
        self.redis.close()


@dataclass
class RabbitScene(Scene):
    """Messages in a RabbitMQ queue. What an earlier scene left in the virtual host is deleted first."""

    broker: ClassVar[str] = "rabbitmq"
    server: RabbitServer
    exchange: str = "events"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.amqp = Amqp(self.server.url)
        self._letters: list[Dead] = []
        queue = self.queue
        self.amqp.delete(queue.name, queue.dead, *self.pauses())

    @property
    def queue(self) -> Queue:
        """The queue of the consumer under test."""
        return Queue(self.group, self.topic, self.exchange)

    def pauses(self) -> list[str]:
        """The queues in which retries wait."""
        lengths = [SHORTEST_PAUSE * 2**n for n in range(12)]
        return [pause_for(self.exchange, seconds).name for seconds in lengths]

    def environment(self) -> dict[str, str]:
        return {"RABBITMQ_URL": self.server.url, "RABBITMQ_EXCHANGE": self.exchange}

    def put(self, events: Iterable[bytes]) -> None:
        """Send; before the first worker has made the queue, it is made here, as it would be."""
        if not self.amqp.exists(self.queue.name):
            self.amqp.prepare(self.queue)
        for chunk in batched(events, 2000):
            self.amqp.publish(self.exchange, self.topic, chunk)

    def waiting(self) -> int:
        return sum(self.amqp.ready(name) for name in self.pauses())

    def _counts(self) -> dict[str, tuple[int, int]]:
        """Ready and unacknowledged messages of each queue."""
        columns = ("name", "messages_ready", "messages_unacknowledged")
        lines = self.server.rabbitmqctl("list_queues", "--no-table-headers", *columns).splitlines()
        return {name: (int(ready), int(held)) for name, ready, held in (line.split("\t") for line in lines)}

    def held(self) -> int:
        return self._counts().get(self.queue.name, (0, 0))[1]

    def left(self) -> int:
        counts = self._counts()
        return sum(sum(counts.get(name, (0, 0))) for name in (self.queue.name, *self.pauses()))

    def dead(self) -> list[Dead]:
        for letter in self.amqp.take(self.queue.dead):
            headers = {name: str(value).encode() for name, value in letter.headers.items()}
            deliveries = int(str(letter.headers.get("dead-deliveries", 0)))
            reason = str(letter.headers.get("dead-reason", ""))
            self._letters.append(Dead(letter.body, reason, deliveries, {"event": letter.body, **headers}))
        return list(self._letters)

    def close(self) -> None:
        super().close()
        self.amqp.close()


def batched(items: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """Lists of up to `size` items."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
