"""The servers that a run has for itself, and databases that start alike."""

from __future__ import annotations

import itertools
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil

from support import schema
from support.amqp import Amqp
from support.servers import PostgresServer, RabbitServer, RedisServer

SHOP = "shop"
ORDERS = """
INSERT INTO customer_order (customer_id, status, total_cents)
SELECT 1, 'placed', 100 FROM generate_series(1, {count})
"""
# No fsync and no persistence: a disk is slower than everything measured here and would hide the differences.
# No autovacuum: it would hit one contestant and not the other; tables are vacuumed when they are filled.
POSTGRES = {"shared_buffers": "512MB", "max_wal_size": "8GB", "autovacuum": "off"}


# All queues that contestants make.
QUEUES = ("bench", "bench.dead", "bench.DQ", "bench.XQ", "taskiq.dead_letter")


class Stage:
    """A Redis and a PostgreSQL of our own on free ports, and a RabbitMQ where one is asked for."""

    def __init__(self, *, rabbit: bool = False) -> None:
        self.redis = RedisServer(appendonly=False)
        self.postgres = PostgresServer(options=POSTGRES)
        self.rabbit = RabbitServer() if rabbit else None
        self._amqp: Amqp | None = None
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        try:
            self.redis.start()
            self.postgres.start()
            if self.rabbit is not None:
                self.rabbit.start()
                self._amqp = Amqp(self.rabbit.url)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the servers and remove their data."""
        if self._amqp is not None:
            self._amqp.close()
        if self.rabbit is not None:
            self.rabbit.close()
        self.postgres.close()
        self.redis.close()

    def build(self, orders: int) -> None:
        """Make the database that all others are copies of, with `orders` orders to process."""
        schema.build(self.postgres.create_database(SHOP))
        self.sql("INSERT INTO customer (name, email) VALUES ('Bench', 'bench@example.com')", SHOP)
        self.sql(ORDERS.format(count=orders), SHOP)
        self.sql("VACUUM ANALYZE", SHOP)

    def database(self) -> str:
        """Name of a new copy of the shop's database."""
        name = f"run_{next(self._numbers)}"
        self.postgres.create_database(name, template=SHOP)
        return name

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        return self.postgres.database_url(database)

    def drop(self, database: str) -> None:
        """Remove a copy."""
        self.postgres.drop_database(database)

    def sql(self, statement: str, database: str) -> list[tuple[object, ...]]:
        """Run one statement; its rows."""
        return [tuple(row) for row in self.postgres.execute_sync(statement, database)]

    def count(self, table: str, database: str) -> int:
        """Rows of a table."""
        return int(str(self.sql(f"SELECT count(*) FROM {table}", database)[0][0]))  # noqa: S608

    @property
    def rabbit_url(self) -> str:
        """AMQP URL of the RabbitMQ; empty without one."""
        return self.rabbit.url if self.rabbit is not None else ""

    def empty_rabbit(self) -> None:
        """Delete the queues of whoever was there before."""
        if self._amqp is not None:
            self._amqp.delete(*QUEUES)

    def cpu_seconds(self) -> float:
        """Processor time that the servers have used, ended sessions included."""
        servers = (self.redis, self.postgres, *([self.rabbit] if self.rabbit is not None else []))
        return sum(_tree_cpu_seconds(server.pid) for server in servers)


def _tree_cpu_seconds(pid: int) -> float:
    main = psutil.Process(pid)
    times = main.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in main.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system
    return total
