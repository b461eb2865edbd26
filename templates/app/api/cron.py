"""Routes to look at cron jobs and to run, pause and resume them, behind the project's own authorisation.

app.include_router(cron_router(require_admin))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from pydantic import AwareDatetime, BaseModel

from app.core import cron_manage
from app.core.cron_job import CronJob
from app.core.cron_jobs import collect
from app.core.cron_manage import JobInfo, NotDueError, RunInfo


class RunIn(BaseModel):
    """What to run: without `due_at` now, else the run of that due time."""

    due_at: AwareDatetime | None = None


def cron_router(authorize: Callable[..., Any], jobs: Sequence[CronJob] | None = None) -> APIRouter:
    """The routes for `jobs` (those of `app.jobs`), each behind the dependency `authorize`, which raises an
    HTTPException for whoever must not. Raises TypeError without one: who calls these routes runs your jobs.
    """
    if not callable(authorize):
        raise TypeError(
            "cron_router needs the project's authorisation, a FastAPI dependency: cron_router(require_admin)"
        )
    known = {job.name: job for job in (collect() if jobs is None else jobs)}
    router = APIRouter(prefix="/cron/jobs", tags=["cron"], dependencies=[Depends(authorize)])

    def named(name: str) -> CronJob:
        if name not in known:
            raise HTTPException(404, f"there is no job {name}")
        return known[name]

    @router.get("")
    async def list_jobs() -> list[JobInfo]:
        """Show all jobs, when they are due next, and how their last runs ended."""
        return await cron_manage.states(list(known.values()))

    @router.get("/{name}/runs")
    async def list_runs(name: str, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> list[RunInfo]:
        """Show the latest runs of a job, the newest first."""
        return await cron_manage.history(named(name).name, limit)

    @router.post("/{name}/runs", status_code=202)
    async def run_now(name: str, response: Response, body: RunIn | None = None) -> RunInfo:
        """Run a job now: 202 for a new run, 200 for the one that waits or goes on already."""
        try:
            run, new = await cron_manage.run_now(named(name), body.due_at if body else None)
        except NotDueError as error:
            raise HTTPException(409, str(error)) from error
        response.status_code = 202 if new else 200
        return run

    @router.post("/{name}/pause", status_code=204)
    async def pause(name: str) -> None:
        """Start no more runs of a job; what runs goes on."""
        await cron_manage.pause(named(name))

    @router.post("/{name}/resume", status_code=204)
    async def resume(name: str) -> None:
        """Start runs of a job again."""
        await cron_manage.resume(named(name))

    return router
