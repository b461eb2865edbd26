"""Errors as problem documents, `application/problem+json` (RFC 9457)."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.core.exceptions import (
    AppError,
    ConflictError,
    ExternalServiceError,
    NotFoundError,
    ValidationFailedError,
)

_STATUS: dict[type[AppError], int] = {NotFoundError: 404, ConflictError: 409, ValidationFailedError: 422}


def install_problem_handlers(app: FastAPI) -> None:
    """Make `app` answer every error with a problem document."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(Exception, _unexpected_error)


def problem(
    request: Request,
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> JSONResponse:
    """Return a problem document. Its type is about:blank, so its title is the phrase of the status."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        **members,
    }
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


async def _app_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, ExternalServiceError):
        return _external_error(request, error)
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    return problem(request, status, str(error))


def _external_error(request: Request, error: ExternalServiceError) -> JSONResponse:
    if error.retry_after is not None:
        # Rounded up: the header takes whole seconds, and an early retry would be in vain.
        headers = {"Retry-After": str(math.ceil(error.retry_after))}
        return problem(request, 503, str(error), headers=headers, service=error.service)
    return problem(request, 504 if error.status_code is None else 502, str(error), service=error.service)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # what this handler is registered for
    return problem(request, error.status_code, str(error.detail), headers=error.headers)


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # what this handler is registered for
    # Without "input", which repeats what was sent: it may be secret, and need not be valid Unicode.
    faults = [{"loc": list(fault["loc"]), "msg": fault["msg"]} for fault in error.errors()]
    return problem(request, 422, "the request is not valid", errors=faults)


async def _unexpected_error(request: Request, _error: Exception) -> JSONResponse:
    # The text of an unknown error is for the log, where the server writes it, not for the caller.
    return problem(request, 500, "the server could not handle the request")
