"""pytest plugin: scenes of the tests that run once for each broker. One more broker adds its scene here."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.scene import RabbitScene, RedisScene, Scene
from support.servers import RedisServer

BROKERS = ("redis", "rabbitmq")


class SceneMaker:
    """Makes scenes with the broker whose turn it is; the broker stays well."""

    def __init__(self, request: pytest.FixtureRequest, ending: ExitStack) -> None:
        self._request, self._ending = request, ending

    def __call__(
        self,
        database: str,
        rabbit_scene: type[RabbitScene] = RabbitScene,
        *,
        topic: str = "shop.work",
        group: str = "faulty",
    ) -> Scene:
        """A scene for a consumer: by default the plain one."""
        scene: Scene
        if self._request.param == "redis":
            server: RedisServer = self._request.getfixturevalue("redis_server")
            server.flush()
            scene = RedisScene(database, server.url, topic=topic, group=group)
        else:
            rabbit = self._request.getfixturevalue("rabbit")
            scene = rabbit_scene(database, rabbit, topic=topic, group=group)
        return self._ending.enter_context(scene)


@pytest.fixture(params=BROKERS)
def make_scene(request: pytest.FixtureRequest) -> Iterator[SceneMaker]:
    """Makes scenes, which end with the test."""
    with ExitStack() as ending:
        yield SceneMaker(request, ending)
