"""The route that shows what the calls of a job to language models have used.

app.include_router(llm_usage_router(current_owner))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends

from app.api.jobs import id_of, there
from app.api.worker_answers import asked
from app.core import job_manage
from app.core.llm_usage import UsageOut, usage_of


def llm_usage_router(current_owner: Callable[..., Any]) -> APIRouter:
    """The route; `current_owner` is what `jobs_router` takes."""
    # Not Annotated: that is read in the module, where `current_owner` is not known.
    caller = Depends(current_owner)
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.get("/{job_id}/usage", response_model=UsageOut)
    async def show_usage(job_id: str, owner: Any = caller) -> UsageOut:
        """What the calls of a job have used so far."""
        job = there(await asked(job_manage.find(id_of(job_id), str(owner))))
        return await asked(usage_of(job.id, str(owner)))

    return router
