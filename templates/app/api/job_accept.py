"""What a route needs that submits a job.

    app.add_exception_handler(Problem, answer_problem)

    @router.post("/orders/{order_id}/payment", status_code=202)
    async def pay(order_id: int, owner: Owner, key: RequiredKey, request: Request) -> Response:
        return await accept(request, process_payment, ProcessPayment(order_id=order_id), owner=owner, key=key)

Problems are answered as RFC 9457 says, the Idempotency-Key header is that of the IETF draft (07). With the
header `Prefer: wait=10` (RFC 7240) the answer comes when the job has ended, if that is soon enough.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.job_shown import answer, shown
from app.api.worker_answers import BUSY_AFTER, PATIENCE, Problem, raise_unavailable
from app.core import job_manage
from app.core.database import get_session
from app.core.deadline import within
from app.core.job import (
    JobKind,
    KeyInUseError,
    KeyReusedError,
    Submitted,
    TooLargeError,
    UnstorableError,
    submit,
)

T = TypeVar("T", bound=BaseModel)

ROUTE = "get_job"
LONGEST_WAIT = 20  # below what proxies allow
WAIT = re.compile(r"(?:^|[,;\s])wait=\"?(?P<seconds>\d{1,6})", re.IGNORECASE)
# A string of structured fields (RFC 9651); many clients leave the quotes out.
KEY = re.compile(r'"(?P<quoted>(?:[ !#-\[\]-~]|\\["\\]){1,255})"|(?P<bare>[!#-~]{1,255})')


class AcceptedOut(BaseModel):
    """A job that was accepted; `url` shows how it stands."""

    id: uuid.UUID
    kind: str
    created_at: datetime
    deadline_at: datetime
    url: str


def idempotency_key(header: Annotated[str | None, Header(alias="Idempotency-Key")] = None) -> str | None:
    """The key of a request, None without one. Raises Problem 400 for what is no key."""
    if header is None:
        return None
    match = KEY.fullmatch(header)
    if match is None:
        raise Problem(400, "Idempotency-Key: a string of 1 to 255 printable ASCII characters is needed")
    return match["bare"] or re.sub(r"\\(.)", r"\1", match["quoted"])


def required_key(key: Annotated[str | None, Depends(idempotency_key)]) -> str:
    """The key of a request. Raises Problem 400 without one."""
    if key is None:
        raise Problem(400, "Idempotency-Key: this header is needed, so that a repeated request does no harm")
    return key


OptionalKey = Annotated[str | None, Depends(idempotency_key)]
RequiredKey = Annotated[str, Depends(required_key)]


async def accept(
    request: Request,
    kind: JobKind[T],
    data: T,
    *,
    owner: str,
    key: str | None = None,
    session: AsyncSession | None = None,
    **options: Any,
) -> Response:
    """Submit a job and answer 202, in a transaction of its own or in that of `session`. A repeat with the
    same key gets the same answer. `options` go to `submit`. Where the client prefers to wait, and `session`
    does not keep the job from being started, the job itself is the answer once it has ended: 200.

    Raises Problem: 409 while a request with this key is being handled, 413 for a payload that is too large,
    422 for a key that was used for another request, 503 while the database is away. Nothing is left behind
    then, unless the answer to the commit got lost: a repeat with the same key tells.
    """
    try:
        work = submitted(session, kind, data, owner=owner, idempotency_key=key, **options)
        job = await within(PATIENCE, work)
    except (KeyReusedError, UnstorableError) as error:
        raise Problem(422, str(error)) from error
    except KeyInUseError as error:
        raise Problem(409, str(error), {"Retry-After": str(BUSY_AFTER)}) from error
    except TooLargeError as error:
        raise Problem(413, str(error)) from error
    except Exception as error:  # `raise_unavailable` tells; a bug is raised on
        raise_unavailable(error)
        raise
    seconds = 0 if session is not None else preferred_wait(request)
    return (await ended(request, job.id, owner, seconds) if seconds else None) or accepted(request, job)


def preferred_wait(request: Request) -> int:
    """Seconds that the client would rather wait for the result, at most LONGEST_WAIT."""
    match = WAIT.search(",".join(request.headers.getlist("Prefer")))
    return min(LONGEST_WAIT, int(match["seconds"])) if match else 0


async def ended(request: Request, id_: uuid.UUID, owner: str, seconds: int) -> Response | None:
    """The job when it has ended in time; None when it has not. No connection is held meanwhile."""
    gives_up, pause = time.monotonic() + seconds, 0.05
    while time.monotonic() < gives_up and not await request.is_disconnected():
        await asyncio.sleep(pause)
        pause = min(0.5, pause * 1.5)
        with suppress(Exception):  # a database that is away: the job is accepted all the same
            job = await within(PATIENCE, job_manage.find(id_, owner))
            if job is not None and job.ended:
                response = shown(job)
                response.headers["Content-Location"] = location(request, id_)
                response.headers["Preference-Applied"] = f"wait={seconds}"
                return response
    return None


async def submitted(
    session: AsyncSession | None, kind: JobKind[T], data: T, *, owner: str, **options: Any
) -> Submitted:
    """Submit, and commit unless the transaction is the caller's."""
    if session is not None:
        return await submit(session, kind, data, owner=owner, **options)
    async with get_session() as own:
        return await submit(own, kind, data, owner=owner, **options)


def accepted(request: Request, job: Submitted) -> Response:
    """202: where the job can be followed. Nothing in it changes, so that a repeat gets the same."""
    url = location(request, job.id)
    body = AcceptedOut(
        id=job.id, kind=job.kind, created_at=job.created_at, deadline_at=job.deadline_at, url=url
    )
    return answer(body, 202, {"Location": url, "Retry-After": "1"})


def location(request: Request, id_: uuid.UUID) -> str:
    """Where a job is shown."""
    return request.url_for(ROUTE, job_id=str(id_)).path
