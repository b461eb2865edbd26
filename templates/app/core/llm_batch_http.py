"""Batches of language models over plain HTTP: Anthropic's Message Batches, and OpenAI's Batch.

Neither takes an idempotency key, so who does not know whether a batch was accepted looks for it in the list
of the provider. OpenAI's shows the id that a batch was given in its metadata. Anthropic's has nothing of
ours: the id is a part of each request's name, and can be read when the batch has ended.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote
from uuid import UUID

import httpx2

from app.core.failures import describe
from app.core.job import BusyError
from app.core.llm_http import (
    HOME,
    anthropic_body,
    anthropic_headers,
    beginning,
    error_type,
    note,
    openai_body,
    openai_headers,
    word,
)
from app.core.llm_provider import Prompt, Usage, fail, fail_inside
from app.core.llm_settings import LlmSettings
from app.core.outcomes import Dead, PermanentError, Postpone, TransientError, WorkerError

REFUSED = frozenset({400, 413, 422})
METADATA = "llm_batch"
PAGE = 100
MOST_LINE = 1 << 24
UNANSWERED = "the provider's batch ended without an answer"
# What OpenAI says of a batch that was not at fault.
CROWDED = "token_limit_exceeded"


class RefusedBatchError(PermanentError):
    """The provider does not take a batch because of what is in it."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a batch stands. When it has ended its results are in `sources`, and one for each request if it is
    `whole`; or none was asked for the reason in `refused`.
    """

    ended: bool
    sources: tuple[str, ...] = ()
    whole: bool = True
    refused: Dead | Postpone | None = None


@dataclass(slots=True)
class Result:
    """What became of one request; `name` is what it was given."""

    name: str
    text: str = ""
    usage: Usage = field(default_factory=Usage)
    problem: WorkerError | None = None


class BatchProvider(Protocol):
    """What adapters implement. Requests are given the names that `name` makes.

    All raise BusyError, TransientError and PermanentError. When `submit` raises TransientError the provider
    may have accepted the batch all the same; it raises RefusedBatchError for what no provider would take.
    """

    async def submit(self, batch: UUID, requests: Sequence[tuple[UUID, Prompt]]) -> str:
        """Ask for the batch; the provider's id of it."""

    async def find(self, batch: UUID, requests: int, since: datetime, known: Collection[str]) -> str | None:
        """The provider's id of a batch of so many requests that was perhaps accepted after `since`; it is
        none of `known`. None: it was not. Raises BusyError while that cannot be told.
        """

    async def poll(self, id_: str) -> Look:
        """How it stands."""

    def results(self, source: str) -> AsyncGenerator[Result, None]:
        """The results, as they come."""

    async def cancel(self, id_: str) -> None:
        """Ask for no more."""

    async def aclose(self) -> None:
        """Close idle connections."""


def batches(settings: LlmSettings, transport: httpx2.AsyncBaseTransport | None = None) -> BatchProvider:
    """What speaks to the provider of the settings."""
    kind = AnthropicBatches if settings.llm_wire == "anthropic" else OpenAiBatches
    return kind(settings, transport)


def name(batch: UUID, job: UUID) -> str:
    """What a request is called: 64 characters are the most that Anthropic takes."""
    return f"{batch.hex}{job.hex}"


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

    async def results(self, source: str) -> AsyncGenerator[Result, None]:
        """See BatchProvider."""
        async for line in self.lines(source):
            yield self.read(line)

    def read(self, line: dict[str, Any]) -> Result:
        """A line of the results."""
        raise NotImplementedError

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


class AnthropicBatches(HttpBatches):
    """See BatchProvider."""

    PATH = "/messages/batches"

    async def submit(self, batch: UUID, requests: Sequence[tuple[UUID, Prompt]]) -> str:
        """See BatchProvider."""
        asked = [
            {"custom_id": name(batch, job), "params": unstreamed(anthropic_body(prompt))}
            for job, prompt in requests
        ]
        return id_of(await self.ask("POST", self.PATH, json={"requests": asked}))

    async def find(self, batch: UUID, requests: int, since: datetime, known: Collection[str]) -> str | None:
        """See BatchProvider. One of the same size that nobody knows has to end before it can be told."""
        unclear = None
        async for found in self.listed(self.PATH, "after_id", since):
            id_, counts = id_of(found), found.get("request_counts")
            if id_ in known or not isinstance(counts, dict) or sum(counts.values()) != requests:
                continue
            if found.get("processing_status") != "ended":
                unclear = id_
            elif await self._first(id_) == batch.hex:
                return id_
        if unclear is not None:
            raise BusyError(f"{unclear} may be the batch, which shows when it has ended")
        return None

    async def _first(self, id_: str) -> str:
        """Whose the first result is."""
        async for line in self.lines(f"{self.path(id_)}/results"):
            return str(line.get("custom_id"))[:32]
        return ""

    async def poll(self, id_: str) -> Look:
        """See BatchProvider."""
        ended = (await self.ask("GET", self.path(id_))).get("processing_status") == "ended"
        return Look(ended, (f"{self.path(id_)}/results",))

    def read(self, line: dict[str, Any]) -> Result:
        """A line of the results."""
        return read_anthropic(line)


