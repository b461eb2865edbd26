"""Each error becomes the right problem document."""

import pickle

import httpx2
import pytest
from fastapi import FastAPI

from app.api.problems import install_problem_handlers
from app.core.exceptions import (
    AppError,
    ConflictError,
    ExternalServiceError,
    NotFoundError,
    ValidationFailedError,
)


async def answer_to(error: Exception) -> httpx2.Response:
    """Return what the API answers when a route raises `error`."""
    app = FastAPI()
    install_problem_handlers(app)

    @app.get("/thing")
    async def raise_error() -> None:
        raise error

    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.get("/thing")


class OutOfStockError(ConflictError):
    """An error that somebody derives later."""


@pytest.mark.parametrize(
    ("error", "status", "title", "detail"),
    [
        (NotFoundError("no order 1"), 404, "Not Found", "no order 1"),
        (ConflictError("is paid"), 409, "Conflict", "is paid"),
        (OutOfStockError("no tea"), 409, "Conflict", "no tea"),
        (ValidationFailedError("no items"), 422, None, "no items"),
        (AppError("odd"), 500, "Internal Server Error", "odd"),
        (ExternalServiceError("mail", 500), 502, "Bad Gateway", "mail answered 500"),
        (
            ExternalServiceError("mail", 201),
            502,
            "Bad Gateway",
            "mail answered 201 without what was asked for",
        ),
        (ExternalServiceError("mail"), 504, "Gateway Timeout", "mail gave no answer"),
    ],
)
async def test_error_of_the_shop(error: AppError, status: int, title: str | None, detail: str) -> None:
    response = await answer_to(error)
    document = response.json()
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (document["status"], document["detail"], document["instance"]) == (status, detail, "/thing")
    # Python 3.13 renamed 422, so its title is not compared.
    assert title in (None, document["title"])


async def test_wait_that_a_service_asks_for_is_passed_on_in_whole_seconds() -> None:
    response = await answer_to(ExternalServiceError("mail", 429, 1.2))
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert response.json()["service"] == "mail"


async def test_unknown_error_is_not_told_to_the_caller() -> None:
    response = await answer_to(RuntimeError("password is 1234"))
    assert response.status_code == 500
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "1234" not in response.text


async def test_errors_of_the_framework_are_problem_documents_too(api: httpx2.AsyncClient) -> None:
    missing = await api.get("/nowhere")
    wrong = await api.delete("/orders")
    assert (missing.status_code, missing.json()["title"]) == (404, "Not Found")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")
    for response in (missing, wrong):
        assert response.headers["Content-Type"] == "application/problem+json"


async def test_invalid_request_names_the_field_and_does_not_repeat_the_value(api: httpx2.AsyncClient) -> None:
    response = await api.post("/customers", json={"email": "s3cret", "name": "N"})
    assert response.json()["errors"][0]["loc"] == ["body", "email"]
    assert "s3cret" not in response.text


def test_external_error_survives_pickling() -> None:
    error = ExternalServiceError("mail", 429, 1.5)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert (copy.service, copy.status_code, copy.retry_after) == ("mail", 429, 1.5)
    assert str(copy) == str(error)
