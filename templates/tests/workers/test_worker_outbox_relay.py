"""Faults that the outbox relay has to survive in this project.

Relays run as processes, as in production. What they send may come twice, never not at all: consumers skip
what they have done.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

BROKER = "redis"


@pytest.fixture(scope="module")
def relay(labs: Any) -> Any:
    return labs.of("relay_kit", BROKER)


def test_committed_messages_are_sent_and_rolled_back_ones_are_not(relay: Any) -> None:
    # Given messages of a transaction that is rolled back, and of one that is committed
    never = relay.enqueue(3, "rollback")
    messages = relay.enqueue(3)

    # When a relay runs
    relay.running(1)
    relay.wait_sent(*messages)

    # Then it sends what was committed, in order, and nothing else
    assert [id_ for id_ in relay.sent() if id_ in messages] == messages
    assert not set(never) & set(relay.sent())
    relay.account("committed messages", messages, relay.sent())


def test_relay_killed_before_it_notes_what_it_sent_loses_nothing(relay: Any) -> None:
    # Given a relay in the middle: the broker has the messages, the outbox does not know it yet
    relay.running(1)
    relay.hold()
    messages = relay.enqueue(3)
    worker = relay.in_the_middle_of(messages[-1])

    # When it is killed and another one starts
    worker.end(signal.SIGKILL)
    relay.release()
    more = relay.enqueue(1)
    relay.running(1)
    relay.wait_sent(*messages, *more)

    # Then all are there; those that were sent before the end come again
    relay.account("relay killed", [*messages, *more], relay.sent(), repeats=True)


def test_relay_told_to_stop_ends_in_order(relay: Any) -> None:
    # Given a relay, and messages that come while it stops
    (worker,) = relay.running(1)
    code = worker.end(signal.SIGTERM)

    # When another one starts
    messages = relay.enqueue(3)
    relay.running(1)
    relay.wait_sent(*messages)

    # Then the first one had ended without an error and all are sent
    assert code == 0
    relay.account("relay told to stop", messages, relay.sent())


def test_messages_that_the_broker_has_lost_are_sent_again(relay: Any) -> None:
    # Given messages that were sent
    relay.running(1)
    messages = relay.enqueue(3)
    relay.wait_sent(*messages)

    # When the broker comes back without them
    relay.forget()

    # Then they are sent again
    relay.wait_sent(*messages)
    relay.account("messages that the broker lost", messages, relay.sent(), repeats=True)
