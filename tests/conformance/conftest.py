"""The same tests for every broker."""

import pytest

from support.scene import Scene
from support.scenes import SceneMaker


@pytest.fixture
def scene(make_scene: SceneMaker, postgres_url: str) -> Scene:
    """Servers that stay well; the workers are what breaks."""
    return make_scene(postgres_url)


@pytest.fixture
def scene_own_postgres(make_scene: SceneMaker, own_postgres_url: str) -> Scene:
    """A PostgreSQL of the scene's own, to break."""
    return make_scene(own_postgres_url)
