"""What can become of a message: outcomes as values, and the errors a handler may raise to choose one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Done:
    """The effect is committed; the message can be acknowledged.

    `repeated` is true when an earlier delivery had already done the work.
    """

    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again later; this attempt counts. `after` is in seconds, None leaves the pause to the policy."""

    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Postpone:
    """Try again after `after` seconds without using up an attempt: nothing was wrong with the message."""

    reason: str
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Down:
    """What every message needs (the database) is away: pause consuming, use up no attempt."""

    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Trying again cannot help: keep the message with its reason where a person finds it."""

    reason: str


Outcome = Done | Retry | Postpone | Down | Dead


class WorkerError(Exception):
    """Base of all errors that the worker parts raise."""


class TransientError(WorkerError):
    """Raise it from a handler to retry; `retry_after` in seconds overrides the policy's pause."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class PermanentError(WorkerError):
    """Raise it from a handler to set the message aside at once."""


class InvalidMessageError(PermanentError):
    """The bytes are not a message that this consumer knows; the text says what is wrong with them."""


class RefusedToStartError(WorkerError):
    """A restart does not help: the message is one line for whoever runs the worker."""
