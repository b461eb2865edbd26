"""What reaches a Celery worker and is no message of ours is kept and can be sent again; retries behave."""

import pickle
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.core import celery_letters, dead_letter_table
from app.core.celery_letters import dead_letters
from app.core.dead_letters import Letter
from support.celery_scene import CeleryScene
from support.producer import Sessions, sessions_for
from support.wait import eventually

PICKLE = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}


@pytest.fixture
async def sessions(tasks: CeleryScene, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sessions]:
    """Sessions for the dead letters of this tasks."""
    async with sessions_for(tasks.postgres_url) as sessions:
        monkeypatch.setattr(dead_letter_table, "get_session", sessions.begin)
        monkeypatch.setattr(celery_letters, "celery_app", tasks.app)
        yield sessions


def header(tasks: CeleryScene, id_: str) -> dict[str, Any]:
    """What makes Celery take a message for a task that it knows."""
    return {"headers": {"lang": "py", "task": tasks.topic, "id": id_}}


async def letters_of(source: str) -> list[Letter]:
    """The dead letters of a task."""
    return [letter async for page in dead_letters(source).pages() for letter in page]


@pytest.mark.parametrize("tasks", ["redis"], indirect=True)
async def test_what_nobody_understands_is_kept_and_can_be_sent_again(
    tasks: CeleryScene, sessions: Sessions
) -> None:
    # Given a worker, and messages that no task of it can do anything with
    worker = tasks.celery()
    future, good = await tasks.orders(2)
    event = tasks.event(future).decode()
    pickled = pickle.dumps(((event,), {}, {}))
    tasks.app.send_task("shop.future", [event], task_id="unknown-task")
    tasks.publish(pickled, **PICKLE, **header(tasks, "pickled"))
    tasks.publish(b"{", **JSON, **header(tasks, "broken"))
    tasks.publish(b"null", **JSON, **header(tasks, "null"))
    tasks.publish(b"[[1, 2], {}, {}]", **JSON, **header(tasks, "arguments"))
    tasks.publish(b'{"hello": 1}', **JSON)
    tasks.app.send_task(tasks.topic, [event], {"colour": "blue"}, task_id="keyword")
    version = str(uuid.uuid4())
    tasks.send_raw(tasks.event(good, id_=version, type_="shop.work.v9"))
    # When the worker gets them, and a good one at the end
    tasks.send([good])
    await tasks.until_processed([good])

    async def eight() -> bool:
        return len(await tasks.letters()) == 8

    await eventually(eight, 60, "all are kept")
    # Then each is kept with its reason, the bytes as they came
    found = {str(letter.properties["message_id"]): letter for letter in await letters_of(tasks.topic)}
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
    await eventually(lambda: tasks.left() == 0, 60)
    # When a version is deployed that has the task, and its letter is replayed
    worker.kill9()
    tasks.celery(FAULTY_FUTURE="1")
    assert await dead_letters("shop.future").replay([unknown]) == [None]
    # Then it is done; what is still not understood comes back as the same letter
    await tasks.until_processed([future])
    assert await dead_letters(tasks.topic).replay([found[version], found["pickled"]]) == [None, None]
    tasks.worker("celery_relay")

    async def back() -> bool:
        again = {letter.id: letter for letter in await letters_of(tasks.topic)}
        return all(
            found[name].id in again and again[found[name].id].at != found[name].at
            for name in (version, "pickled")
        )

    await eventually(back, 60, "both come back")
    assert await letters_of("shop.future") == []
    # And what is dropped is gone, and an exported letter can be added again
    rest = await letters_of(tasks.topic)
    await dead_letters(tasks.topic).drop(rest)
    assert await letters_of(tasks.topic) == []
    assert await dead_letters(tasks.topic).add(rest) == [None] * 6
    assert {letter.id for letter in await letters_of(tasks.topic)} == {letter.id for letter in rest}
    tasks.accepted.append(future)
    (await tasks.ledger(f"Celery, {tasks.kind}: refused messages kept and replayed")).assert_clean()


async def test_retries_wait_as_long_as_they_are_told_and_no_longer(tasks: CeleryScene) -> None:
    # Given a provider that asks for four seconds, longer than Celery may hold a message in this tasks, one
    # that fails twice for each of thirty tasks, and tasks with nothing wrong
    tasks.limits |= {"WORKER_HANDLER_TIMEOUT_SECONDS": "20", "CELERY_SOFT_TIME_LIMIT_SECONDS": "22"}
    tasks.limits |= {"CELERY_TIME_LIMIT_SECONDS": "24", "CELERY_VISIBILITY_TIMEOUT_SECONDS": "50"}
    tasks.celery()
    patient, *flapping = await tasks.orders(31)
    began = time.monotonic()
    tasks.send([patient], do="later", seconds=4, times=1)
    tasks.send(flapping, do="flap", times=2)
    well = tasks.send(await tasks.orders(20))
    # Then nothing waits behind the retries, which come with a pause and as often as needed
    await tasks.until_processed(well, 60)
    await tasks.until_processed(flapping, 60)
    await tasks.until_processed([patient], 60)
    assert time.monotonic() - began >= 4
    starts = tasks.starts()
    assert [delivery for order, delivery, _ in starts if order == patient] == [1, 2]
    assert len([order for order, _, _ in starts if order in flapping]) == 90
    (await tasks.ledger(f"Celery, {tasks.kind}: 31 tasks retried")).assert_clean()


@pytest.mark.parametrize("tasks", ["redis"], indirect=True)
async def test_two_copies_at_once_are_done_once(tasks: CeleryScene) -> None:
    # Given each message twice, next to each other, for two processes
    tasks.celery()
    orders = await tasks.orders(60)
    for order in orders:
        tasks.put([event := tasks.event(order), event])
    tasks.accepted += orders
    # Then each is done once
    await tasks.until_processed(orders)
    await eventually(lambda: tasks.left() == 0, 60)
    (await tasks.ledger(f"Celery, {tasks.kind}: every message twice")).assert_clean()
