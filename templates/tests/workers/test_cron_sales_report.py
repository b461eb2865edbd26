"""Faults that the cron job `sales_report` has to survive in this project.

Schedulers run as processes, as in production: settings, session helper, models and the job's function are the
project's. Only the job's schedule and policies are replaced, so that it is due every second and no tick is
left out, and the service method, by one that writes a row in the same transaction (see replica.py). What the
method itself does belongs into a test of its own.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

JOB = "sales_report"
CALLS = "app.services.reports:ReportService.daily_sales"


@pytest.fixture(scope="module")
def lab(labs: Any) -> Any:
    return labs.of("cron_kit", JOB, CALLS)


def test_each_tick_is_run_once_by_two_schedulers(lab: Any) -> None:
    # Given the job as it is defined, which is due some time
    assert lab.next_due_at

    # When two schedulers run
    lab.running(2)
    ticks = lab.ticks(3)

    # Then each tick has one effect
    lab.wait_done(*ticks)
    lab.account("two schedulers", ticks, lab.done())


def test_ticks_of_an_outage_are_made_up(lab: Any) -> None:
    # Given schedulers that end while ticks are due
    since = lab.now()
    for scheduler in lab.running(2):
        scheduler.end(signal.SIGKILL)
    lab.wait_for(lambda: (lab.now() - since).total_seconds() > 3, "ticks are due")

    # When one starts again
    lab.running(1)
    ticks = lab.ticks(5, since)

    # Then none is missing
    lab.wait_done(*ticks)
    lab.account("outage", ticks, lab.done())


def test_failure_that_passes_is_retried(lab: Any) -> None:
    # Given an outside service that fails twice for each tick
    lab.running(2)
    lab.fail_first(2)

    # When a tick is due
    ticks = lab.ticks(1)
    lab.wait_done(*ticks)

    # Then the third attempt has the effect
    assert [begun for _, begun in lab.begun()].count(ticks[0]) == 3
    lab.account("failure that passes", ticks, lab.done())


def test_scheduler_killed_in_the_middle_is_replaced_by_another(lab: Any) -> None:
    # Given a scheduler in the middle of a run
    lab.running(2)
    scheduler, tick = lab.hold_one()

    # When it is killed
    scheduler.end(signal.SIGKILL)
    lab.release()
    ticks = [tick, *lab.ticks(2)]

    # Then another one finishes the run as soon as it is missed, and goes on
    lab.wait_done(*ticks)
    assert [begun for _, begun in lab.begun()].count(tick) == 2
    lab.account("scheduler killed", ticks, lab.done())


def test_scheduler_told_to_stop_in_the_middle_hands_over(lab: Any) -> None:
    # Given a scheduler in the middle of a run that takes longer than the drain time
    lab.running(2)
    scheduler, tick = lab.hold_one()

    # When it is told to stop
    code = scheduler.end(signal.SIGTERM)

    # Then it ends in order, and another one finishes the run
    assert code == 0
    lab.release()
    lab.wait_done(tick)
    lab.account("scheduler told to stop", [tick], lab.done())
