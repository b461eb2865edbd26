"""The same tests for every broker."""

from collections.abc import Iterator

import pytest

from support.scene import RabbitScene, RedisScene, Scene
from support.scenes import SceneMaker
from support.servers import PostgresServer, RabbitServer, RedisServer

# `make test-matrix` chooses tests by the name of the broker in their parameters.
BOTH = pytest.fixture(params=["both-redis-rabbitmq"])


@pytest.fixture
def scene(make_scene: SceneMaker, postgres_url: str) -> Scene:
    """Servers that stay well; the workers are what breaks."""
    return make_scene(postgres_url)


@pytest.fixture
def scene_own_postgres(make_scene: SceneMaker, own_postgres_url: str) -> Scene:
    """A PostgreSQL of the scene's own, to break."""
    return make_scene(own_postgres_url)


@BOTH
def scenes(
    postgres_url: str, other_postgres_url: str, redis_server: RedisServer, rabbit: RabbitServer
) -> Iterator[list[Scene]]:
    """A scene for each broker, for tests that mostly wait: they wait for both at once."""
    yield from both(postgres_url, other_postgres_url, redis_server, rabbit)


@BOTH
def scenes_own_postgres(
    own_postgres: PostgresServer, own_postgres_url: str, redis_server: RedisServer, rabbit: RabbitServer
) -> Iterator[list[Scene]]:
    """The same over one PostgreSQL to break."""
    other = own_postgres.create_database("other", template="shop")
    yield from both(own_postgres_url, other, redis_server, rabbit)


def both(one: str, other: str, redis_server: RedisServer, rabbit: RabbitServer) -> Iterator[list[Scene]]:
    """The scenes, each with a database of its own."""
    redis_server.flush()
    with RedisScene(one, redis_server.url) as redis, RabbitScene(other, rabbit) as rabbitmq:
        yield [redis, rabbitmq]
