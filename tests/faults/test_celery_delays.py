"""Tasks that are due later take no place in a worker."""

import pytest

from support.celery_scene import CeleryScene
from support.wait import eventually

HOUR = 3600


@pytest.mark.parametrize("tasks", ["rabbitmq"], indirect=True)
async def test_what_is_due_in_an_hour_holds_up_nothing(tasks: CeleryScene) -> None:
    # Given a worker, and more tasks that are due in an hour than it fetches at once
    worker = tasks.celery()
    await eventually(lambda: " ready." in worker.log_text(), 60)
    for order in await tasks.orders(6):
        event, id_ = tasks.event(order).decode(), f"later {order}"
        tasks.app.send_task(tasks.topic, [event], task_id=id_, countdown=HOUR, ignore_result=True)
    # When others come behind them
    orders = tasks.send(await tasks.orders(6))
    # Then these are done: quorum queues know no global prefetch, so a task that waited in the worker would
    # keep its place, and with a direct exchange RabbitMQ would not hold it back
    await tasks.until_processed(orders, 60)
    assert tasks.waiting() == 0
    (await tasks.ledger("Celery, RabbitMQ: 6 tasks due in an hour before 6 others")).assert_clean()
