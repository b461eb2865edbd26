"""Scenes for the fault tests."""

from collections.abc import Iterator

import pytest

from support.celery_scene import CeleryScene
from support.cron_scene import CronScene
from support.scene import RedisScene
from support.servers import RabbitServer, RedisServer


@pytest.fixture
def scene(postgres_url: str, redis_url: str) -> Iterator[RedisScene]:
    """Servers that stay well; the workers are what breaks."""
    with RedisScene(postgres_url, redis_url) as scene:
        yield scene


@pytest.fixture
def scene_own_redis(postgres_url: str, own_redis: RedisServer) -> Iterator[RedisScene]:
    """A Redis of the scene's own, to break."""
    with RedisScene(postgres_url, own_redis.url) as scene:
        yield scene


@pytest.fixture
def scene_own_postgres(own_postgres_url: str, redis_url: str) -> Iterator[RedisScene]:
    """A PostgreSQL of the scene's own, to break."""
    with RedisScene(own_postgres_url, redis_url) as scene:
        yield scene


@pytest.fixture(scope="module")
def breakable() -> Iterator[RabbitServer]:
    """A RabbitMQ for the tests of a module; each leaves it running."""
    with RabbitServer() as server:
        yield server


@pytest.fixture
def cron(postgres_url: str) -> Iterator[CronScene]:
    """Schedulers and a database that stays well."""
    with CronScene(postgres_url) as scene:
        yield scene


@pytest.fixture
def cron_own_postgres(own_postgres_url: str) -> Iterator[CronScene]:
    """Schedulers and a PostgreSQL of their own, to break."""
    with CronScene(own_postgres_url) as scene:
        yield scene


@pytest.fixture(params=["redis", "rabbitmq"])
def tasks(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[CeleryScene]:
    """Celery over a broker that stays well: each of them in turn."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.flush()
        url = server.url
    else:
        url = request.getfixturevalue("rabbit_url")
    with CeleryScene(postgres_url, url) as scene:
        yield scene
