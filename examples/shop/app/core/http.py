"""Calls to other services over HTTP, with failures as `ExternalServiceError`."""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from ssl import SSLContext
from typing import Any

import httpx2
from pydantic import SecretStr

from app.core.config import settings
from app.core.exceptions import ExternalServiceError


async def post_json(
    service: str,
    url: str,
    body: dict[str, Any],
    *,
    wanted: str,
    api_key: SecretStr | None = None,
    idempotency_key: str | None = None,
) -> str:
    """Post `body` and return the text `wanted` from the JSON object that `service` answers.

    Raises `ExternalServiceError` for no answer, for an error status and for an answer without that text.
    """
    headers = _headers(api_key, idempotency_key)
    try:
        # A client per call: pooled connections belong to one event loop, and a service does not know
        # in which loop it is called next.
        async with httpx2.AsyncClient(timeout=settings.http_timeout_seconds, verify=_tls()) as client:
            response = await client.post(url, json=body, headers=headers)
        response.raise_for_status()
    except httpx2.HTTPStatusError as error:
        retry_after = parse_retry_after(error.response.headers.get("Retry-After"), datetime.now(UTC))
        raise ExternalServiceError(service, error.response.status_code, retry_after) from error
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        raise ExternalServiceError(service) from error
    return _text(service, response, wanted)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds to wait that a Retry-After header asks for, or None without a usable one.

    The header holds seconds or a date (RFC 9110, 10.2.3). A date in the past means 0.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _seconds_until(value, now)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _seconds_until(http_date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(http_date)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def _headers(api_key: SecretStr | None, idempotency_key: str | None) -> dict[str, str]:
    headers: dict[str, str] = {}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key.get_secret_value()}"
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    return headers


def _text(service: str, response: httpx2.Response, name: str) -> str:
    try:
        answer = response.json()
    except ValueError as error:
        raise ExternalServiceError(service, response.status_code) from error
    text = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise ExternalServiceError(service, response.status_code)
    return text


@cache
def _tls() -> SSLContext:
    # Loading the certificates is the slow part of making a client, and is bound to no loop.
    return httpx2.create_ssl_context()
