"""Faults that the consumer `order_paid` has to survive in this project.

Worker processes run as in production: settings, session helper, models and handler are the project's. Only
the service method is replaced, by one that writes a row in the same transaction (see replica.py), so no
domain data is needed. What the method itself does belongs into a test of its own.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

BROKER = "redis"
WORKER = "order_paid"
CALLS = "app.services.orders:OrderService.mark_paid"
# None: made up from the types of the payload. Set it where the types do not say what fits.
PAYLOAD: dict[str, Any] | None = None


@pytest.fixture(scope="module")
def lab(labs: Any) -> Any:
    return labs.of("consumer_kit", BROKER, WORKER, CALLS, PAYLOAD)


def test_one_message_has_one_effect(lab: Any) -> None:
    # Given two workers
    lab.running(2)

    # When a message comes
    message = lab.send_new()

    # Then its effect is committed once
    lab.wait_done(message)
    lab.account("one message", [message], lab.done())


def test_same_message_in_two_workers_at_once_has_one_effect(lab: Any) -> None:
    # Given a message that was sent twice, and two workers that have one copy each
    lab.running(2)
    message, raw = lab.message()
    lab.hold()
    lab.send(raw)
    lab.send(raw)
    lab.in_the_middle_of(message)
    lab.wait_for(lambda: lab.taken(2), "both workers have a copy")

    # When they go on
    lab.release()

    # Then the effect is there once
    lab.wait_done(message)
    lab.account("the same message at once", [message], lab.done())


def test_messages_that_do_not_fit_are_set_aside_and_the_worker_goes_on(lab: Any) -> None:
    # Given bytes that are no JSON, a payload that does not fit, and a version that nobody knows
    lab.running(2)
    fitting = [name for name in lab.payload if name not in lab.required[:1]]
    incomplete = {name: lab.payload[name] for name in fitting} if lab.required else "no object"
    bad = [
        b"{not json",
        lab.message(data=incomplete)[1],
        lab.message(type=lab.type.rpartition(".v")[0] + ".v999999")[1],
    ]

    # When they come before a good message
    for raw in bad:
        lab.send(raw)
    good = lab.send_new()
    lab.wait_done(good)

    # Then they are kept byte for byte, each with its reason, and the good one is done
    dead = dict(lab.dead())
    assert set(bad) <= dead.keys()
    assert all(dead[raw] for raw in bad)
    assert "v999999" in dead[bad[2]]
    lab.account("messages that do not fit", [good, *map(str, bad)], lab.done(), set_aside=len(bad))


def test_failure_that_passes_is_retried(lab: Any) -> None:
    # Given an outside service that fails twice
    lab.running(2)
    lab.fail_first(2)

    # When a message comes
    message = lab.send_new()
    lab.wait_done(message)

    # Then the third attempt has the effect
    assert [begun for _, begun in lab.begun()].count(message) == 3
    lab.account("failure that passes", [message], lab.done())


def test_worker_killed_in_the_middle_is_replaced_by_another(lab: Any) -> None:
    # Given a worker in the middle of a message
    lab.running(2)
    lab.hold()
    message = lab.send_new()
    worker = lab.in_the_middle_of(message)

    # When it is killed
    worker.end(signal.SIGKILL)
    lab.release()

    # Then another one finishes as soon as it is missed
    lab.wait_done(message)
    lab.account("worker killed", [message], lab.done())


def test_worker_told_to_stop_in_the_middle_hands_back(lab: Any) -> None:
    # Given a worker in the middle of a message that takes longer than the drain time
    lab.running(2)
    lab.hold()
    message = lab.send_new()
    worker = lab.in_the_middle_of(message)

    # When it is told to stop
    code = worker.end(signal.SIGTERM)

    # Then it ends in order, holds nothing any more, and another one finishes
    assert code == 0
    assert not lab.holds(worker)
    lab.release()
    lab.wait_done(message)
    lab.account("worker told to stop", [message], lab.done())


def test_what_is_done_is_acknowledged(lab: Any) -> None:
    # Given messages that are done
    workers = lab.running(2)
    messages = [lab.send_new() for _ in range(3)]
    lab.wait_done(*messages)

    # When all workers stop, and what they held is given back
    codes = [worker.end(signal.SIGTERM) for worker in workers]

    # Then nothing comes back
    assert codes == [0, 0]
    lab.wait_for(lab.finished, "nothing is left for others")
    lab.account("all acknowledged", messages, lab.done())
