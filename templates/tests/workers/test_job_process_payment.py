"""Faults that the job `process_payment` has to survive in this project.

A dispatcher and Celery's workers run as processes, as in production: settings, session helper, models and the
job's function are the project's. Only the service method is replaced, by one that writes a row in the same
transaction (see replica.py), so no domain data is needed. What the method itself does belongs into a test of
its own.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

BROKER = "redis"
JOB = "process_payment"
CALLS = "app.services.payments:PaymentService.capture"
# None: made up from the types of the payload. Set it where the types do not say what fits.
PAYLOAD: dict[str, Any] | None = None
# The attributes of what the service returns, where the job uses it.
RETURNS: dict[str, Any] | None = None


@pytest.fixture(scope="module")
def lab(labs: Any) -> Any:
    lab = labs.of("celery_kit", "job", BROKER, JOB, CALLS, payload=PAYLOAD, returns=RETURNS)
    lab.start_beside("job_dispatcher")
    return lab


def test_what_is_committed_has_one_effect_and_what_is_rolled_back_none(lab: Any) -> None:
    # Given two workers, and a job of a transaction that is rolled back
    lab.running(2)
    never = lab.submit("rollback")

    # When one is committed
    job = lab.submit()

    # Then it succeeds at the first attempt, and the other one is not there
    lab.wait_done(job)
    assert lab.state(job) == ("succeeded", 1)
    assert lab.state(never) == ("", 0)
    lab.account("a job", [job], lab.done())


def test_same_job_sent_again_and_again_has_one_effect(lab: Any) -> None:
    # Given a worker in the middle of a job
    lab.running(2)
    lab.hold()
    job = lab.submit()
    lab.in_the_middle_of(job)

    # When Celery delivers it again, during the work and after it
    for _ in range(3):
        lab.send(job)
    lab.release()
    lab.wait_done(job)
    lab.send(job)
    lab.wait_for(lab.taken, "workers have seen all of them")

    # Then it was begun once
    assert lab.state(job) == ("succeeded", 1)
    lab.account("the same job again and again", [job], lab.done())


def test_failure_that_passes_is_retried(lab: Any) -> None:
    # Given an outside service that fails twice
    lab.running(2)
    lab.fail_first(2)

    # When a job is submitted
    job = lab.submit()
    lab.wait_done(job)

    # Then the third attempt has the effect
    assert lab.state(job) == ("succeeded", 3)
    lab.account("failure that passes", [job], lab.done())


def test_worker_killed_in_the_middle_is_replaced_by_another(lab: Any) -> None:
    # Given a worker in the middle of a job
    lab.running(2)
    lab.hold()
    job = lab.submit()
    worker = lab.in_the_middle_of(job)

    # When it is killed, with the process of its task
    worker.end(signal.SIGKILL)
    lab.release()

    # Then another one finishes the job when the lease is over
    lab.wait_done(job)
    assert lab.state(job) == ("succeeded", 2)
    lab.account("worker killed", [job], lab.done())


def test_worker_told_to_stop_in_the_middle_hands_back(lab: Any) -> None:
    # Given a worker in the middle of a job that takes longer than the drain time
    lab.running(2)
    lab.hold()
    job = lab.submit()
    worker = lab.in_the_middle_of(job)

    # When it is told to stop
    worker.end(signal.SIGTERM)

    # Then another one finishes the job
    lab.release()
    lab.wait_done(job)
    lab.account("worker told to stop", [job], lab.done())
