"""A project's API with jobs, to be run by uvicorn; the caller says who it is."""

from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response

from app.api.job_accept import RequiredKey, accept
from app.api.job_events import job_events_router
from app.api.jobs import jobs_router
from app.api.llm_usage import llm_usage_router
from app.api.worker_answers import Problem, answer_problem
from app.llm.summarise_document import SummariseDocument, summarise_document


def current_owner(x_user: Annotated[str, Header()] = "") -> str:
    """The project's own authentication."""
    if not x_user:
        raise HTTPException(401, "who are you?")
    return x_user


Owner = Annotated[str, Depends(current_owner)]
app = FastAPI()
app.add_exception_handler(Problem, answer_problem)
app.include_router(jobs_router(current_owner))
app.include_router(job_events_router(current_owner))
app.include_router(llm_usage_router(current_owner))


@app.get("/health")
async def health() -> dict[str, str]:
    """It runs."""
    return {"status": "ok"}


@app.post("/summaries", status_code=202)
async def summarise(body: SummariseDocument, owner: Owner, key: RequiredKey, request: Request) -> Response:
    """Submit a job."""
    return await accept(request, summarise_document, body, owner=owner, key=key)
