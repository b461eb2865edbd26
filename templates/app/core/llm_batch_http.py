"""What all batches of language models have in common over plain HTTP, whatever the wire is.

No provider takes an idempotency key for a batch, so who does not know whether one was accepted looks for it
in the provider's list.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx2

from app.core.failures import describe
from app.core.llm_batch_provider import RefusedBatchError
from app.core.llm_http import HOME, anthropic_headers, beginning, error_type, openai_headers
from app.core.llm_provider import fail
from app.core.llm_settings import LlmSettings
from app.core.outcomes import TransientError, WorkerError

REFUSED = frozenset({400, 413, 422})
PAGE = 100
MOST_LINE = 1 << 24
UNANSWERED = "the provider's batch ended without an answer"


class HttpBatches:
    """What both have in common. The paths are ours: an address that a provider has sent is never called."""

    PATH: str

    def __init__(self, settings: LlmSettings, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else ""
        headers = anthropic_headers(key) if settings.llm_wire == "anthropic" else openai_headers(key)
        self._url = str(settings.llm_base_url or HOME[settings.llm_wire]).rstrip("/")
        timeout = httpx2.Timeout(settings.llm_silence_seconds, connect=10)
        self._client = httpx2.AsyncClient(headers=headers, timeout=timeout, transport=transport)

    async def aclose(self) -> None:
        """See BatchProvider."""
        await self._client.aclose()

    async def ask(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        """A provider's answer."""
        try:
            response = await self._client.request(method, f"{self._url}{path}", **given)
            answer = json.loads(response.content) if response.status_code < 300 else None
        except (httpx2.HTTPError, ValueError) as error:
            raise TransientError(f"the model's provider: {describe(error)}") from error
        if response.status_code >= 300:
            refuse(response, response.content)
        if not isinstance(answer, dict):
            raise TransientError("the model's provider answered with no JSON object")
        return answer

    async def listed(self, path: str, cursor: str, since: datetime) -> AsyncGenerator[dict[str, Any], None]:
        """The batches since a moment, the newest first."""
        after: dict[str, str] = {}
        while True:
            page = await self.ask("GET", path, params={"limit": PAGE, **after})
            found = [batch for batch in page.get("data") or () if isinstance(batch, dict)]
            for batch in found:
                if moment(batch.get("created_at")) < since:
                    return
                yield batch
            if not found or not page.get("has_more"):
                return
            after = {cursor: id_of(found[-1])}

    async def cancel(self, id_: str) -> None:
        """See BatchProvider."""
        await self.ask("POST", f"{self.path(id_)}/cancel")

    def path(self, id_: str) -> str:
        """Where a batch is."""
        return f"{self.PATH}/{quote(id_, safe='')}"

    async def lines(self, path: str) -> AsyncGenerator[dict[str, Any], None]:
        """The lines of a file of JSON, without those that are broken; memory holds one of them."""
        try:
            async with self._client.stream("GET", f"{self._url}{path}") as response:
                if response.status_code >= 300:
                    refuse(response, await beginning(response))
                rest = b""
                async for chunk in response.aiter_bytes():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in filter(None, map(parsed, lines)):
                        yield line
                    if len(rest) > MOST_LINE:
                        raise TransientError("the model's provider sent a line without an end")
                if last := parsed(rest):
                    yield last
        except httpx2.HTTPError as error:
            raise TransientError(f"the model's provider: {describe(error)}") from error


def raised(fails: Callable[[], Any]) -> WorkerError:
    """What `fails` raises."""
    try:
        fails()
    except WorkerError as error:
        return error
    raise AssertionError("it raises")


def refuse(response: httpx2.Response, body: bytes) -> None:
    """Raise what an error status means."""
    kind = error_type(body)
    if response.status_code in REFUSED:
        raise RefusedBatchError(f"the model's provider answered {response.status_code} {kind}".rstrip())
    fail(response.status_code, response.headers, kind)


def unstreamed(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request whose answer comes in one piece."""
    return {key: value for key, value in body.items() if key not in {"stream", "stream_options"}}


def parsed(line: bytes) -> dict[str, Any]:
    """A line; empty for one that is broken, whose answer is missed in the end."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def id_of(answer: dict[str, Any]) -> str:
    """The provider's id of something. Raises TransientError."""
    found = answer.get("id")
    if not isinstance(found, str) or not found:
        raise TransientError("the model's provider answered without an id")
    return found


def moment(given: Any) -> datetime:
    """A provider's time, as text or as seconds; now if it is neither."""
    try:
        if isinstance(given, str):
            return datetime.fromisoformat(given)
        return datetime.fromtimestamp(given, UTC)
    except (TypeError, ValueError):
        return datetime.now(UTC)
