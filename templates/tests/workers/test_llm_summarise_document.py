"""Faults that the job `summarise_document` has to survive in this project.

Workers run as processes, as in production: settings, session helper, models and the job's functions are the
project's. Only the two service methods are replaced, by one that asks something and one that writes a row in
the same transaction (see replica.py), and the provider by a server on this machine (see llm_lab.py), so no
domain data is needed and nothing is paid. What the methods themselves do belongs into a test of its own.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

JOB = "summarise_document"
CALLS = "app.services.documents:DocumentService.store_summary"
PROMPT = "summary_prompt"
# None: made up from the types of the payload. Set it where the types do not say what fits.
PAYLOAD: dict[str, Any] | None = None


@pytest.fixture(scope="module")
def lab(labs: Any) -> Any:
    return labs.of("llm_kit", "llm", JOB, CALLS, PROMPT, payload=PAYLOAD)


def test_what_is_committed_is_asked_once_and_what_is_rolled_back_never(lab: Any) -> None:
    # Given two workers, and a job of a transaction that is rolled back
    lab.running(2)
    never = lab.submit("rollback")

    # When one is committed
    job = lab.submit()

    # Then it is asked once and succeeds at the first attempt, and the other one is not there
    lab.wait_done(job)
    assert lab.state(job) == ("succeeded", 1, 0)
    assert len(lab.model.calls_of(job)) == 1
    assert (lab.state(never), lab.model.calls_of(never)) == (("", 0, 0), [])
    lab.account("an LLM job", [job], lab.done())


def test_answer_that_could_not_be_stored_is_not_paid_for_again(lab: Any) -> None:
    # Given a service that fails twice when it gets the answer
    lab.running(2)
    lab.fail_first(2)

    # When a job is submitted
    job = lab.submit()
    lab.wait_done(job)

    # Then the third attempt stores the answer that the first one has got
    assert lab.state(job) == ("succeeded", 3, 0)
    assert len(lab.model.calls_of(job)) == 1
    lab.account("answer not stored at first", [job], lab.done())


def test_provider_that_is_busy_costs_no_attempt_and_one_that_breaks_off_does(lab: Any) -> None:
    # Given a provider that is too busy, fails, and ends in the middle of an answer
    lab.running(2)
    lab.model.script.extend([429, 500, 0])

    # When a job is submitted
    job = lab.submit()
    lab.wait_done(job)

    # Then the fourth call has the effect, and its worker has not called more often than it was told to
    assert lab.state(job) == ("succeeded", 4, 1)
    assert len(lab.model.calls_of(job)) == 4
    lab.account("provider in trouble", [job], lab.done())


def test_worker_killed_in_the_middle_of_an_answer_is_replaced_by_another(lab: Any) -> None:
    # Given a worker in the middle of an answer
    lab.running(2)
    lab.model.hold()
    job = lab.submit()
    worker = lab.asking(job)

    # When it is killed
    worker.end(signal.SIGKILL)
    lab.model.release()

    # Then another one asks again when the lease is over
    lab.wait_done(job)
    assert lab.state(job)[1] >= 2
    lab.account("worker killed in the middle of an answer", [job], lab.done())


def test_worker_told_to_stop_in_the_middle_of_an_answer_hands_back(lab: Any) -> None:
    # Given a worker in the middle of an answer that takes longer than the drain time
    lab.running(2)
    lab.model.hold()
    job = lab.submit()
    worker = lab.asking(job)

    # When it is told to stop
    assert worker.end(signal.SIGTERM) == 0
    lab.model.release()

    # Then another one asks again, and no attempt is used up
    lab.wait_done(job)
    state, attempts, excused = lab.state(job)
    assert (state, attempts - excused) == ("succeeded", 1)
    lab.account("worker told to stop in the middle of an answer", [job], lab.done())


def test_cancelled_job_drops_its_call(lab: Any) -> None:
    # Given a job in the middle of an answer
    lab.running(2)
    lab.model.hold()
    job = lab.submit()
    lab.asking(job)

    # When it is cancelled
    lab.cancel(job)

    # Then the connection is dropped, and nothing is stored
    lab.wait_for(lambda: lab.model.calls_of(job)[0].dropped, "the call is dropped")
    lab.wait_for(lambda: lab.state(job)[0] == "cancelled", "the job is cancelled")
    lab.model.release()
    assert job not in lab.done()
