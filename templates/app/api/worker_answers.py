"""What the routes of workers answer when they cannot do as asked: problem documents (RFC 9457).

app.add_exception_handler(Problem, answer_problem)
"""

from __future__ import annotations

from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse

from app.core.deadline import within
from app.core.failures import classify
from app.core.outcomes import Dead

R = TypeVar("R")

PATIENCE = 10.0
BUSY_AFTER = 2  # seconds, as all Retry-After here
PROBLEM = "application/problem+json"


class Problem(HTTPException):
    """An error whose answer is a problem document; as HTTPException it does without our handler, too."""


async def answer_problem(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler for Problem."""
    assert isinstance(error, Problem)  # what it is registered for
    body = {
        "type": "about:blank",
        "title": HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
        "detail": error.detail,
        "instance": request.url.path,
    }
    return JSONResponse(body, error.status_code, headers=error.headers, media_type=PROBLEM)


async def asked(question: Coroutine[Any, Any, R]) -> R:
    """What the database answers. Raises Problem 503 when it does not."""
    try:
        return await within(PATIENCE, question)
    except Exception as error:  # `raise_unavailable` tells; a bug is raised on
        raise_unavailable(error)
        raise


def raise_unavailable(error: Exception) -> None:
    """Raise Problem 503 when the database is away or overloaded."""
    if not isinstance(classify(error), Dead):
        raise Problem(503, "the database does not answer", {"Retry-After": str(BUSY_AFTER)}) from error
