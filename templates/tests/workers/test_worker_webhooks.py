"""Faults that the sender of webhooks has to survive in this project.

Senders run as processes, as in production; the receiver is a server on this machine (see webhook_lab.py). A
webhook may come twice, under the same id; never not at all.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest


@pytest.fixture(scope="module")
def lab(labs: Any) -> Any:
    return labs.of("webhook_kit")


def delivered(lab: Any, *ids: str) -> None:
    """Wait until webhooks were taken."""
    lab.wait_for(lambda: set(ids) <= set(lab.receiver.taken()), "the webhooks are taken")


def test_committed_webhooks_are_signed_and_sent_and_rolled_back_ones_are_not(lab: Any) -> None:
    # Given two workers, and a webhook of a transaction that is rolled back
    lab.running(2)
    owner, secret = lab.endpoint()
    (never,) = lab.announce(owner, "rollback")

    # When others are committed
    ids = [id_ for _ in range(3) for id_ in lab.announce(owner)]

    # Then these are sent with a signature that the receiver finds right, and it is not there
    delivered(lab, *ids)
    assert all(came.is_signed(secret) for id_ in ids for came in lab.receiver.tries(id_))
    assert lab.receiver.tries(never) == []
    lab.account("webhooks", ids, lab.receiver.taken())


def test_receiver_in_trouble_gets_the_same_again(lab: Any) -> None:
    # Given a receiver that fails, wants patience, and points elsewhere
    lab.running(2)
    owner, secret = lab.endpoint()
    lab.receiver.script.extend([500, 429, 302])

    # When a webhook is announced
    (id_,) = lab.announce(owner)
    delivered(lab, id_)

    # Then the fourth try is taken, and all have the same id and the same bytes
    tries = lab.receiver.tries(id_)
    assert len(tries) >= 4
    assert len({came.body for came in tries}) == 1
    assert all(came.is_signed(secret) for came in tries)
    lab.account("receiver in trouble", [id_], lab.receiver.taken())


def test_worker_killed_in_the_middle_of_a_delivery_is_replaced_by_another(lab: Any) -> None:
    # Given a worker that waits for the receiver's answer
    lab.running(2)
    owner, _ = lab.endpoint()
    lab.receiver.hold()
    (id_,) = lab.announce(owner)
    worker = lab.sending(id_)

    # When it is killed
    worker.end(signal.SIGKILL)
    lab.receiver.release()

    # Then another one sends it under the same id
    lab.wait_for(lambda: lab.states(owner) == {id_: "succeeded"}, "it is delivered")
    assert len(lab.receiver.tries(id_)) >= 2
    lab.account("worker killed in the middle of a delivery", [id_], lab.receiver.taken())


def test_receiver_that_is_gone_is_sent_nothing_more(lab: Any) -> None:
    # Given a receiver that says that it is gone for good
    lab.running(2)
    owner, _ = lab.endpoint()
    lab.receiver.script.append(410)

    # When something is announced
    (id_,) = lab.announce(owner)

    # Then it is tried no more, and nothing that comes later is sent
    lab.wait_for(lambda: lab.states(owner) == {id_: "failed"}, "it is given up")
    assert lab.disabled(owner)
    assert lab.announce(owner) == []
    assert len(lab.receiver.tries(id_)) == 1


def test_address_of_a_private_network_is_sent_nothing(lab: Any) -> None:
    # Given an endpoint inside of a network that strangers must not reach through us
    lab.running(2)
    owner, _ = lab.endpoint("https://10.0.0.1/hook")

    # When something is announced
    (id_,) = lab.announce(owner)

    # Then nobody connects to it
    lab.wait_for(lambda: lab.states(owner) == {id_: "failed"}, "it is refused")
