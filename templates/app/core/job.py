"""Long-running jobs: what a kind of job is, and how one is submitted.

    async with get_session() as session:
        order = await OrderService(session).place(...)
        job = await submit(session, capture_payment, CapturePayment(order_id=order.id), owner=user.id)

The job and what it is about commit together or not at all; it is never started before the commit.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import job_store
from app.core.dead_letter_table import storable
from app.core.envelope import topic_of
from app.core.outcomes import Outcome, PermanentError, WorkerError
from app.core.worker_settings import worker_settings

T = TypeVar("T", bound=BaseModel)
Result = BaseModel | Mapping[str, Any] | None
# U+0000, escaped as JSON does it; an escaped backslash in front of it makes it plain text.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
LONGEST_KEY = 255


class KeyReusedError(WorkerError):
    """The owner has used this idempotency key for another request."""


class KeyInUseError(WorkerError):
    """A request with this idempotency key is being handled right now."""


class BusyError(WorkerError):
    """Raise it from a job's function when the other side asks for patience (HTTP 429, 529): the job is tried
    again, in `retry_after` seconds if that is known, and this attempt does not count.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class TooLargeError(PermanentError):
    """The payload is larger than WORKER_MAX_MESSAGE_BYTES."""


class UnstorableError(PermanentError):
    """The payload, the result or the key is something that the database cannot store."""


@dataclass
class JobContext(Generic[T]):
    """A job as its function sees it."""

    id: uuid.UUID
    kind: str
    data: T
    owner: str
    attempt: int = 1
    counted: int = 1
    """The number of this attempt without those that were nobody's fault, and those before a replay."""
    progress: float | None = field(default=None, init=False)
    note: str | None = field(default=None, init=False)
    answer: Any = field(default=None, init=False)
    """What the kind's `ask` has returned."""
    gathers: bool = field(default=False, init=False)
    """Whether calls of a language model are gathered for a batch of its provider, in place of being made."""
    events: list[tuple[str, Any]] = field(default_factory=list, init=False, repr=False)
    """What followers are to be told and is not yet taken: see `app.core.job_events`."""
    told: int = field(default=0, init=False, repr=False)
    """How many events were taken."""

    @property
    def idempotency_key(self) -> str:
        """The key for calls to the outside: the same on each attempt, different for each job.

        Append a suffix when one job makes several calls.
        """
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"job {self.id}"))

    def report(self, progress: float, note: str | None = None) -> None:
        """Show how far the job is, from 0 to 1, and a line for people. Costs nothing: the next heartbeat,
        at most JOB_POLL_SECONDS later, writes what was said last.
        """
        self.progress = min(1.0, max(0.0, progress))
        self.note = note if note is None else storable(note)[:1000]


Handler = Callable[[JobContext[T], AsyncSession], Awaitable[Result | Outcome]]
Ask = Callable[[JobContext[T]], Awaitable[Any]]


@dataclass(frozen=True)
class JobKind(Generic[T]):
    """A kind of job. Its versioned name is its identity in the database: `shop.payment.capture.v1`.

    ask: what comes before `handle` and takes long: an `async def` function of the job. No transaction is open
        while it runs; what it returns is the job's `answer` then, or an Outcome that ends the attempt.
    via: what brings its jobs to a worker. `celery` sends their ids, `table` leaves them to workers that
        claim them, and `batch` to those that ask for many at once (`app.core.llm_batch`); with the answer
        they go on as `table`.
    queue: the queue they go through; `default` is the transport's own default. JOB_LIMITS may limit how many
        jobs of a queue run at once (`table`).
    timeout: how long one attempt may take; None is the setting WORKER_HANDLER_TIMEOUT_SECONDS.
    deadline: how long a job has from its submission, all its attempts and pauses together.
    attempts: starts of one job, crashed ones included; None is the setting WORKER_MAX_DELIVERIES.

    Raises ValueError, one line that names the kind, for what makes no sense.
    """

    name: str
    payload: type[T]
    handle: Handler[T]
    ask: Ask[T] | None = None
    via: Literal["celery", "table", "batch"] = "celery"
    queue: str = "default"
    timeout: timedelta | None = None
    deadline: timedelta = timedelta(hours=24)
    attempts: int | None = None

    def __post_init__(self) -> None:
        topic_of(self.name)
        if not inspect.iscoroutinefunction(self.handle):
            raise ValueError(f"job kind {self.name!r}: an `async def` function of (job, session) is needed")
        if self.ask is not None and not inspect.iscoroutinefunction(self.ask):
            raise ValueError(f"job kind {self.name!r}: ask: an `async def` function of (job) is needed")
        timeout = self.deadline if self.timeout is None else self.timeout
        if not timedelta() < timeout <= self.deadline <= timedelta(days=400):
            raise ValueError(f"job kind {self.name!r}: 0 < timeout <= deadline <= 400 days is needed")
        if self.attempts is not None and not 1 <= self.attempts <= 100:
            raise ValueError(f"job kind {self.name!r}: attempts={self.attempts}: 1 to 100 are allowed")

    @property
    def seconds(self) -> float:
        """How long one attempt may take."""
        given = self.timeout and self.timeout.total_seconds()
        return given or worker_settings().worker_handler_timeout_seconds


