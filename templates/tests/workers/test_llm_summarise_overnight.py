"""Faults that the job `summarise_overnight` has to survive in this project.

Workers run as processes, as in production: settings, session helper, models and the job's functions are the
project's. Only the two service methods are replaced, by one that asks something and one that writes a row in
the same transaction (see replica.py), and the provider by a server on this machine (see llm_batch_lab.py), so
no domain data is needed and nothing is paid. What the methods themselves do belongs into a test of its own.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

JOB = "summarise_overnight"
CALLS = "app.services.documents:DocumentService.store_summary"
PROMPT = "summary_prompt"
# None: made up from the types of the payload. Set it where the types do not say what fits.
PAYLOAD: dict[str, Any] | None = None


@pytest.fixture(scope="module")
def lab(labs: Any) -> Any:
    return labs.of("llm_kit", "batch", JOB, CALLS, PROMPT, payload=PAYLOAD)


def test_what_is_committed_is_asked_once_and_what_is_rolled_back_never(lab: Any) -> None:
    # Given two workers, and a job of a transaction that is rolled back
    lab.running(2)
    never = lab.submit("rollback")

    # When some are committed
    jobs = [lab.submit() for _ in range(5)]

    # Then each is in one batch and succeeds, and the other one is not there
    lab.wait_done(*jobs)
    assert [lab.model.asked(job) for job in jobs] == [1] * 5
    assert (lab.state(never), lab.model.asked(never)) == (("", 0, 0), 0)
    lab.account("jobs in batches", jobs, lab.done())


def test_results_that_are_no_answers_are_asked_again(lab: Any) -> None:
    # Given a provider that comes to no answer within a day, and then fails
    lab.running(2)
    lab.model.ends.extend(["expired", "errored api_error"])

    # When a job is submitted
    job = lab.submit()
    lab.wait_done(job)

    # Then a third batch has the answer, and only the failure has used up an attempt
    state, attempts, excused = lab.state(job)
    assert (state, attempts - excused, lab.model.asked(job)) == ("succeeded", 2, 3)
    lab.account("batches without answers", [job], lab.done())


def test_worker_killed_before_it_knows_that_its_batch_was_accepted(lab: Any) -> None:
    # Given a worker whose batch was accepted, and who is not told
    lab.running(2)
    lab.model.hold_answers()
    job = lab.submit()
    worker = lab.asking(job)

    # When it is killed
    worker.end(signal.SIGKILL)
    lab.model.release()

    # Then another one finds the batch, and does not ask again
    lab.wait_done(job)
    assert lab.model.asked(job) == 1
    lab.account("worker killed with its batch accepted", [job], lab.done())


def test_job_cancelled_while_it_is_in_a_batch(lab: Any) -> None:
    # Given a job that is in a batch of the provider
    lab.running(2)
    lab.model.hold()
    job = lab.submit()
    lab.waiting(job)

    # When it is cancelled, and the answer comes
    lab.cancel(job)
    lab.model.release()

    # Then nothing is stored
    lab.wait_for(lambda: lab.state(job)[0] == "cancelled", "the job is cancelled")
    assert job not in lab.done()
