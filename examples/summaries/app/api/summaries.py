"""Routes of a page where documents are summarised: submit one, watch the tokens come, reload, cancel, and see
what became of the webhooks.

    page --POST /documents/{id}/summary-jobs--> job ------> worker --> model
      ^----------GET /jobs/{id}/events------- tokens <---------+
      ^----------GET /webhook-endpoints/{id}/deliveries        +--> webhook to the owner's endpoints
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Cookie, Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse

from app.api.dependencies import PathId
from app.api.job_accept import RequiredKey, accept
from app.llm.document_summary import document_summary
from app.llm.summarise_document import SummariseDocument

STATIC = Path(__file__).parents[1] / "static"
# All that the page loads is its own: text that a model or a customer has made cannot run as a script.
HEADERS = {"Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'"}
router = APIRouter(tags=["summaries"])


def current_user(user: Annotated[str, Cookie()] = "") -> str:
    """Who calls. Your project's authentication takes its place: here everybody is who they say they are.

    A cookie and not a header, because the browser's EventSource sends no headers of ours.
    """
    if not user:
        raise HTTPException(401, "open /page first")
    return user


User = Annotated[str, Depends(current_user)]


@router.post("/documents/{document_id}/summary-jobs", status_code=202)
async def submit_summary(document_id: PathId, user: User, key: RequiredKey, request: Request) -> Response:
    """Have a document summarised, without waiting for it."""
    work = SummariseDocument(document_id=document_id)
    return await accept(request, document_summary, work, owner=user, key=key)


@router.get("/page")
async def page() -> FileResponse:
    """Show the page; whoever opens it is the user `ada`."""
    response = FileResponse(STATIC / "page.html", headers=HEADERS)
    response.set_cookie("user", "ada", httponly=True, samesite="strict")
    return response


@router.get("/page.js")
async def script() -> FileResponse:
    """The page's script."""
    return FileResponse(STATIC / "page.js", media_type="text/javascript")
