"""Faults that the Celery task `invoice_email` has to survive in this project.

Celery's workers run as processes, as in production: settings, session helper, models and handler are the
project's. Only the service method is replaced, by one that writes a row in the same transaction (see
replica.py), so no domain data is needed. What the method itself does belongs into a test of its own.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

BROKER = "redis"
TASK = "invoice_email"
CALLS = "app.services.emails:EmailService.send"
# None: made up from the types of the payload. Set it where the types do not say what fits.
PAYLOAD: dict[str, Any] | None = None


@pytest.fixture(scope="module")
def lab(labs: Any) -> Any:
    return labs.of("celery_kit", "task", BROKER, TASK, CALLS, payload=PAYLOAD)


def test_what_is_committed_has_one_effect_and_what_is_rolled_back_none(lab: Any) -> None:
    # Given a relay, two workers, and a message of a transaction that is rolled back
    lab.start_beside("outbox_relay")
    lab.running(2)
    never = lab.enqueue("rollback")

    # When one is committed
    message = lab.enqueue()

    # Then its effect is there, once
    lab.wait_done(message)
    assert never not in lab.done()
    lab.account("a message of the outbox", [message], lab.done())


def test_same_message_in_two_workers_at_once_has_one_effect(lab: Any) -> None:
    # Given a message that was sent twice, and two workers that have one copy each
    lab.running(2)
    id_, text = lab.message()
    lab.hold()
    lab.send(text, id_)
    lab.send(text, id_)
    lab.in_the_middle_of(id_)
    lab.wait_for(lab.taken, "both workers have a copy")

    # When they go on
    lab.release()

    # Then the effect is there once
    lab.wait_done(id_)
    lab.account("the same message at once", [id_], lab.done())


def test_messages_that_do_not_fit_are_set_aside_and_the_worker_goes_on(lab: Any) -> None:
    # Given a text that is no JSON, a payload that does not fit, and a version that nobody knows
    lab.running(2)
    fitting = [name for name in lab.payload if name not in lab.required[:1]]
    incomplete = {name: lab.payload[name] for name in fitting} if lab.required else "no object"
    bad = [
        "{not json",
        lab.message(data=incomplete)[1],
        lab.message(type=lab.type.rpartition(".v")[0] + ".v999999")[1],
    ]

    # When they come before a good message
    for number, text in enumerate(bad):
        lab.send(text, f"bad {number}")
    good = lab.send_new()
    lab.wait_done(good)

    # Then they are kept as they came, each with its reason, and the good one is done
    dead = lab.dead()
    assert set(bad) <= dead.keys()
    assert all(dead[text] for text in bad)
    assert "v999999" in dead[bad[2]]
    lab.account("messages that do not fit", [good, *bad], lab.done(), set_aside=len(bad))


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

    # When it is killed, with the process of its task
    worker.end(signal.SIGKILL)
    lab.release()

    # Then another one finishes, as soon as the broker gives it the message
    lab.wait_done(message)
    lab.account("worker killed", [message], lab.done())


def test_worker_told_to_stop_in_the_middle_hands_back(lab: Any) -> None:
    # Given a worker in the middle of a message that takes longer than the drain time
    lab.running(2)
    lab.hold()
    message = lab.send_new()
    worker = lab.in_the_middle_of(message)

    # When it is told to stop
    worker.end(signal.SIGTERM)

    # Then another one finishes
    lab.release()
    lab.wait_done(message)
    lab.account("worker told to stop", [message], lab.done())


def test_what_is_done_is_acknowledged(lab: Any) -> None:
    # Given messages that are done
    workers = lab.running(2)
    messages = [lab.send_new() for _ in range(3)]
    lab.wait_done(*messages)

    # When all workers stop, and what they held is given back
    for worker in workers:
        worker.end(signal.SIGTERM)

    # Then nothing comes back
    lab.wait_for(lambda: lab.left() == 0, "nothing is left for others")
    lab.account("all acknowledged", messages, lab.done())
