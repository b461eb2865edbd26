"""What reaches a Celery worker and is no message of ours is kept and can be sent again; retries behave."""

import pickle
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from app.core import celery_letters, dead_letter_table
from app.core.celery_letters import dead_letters
from app.core.dead_letters import Letter
from support.celery_scene import CeleryScene
from support.producer import Sessions, sessions_for
from support.servers import RedisServer
from support.wait import eventually

PICKLE = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}


@pytest.fixture(params=["redis", "rabbitmq"])
def scene(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[CeleryScene]:
    """A broker that stays well."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.flush()
        url = server.url
    else:
        url = request.getfixturevalue("rabbit_url")
    with CeleryScene(postgres_url, url) as scene:
        yield scene


@pytest.fixture
async def sessions(scene: CeleryScene, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sessions]:
    """Sessions for the dead letters of this scene."""
    async with sessions_for(scene.postgres_url) as sessions:
        monkeypatch.setattr(dead_letter_table, "get_session", sessions.begin)
        monkeypatch.setattr(celery_letters, "celery_app", scene.app)
        yield sessions


def header(scene: CeleryScene, id_: str) -> dict[str, Any]:
    """What makes Celery take a message for a task that it knows."""
    return {"headers": {"lang": "py", "task": scene.topic, "id": id_}}


async def letters_of(source: str) -> list[Letter]:
    """The dead letters of a task."""
    return [letter async for page in dead_letters(source).pages() for letter in page]


@pytest.mark.parametrize("scene", ["redis"], indirect=True)
async def test_what_nobody_understands_is_kept_and_can_be_sent_again(
    scene: CeleryScene, sessions: Sessions
) -> None:
    # Given a worker, and messages that no task of it can do anything with
    worker = scene.celery()
    future, good = await scene.orders(2)
    event = scene.event(future).decode()
    pickled = pickle.dumps(((event,), {}, {}))
    scene.app.send_task("shop.future", [event], task_id="unknown-task")
    scene.publish(pickled, **PICKLE, **header(scene, "pickled"))
    scene.publish(b"{", **JSON, **header(scene, "broken"))
    scene.publish(b"null", **JSON, **header(scene, "null"))
    scene.publish(b"[[1, 2], {}, {}]", **JSON, **header(scene, "arguments"))
    scene.publish(b'{"hello": 1}', **JSON)
    scene.app.send_task(scene.topic, [event], {"colour": "blue"}, task_id="keyword")
    version = str(uuid.uuid4())
    scene.send_raw(scene.event(good, id_=version, type_="shop.work.v9"))
    # When the worker gets them, and a good one at the end
    scene.send([good])
    await scene.until_processed([good])

    async def eight() -> bool:
        return len(await scene.letters()) == 8

    await eventually(eight, 60, "all are kept")
    # Then each is kept with its reason, the bytes as they came
    found = {str(letter.properties["message_id"]): letter for letter in await letters_of(scene.topic)}
    assert found["pickled"].body == pickled
    assert found["broken"].body == b"{"
    assert "unknown arguments" in found["arguments"].reason
    assert "unknown arguments" in found["keyword"].reason
    assert "unknown version v9" in found[version].reason
    assert {"pickled", "broken", "null", "arguments", "keyword", version} == set(found)
    (unknown,) = await letters_of("shop.future")
    assert "unknown task" in unknown.reason
    assert len(await letters_of("celery")) == 1
    # And the worker is well, and the queue empty
    assert worker.running
    await eventually(lambda: scene.left() == 0, 60)
    # When a version is deployed that has the task, and its letter is replayed
    worker.kill9()
    scene.celery(FAULTY_FUTURE="1")
    assert await dead_letters("shop.future").replay([unknown]) == [None]
    # Then it is done; what is still not understood comes back as the same letter
    await scene.until_processed([future])
    assert await dead_letters(scene.topic).replay([found[version], found["pickled"]]) == [None, None]
    scene.worker("celery_relay")

    async def back() -> bool:
        again = {letter.id: letter for letter in await letters_of(scene.topic)}
        return all(
            found[name].id in again and again[found[name].id].at != found[name].at
            for name in (version, "pickled")
        )

    await eventually(back, 60, "both come back")
    assert await letters_of("shop.future") == []
    # And what is dropped is gone, and an exported letter can be added again
    rest = await letters_of(scene.topic)
    await dead_letters(scene.topic).drop(rest)
    assert await letters_of(scene.topic) == []
    assert await dead_letters(scene.topic).add(rest) == [None] * 6
    assert {letter.id for letter in await letters_of(scene.topic)} == {letter.id for letter in rest}
    scene.accepted.append(future)
    (await scene.ledger(f"Celery, {scene.kind}: refused messages kept and replayed")).assert_clean()


async def test_retries_wait_as_long_as_they_are_told_and_no_longer(scene: CeleryScene) -> None:
    # Given a provider that asks for four seconds, longer than Celery may hold a message in this scene, one
    # that fails twice for each of thirty tasks, and tasks with nothing wrong
    scene.limits |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "20", "CELERY_SOFT_TIME_LIMIT_SECONDS": "22"}
    scene.limits |= {"CELERY_TIME_LIMIT_SECONDS": "24", "CELERY_VISIBILITY_TIMEOUT_SECONDS": "50"}
    scene.celery()
    patient, *flapping = await scene.orders(31)
    began = time.monotonic()
    scene.send([patient], do="later", seconds=4, times=1)
    scene.send(flapping, do="flap", times=2)
    well = scene.send(await scene.orders(20))
    # Then nothing waits behind the retries, which come with a pause and as often as needed
    await scene.until_processed(well, 60)
    await scene.until_processed(flapping, 60)
    await scene.until_processed([patient], 60)
    assert time.monotonic() - began >= 4
    starts = scene.starts()
    assert [delivery for order, delivery, _ in starts if order == patient] == [1, 2]
    assert len([order for order, _, _ in starts if order in flapping]) == 90
    (await scene.ledger(f"Celery, {scene.kind}: 31 tasks retried")).assert_clean()


@pytest.mark.parametrize("scene", ["redis"], indirect=True)
async def test_two_copies_at_once_are_done_once(scene: CeleryScene) -> None:
    # Given each message twice, next to each other, for two processes
    scene.celery()
    orders = await scene.orders(60)
    for order in orders:
        scene.put([event := scene.event(order), event])
    scene.accepted += orders
    # Then each is done once
    await scene.until_processed(orders)
    await eventually(lambda: scene.left() == 0, 60)
    (await scene.ledger(f"Celery, {scene.kind}: every message twice")).assert_clean()