class OpenAiBatches(HttpBatches):
    """See BatchProvider."""

    PATH = "/batches"

    async def submit(self, batch: UUID, requests: Sequence[tuple[UUID, Prompt]]) -> str:
        """See BatchProvider."""
        lines = (
            json.dumps(
                {
                    "custom_id": name(batch, job),
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": unstreamed(openai_body(prompt)),
                }
            )
            for job, prompt in requests
        )
        file = ("batch.jsonl", "\n".join(lines).encode(), "application/jsonl")
        uploaded = await self.ask("POST", "/files", data={"purpose": "batch"}, files={"file": file})
        asked = {
            "input_file_id": id_of(uploaded),
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {METADATA: str(batch)},
        }
        return id_of(await self.ask("POST", self.PATH, json=asked))

    async def find(
        self,
        batch: UUID,
        requests: int,  # noqa: ARG002  # the id is enough
        since: datetime,
        known: Collection[str],  # noqa: ARG002
    ) -> str | None:
        """See BatchProvider."""
        async for found in self.listed(self.PATH, "after", since):
            metadata = found.get("metadata")
            if isinstance(metadata, dict) and metadata.get(METADATA) == str(batch):
                return id_of(found)
        return None

    async def poll(self, id_: str) -> Look:
        """See BatchProvider."""
        batch = await self.ask("GET", self.path(id_))
        if (status := batch.get("status")) == "failed":
            errors = (batch.get("errors") or {}).get("data") or [{}]
            code = word(errors[0].get("code")) or "no reason given"
            reason = f"the model's provider did not begin the batch: {code}"
            return Look(ended=True, refused=Postpone(reason, 60) if code == CROWDED else Dead(reason))
        files = [batch.get("output_file_id"), batch.get("error_file_id")]
        sources = tuple(f"/files/{quote(file, safe='')}/content" for file in files if isinstance(file, str))
        return Look(status in {"completed", "expired", "cancelled"}, sources, whole=status == "completed")

    def read(self, line: dict[str, Any]) -> Result:
        """A line of an output file, or of an error file."""
        return read_openai(line)


# -- what comes back -----------------------------------------------------------------------------------------


def read_anthropic(line: dict[str, Any]) -> Result:
    """A result of Message Batches."""
    found = Result(str(line.get("custom_id")))
    match line.get("result"):
        case {"type": "succeeded", "message": {"content": list(content), **rest}}:
            blocks = (block for block in content if isinstance(block, dict) and block.get("type") == "text")
            found.text = "".join(str(block.get("text")) for block in blocks)
            found.usage.request_id, found.usage.stop = word(rest.get("id")), word(rest.get("stop_reason"))
            note(found.usage, rest.get("usage"), "input_tokens", "output_tokens")
        case {"type": "errored", "error": dict(error)}:
            found.problem = raised(lambda: fail_inside(error_type(error)))
        case {"type": str(kind)}:  # expired, canceled
            found.problem = BusyError(f"{UNANSWERED}: {word(kind)}")
        case _:
            found.problem = TransientError(UNANSWERED)
    return found


def read_openai(line: dict[str, Any]) -> Result:
    """A line of an output file, or of an error file."""
    found = Result(str(line.get("custom_id")))
    match line:
        case {"response": {"status_code": 200, "body": {"choices": [dict(choice), *_], **rest}}}:
            message = choice.get("message")
            found.text = str((message.get("content") if isinstance(message, dict) else None) or "")
            found.usage.request_id, found.usage.stop = word(rest.get("id")), word(choice.get("finish_reason"))
            note(found.usage, rest.get("usage"), "prompt_tokens", "completion_tokens")
        case {"response": {"status_code": int(status), "body": dict(body)}} if status >= 300:
            found.problem = raised(lambda: fail(status, {}, error_type(body)))
        case {"error": {"code": str(code)}}:  # batch_expired, batch_cancelled
            found.problem = BusyError(f"{UNANSWERED}: {word(code)}")
        case _:
            found.problem = TransientError(UNANSWERED)
    return found


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