KINDS: dict[str, JobKind[Any]] = {}
"""The kinds that this process can run, by name."""


def job(name: str, payload: type[T], **options: Any) -> Callable[[Handler[T]], JobKind[T]]:
    """Make a function the handler of a kind of job; `options` are the fields of JobKind.

    Raises ValueError for a name that is taken and for what makes no sense.
    """

    def register(handle: Handler[T]) -> JobKind[T]:
        kind = JobKind(name, payload, handle, **options)
        if name in KINDS:
            raise ValueError(f"job kind {name!r}: {KINDS[name].handle.__module__} has one of that name")
        KINDS[name] = kind
        return kind

    return register


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a submission is answered with; a repeat of it gets the same. `new` tells the two apart."""

    id: uuid.UUID
    kind: str
    created_at: datetime
    deadline_at: datetime
    new: bool = True


async def submit(
    session: AsyncSession,
    kind: JobKind[T],
    data: T,
    *,
    owner: str,
    idempotency_key: str | None = None,
    priority: int = 0,
    not_before: timedelta = timedelta(),
) -> Submitted:
    """Add a job for `owner` in the session's transaction; it is started after the commit.

    With an `idempotency_key` the owner's second submission of the same data adds nothing and is answered
    like the first one. Of several jobs that wait the one with the higher `priority` goes first.

    Raises KeyReusedError for a key that was used with other data, KeyInUseError while another transaction
    uses it, TooLargeError and UnstorableError.
    """
    payload = json_text(data)
    limit = worker_settings().worker_max_message_bytes
    if len(payload.encode()) > limit:
        raise TooLargeError(f"a payload may have {limit} bytes: store the rest and pass its id")
    if idempotency_key is not None and not 0 < len(idempotency_key) <= LONGEST_KEY:
        raise UnstorableError(f"an idempotency key has 1 to {LONGEST_KEY} characters")
    request_hash = hashlib.sha256(f"{kind.name} {payload}".encode()).hexdigest()
    row = await job_store.add(
        session,
        job_store.NewJob(
            id=uuid.uuid4(),
            kind=kind.name,
            via=kind.via,
            queue=kind.queue,
            owner=owner,
            priority=priority,
            payload=payload,
            max_attempts=kind.attempts or worker_settings().worker_max_deliveries,
            not_before=not_before,
            deadline=kind.deadline,
            idempotency_key=idempotency_key,
            request_hash=None if idempotency_key is None else request_hash,
        ),
    )
    if row is None:
        raise KeyInUseError("a request with this idempotency key is being handled right now")
    if not row.new and row.request_hash != request_hash:
        raise KeyReusedError("this idempotency key was used for another request")
    return Submitted(row.id, row.kind, row.created_at, row.deadline_at, row.new)


def json_text(data: Result) -> str:
    """JSON that PostgreSQL can store. Raises UnstorableError for U+0000 or half a surrogate pair in it."""
    try:
        text = to_json(data, inf_nan_mode="null").decode()
    except PydanticSerializationError as error:
        raise UnstorableError(str(error)) from None
    if NUL.search(text):
        raise UnstorableError("text must not contain the character U+0000")
    return text
