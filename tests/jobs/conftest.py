"""Scenes for jobs; `get_session` of the test's process leads to the scene's database."""

from collections.abc import AsyncIterator, Iterator

import pytest

from app.core.job import KINDS
from support.batch_scene import WIRES, BatchScene, batch_scene
from support.job_scene import JobScene, scene_at
from support.servers import RedisServer


@pytest.fixture
async def jobs(postgres_url: str) -> AsyncIterator[JobScene]:
    """A database that stays well, and no broker."""
    async with scene_at(postgres_url) as scene:
        yield scene


@pytest.fixture
async def jobs_redis(postgres_url: str, own_redis: RedisServer) -> AsyncIterator[JobScene]:
    """A database that stays well, and a Redis to break."""
    async with scene_at(postgres_url, own_redis.url) as scene:
        yield scene


@pytest.fixture(autouse=True)
def known_kinds() -> Iterator[None]:
    """Kinds that a test registers are forgotten."""
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


@pytest.fixture(params=WIRES)
async def scene(jobs: JobScene, request: pytest.FixtureRequest) -> AsyncIterator[BatchScene]:
    """Batches, on the wire of each provider."""
    async with batch_scene(jobs, request.param) as scene:
        yield scene


@pytest.fixture
async def anthropic(jobs: JobScene) -> AsyncIterator[BatchScene]:
    """Batches on one wire, where both do the same."""
    async with batch_scene(jobs, "anthropic") as scene:
        yield scene
