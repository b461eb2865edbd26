"""Scenes for the fault tests."""

from collections.abc import Iterator

import pytest

from support.scene import Scene
from support.servers import RedisServer


@pytest.fixture
def scene(postgres_url: str, redis_url: str) -> Iterator[Scene]:
    """Servers that stay well; the workers are what breaks."""
    with Scene(postgres_url, redis_url) as scene:
        yield scene


@pytest.fixture
def scene_own_redis(postgres_url: str, own_redis: RedisServer) -> Iterator[Scene]:
    """A Redis of the scene's own, to break."""
    with Scene(postgres_url, own_redis.url) as scene:
        yield scene


@pytest.fixture
def scene_own_postgres(own_postgres_url: str, redis_url: str) -> Iterator[Scene]:
    """A PostgreSQL of the scene's own, to break."""
    with Scene(own_postgres_url, redis_url) as scene:
        yield scene
