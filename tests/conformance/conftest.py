"""The same tests for every broker: one more consumer only adds its scene here."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from support.scene import RabbitScene, RedisScene, Scene
from support.servers import RabbitServer, RedisServer

SceneMaker = Callable[[str], Scene]
BROKERS = ("redis", "rabbitmq")


@pytest.fixture(params=BROKERS)
def make_scene(request: pytest.FixtureRequest) -> Iterator[SceneMaker]:
    """Makes a scene with a database and the broker whose turn it is; the broker stays well."""
    with ExitStack() as ending:

        def make(database: str) -> Scene:
            scene: Scene
            if request.param == "redis":
                server: RedisServer = request.getfixturevalue("redis_server")
                server.flush()
                scene = RedisScene(database, server.url)
            else:
                rabbit: RabbitServer = request.getfixturevalue("rabbit")
                scene = RabbitScene(database, rabbit)
            return ending.enter_context(scene)

        yield make


@pytest.fixture
def scene(make_scene: SceneMaker, postgres_url: str) -> Scene:
    """Servers that stay well; the workers are what breaks."""
    return make_scene(postgres_url)


@pytest.fixture
def scene_own_postgres(make_scene: SceneMaker, own_postgres_url: str) -> Scene:
    """A PostgreSQL of the scene's own, to break."""
    return make_scene(own_postgres_url)
