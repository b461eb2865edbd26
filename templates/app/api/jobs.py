"""Routes to follow and cancel jobs. How one is submitted over HTTP: `app.api.job_accept`.

app.add_exception_handler(Problem, answer_problem)
app.include_router(jobs_router(current_owner))
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import BaseModel

from app.api.job_accept import ROUTE
from app.api.job_shown import answer, shown
from app.api.worker_answers import Problem, asked
from app.core import job_manage
from app.core.job_manage import JobOut, State

NO_JOB = "there is no such job"


class PageOut(BaseModel):
    """A page of jobs, the newest first; `next` is the `cursor` of the one behind it."""

    jobs: list[JobOut]
    next: str | None


def jobs_router(current_owner: Callable[..., Any]) -> APIRouter:
    """The routes of jobs. `current_owner` is the project's dependency that gives the caller's id as a string,
    the same that jobs are submitted for, and raises an HTTPException for whoever has none. Raises TypeError
    without one: jobs are for their owners' eyes.
    """
    if not callable(current_owner):
        raise TypeError(
            "jobs_router needs the project's authentication, a FastAPI dependency: jobs_router(current_owner)"
        )
    # Not Annotated: that is read in the module, where `current_owner` is not known.
    caller = Depends(current_owner)
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.get("", response_model=PageOut)
    async def list_jobs(
        kind: str | None = None,
        state: State | None = None,
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        owner: Any = caller,
    ) -> Response:
        """List your jobs, the newest first."""
        after = position(cursor) if cursor else None
        find = job_manage.page(str(owner), kind=kind, state=state, after=after, limit=limit + 1)
        found = await asked(find)
        more = cursor_of(found[limit - 1]) if len(found) > limit else None
        return answer(PageOut(jobs=list(found[:limit]), next=more))

    @router.get("/{job_id}", name=ROUTE, response_model=JobOut)
    async def get_job(
        job_id: str, if_none_match: Annotated[str | None, Header()] = None, owner: Any = caller
    ) -> Response:
        """Show a job. While it goes on, Retry-After says when to ask again."""
        job = there(await asked(job_manage.find(id_of(job_id), str(owner))))
        return shown(job, if_none_match=if_none_match)

    @router.post("/{job_id}/cancel", response_model=JobOut)
    @router.delete("/{job_id}", response_model=JobOut)
    async def cancel_job(job_id: str, owner: Any = caller) -> Response:
        """Cancel a job: 200 when it has ended by that, 202 when it runs and is told so, 409 when it had ended
        before.
        """
        job = there(await asked(job_manage.cancel(id_of(job_id), str(owner))))
        if job.ended and job.state != "cancelled":
            raise Problem(409, f"the job has ended before: {job.state}")
        return shown(job, 200 if job.ended else 202)

    return router


def id_of(text: str) -> uuid.UUID:
    """The id in a path. Raises Problem 404: what is no id is that of no job."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Problem(404, NO_JOB) from None


def there(job: JobOut | None) -> JobOut:
    """The job. Raises Problem 404 without one; somebody else's is none."""
    if job is None:
        raise Problem(404, NO_JOB)
    return job


def cursor_of(job: JobOut) -> str:
    """Where the page behind `job` begins; opaque to clients."""
    return base64.urlsafe_b64encode(f"{job.created_at.isoformat()} {job.id}".encode()).decode()


def position(cursor: str) -> tuple[datetime, uuid.UUID]:
    """What `cursor_of` has put into a cursor. Raises Problem 422 for anything else."""
    try:
        at, id_ = base64.urlsafe_b64decode(cursor).decode().split(" ")
        return datetime.fromisoformat(at), uuid.UUID(id_)
    except ValueError:
        raise Problem(422, "cursor: the `next` of a former page is needed") from None
