"""Faults that the router which takes webhooks has to survive in this project, with the project's database."""

from __future__ import annotations

import uuid
from typing import Any

import pytest


@pytest.fixture(scope="module")
def lab(labs: Any) -> Any:
    return labs.of("webhook_in_kit")


def test_webhook_that_comes_ten_times_at_once_is_stored_once(lab: Any) -> None:
    id_ = uuid.uuid4().hex

    # When a webhook comes ten times, at the same time and later
    statuses = lab.receive(*[(id_, "good")] * 10)
    statuses += lab.receive((id_, "good"))

    # Then one of them is stored, and the provider is told each time that it is there, or to come again
    assert set(statuses) <= {204, 503}
    assert 204 in statuses
    lab.account("a webhook that comes ten times", [id_], lab.done())


def test_webhook_of_somebody_else_is_refused(lab: Any) -> None:
    id_ = uuid.uuid4().hex

    assert lab.receive((id_, "bad")) == [401]

    assert id_ not in lab.done()


def test_webhook_that_could_not_be_stored_is_stored_when_it_comes_again(lab: Any) -> None:
    # Given a webhook whose transaction is rolled back
    id_ = uuid.uuid4().hex
    (status,) = lab.receive((id_, "good"), ending="rollback")
    assert status >= 500
    assert id_ not in lab.done()

    # When the provider sends it again
    assert lab.receive((id_, "good")) == [204]

    # Then it is there once
    lab.account("a webhook that could not be stored at first", [id_], lab.done())
