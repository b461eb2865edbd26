"""The plain task without a worker: what a delivery is, and how it is sent again."""

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import celery_task
from app.core.celery_app import ROUTES, celery_app
from app.core.celery_settings import celery_settings
from app.core.celery_task import Arrival, arrived, plain_task, settle
from app.core.consumer import Consumer, on
from app.core.envelope import Message
from app.core.outcomes import Dead, Done, Down, Outcome, Postpone, RefusedToStartError, Retry

REQUEST = SimpleNamespace(id="7", delivery_info={"redelivered": True})


def test_a_delivery_says_how_often_it_was_tried() -> None:
    found = arrived("t", REQUEST, ["{}"], {"attempt": 3, "not_before": 5.5})
    assert found == Arrival("t", "7", "{}", 3, 5.5, redelivered=True)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ([], {}),
        ([{"id": 1}], {}),
        (["{}", "{}"], {}),
        (["{}"], {"colour": "blue"}),
        (["{}"], {"attempt": "3"}),
        (["{}"], {"not_before": None}),
        (["{}"], {"not_before": math.inf}),
        (["{}"], {"attempt": -1_000_000}),
        (["{}"], {"attempt": 10**12}),
        (["\ud800"], {}),
    ],
)
def test_other_arguments_are_none_of_ours(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert arrived("t", REQUEST, args, kwargs) is None


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is sent again."""
    found: list[dict[str, Any]] = []

    def put(task: str, args: list[str], **options: Any) -> None:
        found.append({"task": task, "args": args, **options, **options["kwargs"]})

    monkeypatch.setattr(celery_task, "put", put)
    return found


@pytest.mark.parametrize(
    ("outcome", "attempt"), [(Retry("busy", 3), 3), (Postpone("later", 3), 2), (Down("database"), 2)]
)
def test_only_a_failure_uses_up_an_attempt(
    outcome: Outcome, attempt: int, sent: list[dict[str, Any]]
) -> None:
    settle(Arrival("t", "7", "{}", 2), outcome, 2)
    (again,) = sent
    assert again["attempt"] == attempt
    assert (again["task"], again["args"], again["task_id"]) == ("t", ["{}"], "7")


@pytest.mark.parametrize("outcome", [Done(), Dead("no")])
def test_what_is_over_is_not_sent_again(outcome: Outcome, sent: list[dict[str, Any]]) -> None:
    settle(Arrival("t", "7", "{}"), outcome, 1)
    assert sent == []


def test_a_pause_longer_than_the_broker_may_hold_it_is_kept_all_the_same(sent: list[dict[str, Any]]) -> None:
    settle(Arrival("t", "7", "{}"), Postpone("an hour", 3600), 1)
    (again,) = sent
    assert again["countdown"] == math.ceil(celery_settings().longest_countdown)
    assert again["not_before"] == pytest.approx(time.time() + 3600, abs=5)


def test_a_short_pause_is_a_whole_second_as_rabbitmq_needs(sent: list[dict[str, Any]]) -> None:
    settle(Arrival("t", "7", "{}"), Postpone("a moment", 0.2), 1)
    assert sent[0]["countdown"] == 1


def test_a_task_that_comes_back_at_once_counts_its_starts_and_has_a_queue_that_exists() -> None:
    consumer = Consumer("n", "core.test", (on("core.test.v1", BaseModel, nothing),))
    with pytest.raises(RefusedToStartError, match="queue slow is not in CELERY_QUEUES"):
        plain_task(consumer, queue="slow")
    task: Any = plain_task(consumer, queue="tasks")
    try:
        assert task.name == "core.test"
        assert celery_app.amqp.router.route({}, "core.test")["queue"].name == "tasks"
        assert ROUTES == {"core.test": "tasks"}
        assert (task.acks_late, task.reject_on_worker_lost, task.retry_on_worker_lost) == (True, True, False)
        assert (task.acks_on_timeout, task.max_retries) == (False, None)
    finally:
        celery_app.tasks.unregister("core.test")
        ROUTES.clear()


async def nothing(message: Message[BaseModel], session: AsyncSession) -> None:
    """Handle nothing."""
