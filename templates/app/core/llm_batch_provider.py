"""The port to batches of a provider of language models: what a worker asks for, and what comes back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from app.core.llm_provider import Prompt, Usage
from app.core.outcomes import Dead, PermanentError, Postpone, WorkerError


class RefusedBatchError(PermanentError):
    """The provider does not take a batch because of what is in it."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a batch stands. When it has ended its results are in `sources`, and one for each request if it is
    `whole`; or none was asked for the reason in `refused`.
    """

    ended: bool
    sources: tuple[str, ...] = ()
    whole: bool = True
    refused: Dead | Postpone | None = None


@dataclass(slots=True)
class Result:
    """What became of one request; `name` is what it was given."""

    name: str
    text: str = ""
    usage: Usage = field(default_factory=Usage)
    problem: WorkerError | None = None


class BatchProvider(Protocol):
    """What adapters implement. Requests are given the names that `name` makes.

    All raise BusyError, TransientError and PermanentError. When `submit` raises TransientError the provider
    may have accepted the batch all the same; it raises RefusedBatchError for what no provider would take.
    """

    async def submit(self, batch: UUID, requests: Sequence[tuple[UUID, Prompt]]) -> str:
        """Ask for the batch; the provider's id of it."""

    async def find(self, batch: UUID, requests: int, since: datetime, known: Collection[str]) -> str | None:
        """The provider's id of a batch of so many requests that was perhaps accepted after `since`; it is
        none of `known`. None: it was not. Raises BusyError while that cannot be told.
        """

    async def poll(self, id_: str) -> Look:
        """How it stands."""

    def results(self, source: str) -> AsyncGenerator[Result, None]:
        """The results, as they come."""

    async def cancel(self, id_: str) -> None:
        """Ask for no more."""

    async def aclose(self) -> None:
        """Close idle connections."""


def name(batch: UUID, job: UUID) -> str:
    """What a request is called: 64 characters are the most that Anthropic takes."""
    return f"{batch.hex}{job.hex}"
