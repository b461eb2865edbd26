"""Fixtures that every test may use: real servers, and databases that start from the newest schema."""

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import forked, ports, schema
from support.servers import PostgresServer, RabbitServer, RedisServer

pytest_plugins = ["support.scenes", "support.spread", "support.strictness"]

SHOP_DATABASE = "shop"

_numbers = itertools.count(1)

# Compiled modules are kept whatever the environment says: several hundred processes start in a run, and each
# would compile its libraries again, at 2 s of CPU.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    return ports.free_port()


@pytest.fixture(scope="session")
def shop_cluster() -> Iterator[Path]:
    """Data folder of a PostgreSQL that holds the database `shop` with every table; a source to copy."""
    forked.prepare()
    server = PostgresServer()
    with server:
        schema.build(server.create_database(SHOP_DATABASE))
        server.stop()
        yield server.data


@pytest.fixture(scope="session")
def postgres(shop_cluster: Path) -> Iterator[PostgresServer]:
    """The PostgreSQL that all tests share: neither kill it nor pause it, use `own_postgres` for that."""
    with PostgresServer(cluster=shop_cluster) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """SQLAlchemy URL (asyncpg) of a fresh database with the shop's and the workers' tables."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name, template=SHOP_DATABASE)
    postgres.drop_database(name)


@pytest.fixture
def other_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """Another database like that of `postgres_url`."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name, template=SHOP_DATABASE)
    postgres.drop_database(name)


@pytest.fixture
def own_postgres(shop_cluster: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone, to kill and pause; its database `shop` has every table."""
    with PostgresServer(cluster=shop_cluster) as server:
        yield server


@pytest.fixture
def own_postgres_url(own_postgres: PostgresServer) -> str:
    """SQLAlchemy URL (asyncpg) of the database `shop` in `own_postgres`."""
    return own_postgres.database_url(SHOP_DATABASE)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The Redis that all tests share; it writes nothing to disk."""
    with RedisServer(appendonly=False) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of the shared Redis, emptied before this test."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis for this test alone; it keeps what it confirmed over kill and restart."""
    with RedisServer(appendonly=True) as server:
        yield server


@pytest.fixture(scope="session")
def rabbit() -> Iterator[RabbitServer]:
    """The RabbitMQ that all tests share. A test may kill or restart it when it has it running at its end."""
    with RabbitServer() as server:
        yield server


@pytest.fixture
def rabbit_url(rabbit: RabbitServer) -> str:
    """AMQP URL of an empty virtual host in the shared RabbitMQ."""
    return rabbit.create_vhost(f"test_{next(_numbers)}")


@pytest.fixture
def own_rabbit() -> Iterator[RabbitServer]:
    """A RabbitMQ for this test alone; its start takes about ten seconds."""
    with RabbitServer() as server:
        yield server
