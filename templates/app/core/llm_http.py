"""Language models over plain HTTP: Anthropic's Messages, and OpenAI's Chat Completions."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import Any

import httpx2

from app.core.failures import describe
from app.core.llm_provider import Prompt, Usage, fail, fail_inside
from app.core.llm_settings import LlmSettings
from app.core.outcomes import TransientError

HOME = {"anthropic": "https://api.anthropic.com/v1", "openai": "https://api.openai.com/v1"}
MOST_LINE = 1 << 20
MOST_ERROR = 1 << 16
# What a provider calls its errors is shown to people; nothing else gets through.
WORD = re.compile(r"[a-z0-9_.-]{1,60}", re.IGNORECASE)
# Reads an event of the stream into usage; the text in it, and whether it was the last one.
Reader = Callable[[dict[str, Any], Usage], tuple[str, bool]]


class HttpProvider:
    """See Provider. Raises RefusedToStartError through its settings only."""

    def __init__(self, settings: LlmSettings, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._anthropic = settings.llm_wire == "anthropic"
        self._url = str(settings.llm_base_url or HOME[settings.llm_wire]).rstrip("/")
        self._url += "/messages" if self._anthropic else "/chat/completions"
        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else ""
        self._client = httpx2.AsyncClient(
            headers=anthropic_headers(key) if self._anthropic else openai_headers(key),
            timeout=httpx2.Timeout(settings.llm_silence_seconds, connect=10),
            # How many calls there are the worker says; one that waits for a connection would not show it.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=50),
            transport=transport,
        )

    async def aclose(self) -> None:
        """See Provider."""
        await self._client.aclose()

    async def stream(
        self, prompt: Prompt, usage: Usage, *, idempotency_key: str | None = None
    ) -> AsyncGenerator[str, None]:
        """See Provider."""
        body = anthropic_body(prompt) if self._anthropic else openai_body(prompt)
        read: Reader = read_anthropic if self._anthropic else read_openai
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        try:
            async with self._client.stream("POST", self._url, json=body, headers=headers) as response:
                await check(response)
                usage.request_id = response.headers.get("request-id") or response.headers.get("x-request-id")
                async for data in events(response.aiter_bytes()):
                    text, last = ("", True) if data == "[DONE]" else read(parsed(data), usage)
                    if text:
                        yield text
                    if last:
                        break
        except httpx2.HTTPError as error:
            raise TransientError(f"the model's provider: {describe(error)}") from error
        if usage.stop is None:
            raise TransientError("the model's provider closed the connection in the middle of the answer")


async def check(response: httpx2.Response) -> None:
    """Raise what an answer means that is no stream of events."""
    if response.status_code >= 300:
        fail(response.status_code, response.headers, error_type(await beginning(response)))
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        fail_inside(error_type(await beginning(response)))


async def beginning(response: httpx2.Response) -> bytes:
    """The body, or what there is of it after 64 KiB."""
    found = b""
    async for chunk in response.aiter_bytes():
        found += chunk
        if len(found) > MOST_ERROR:
            break
    return found


def error_type(body: bytes | dict[str, Any]) -> str:
    """What the provider calls the error; empty when it does not say."""
    try:
        answer = body if isinstance(body, dict) else json.loads(body)
    except ValueError:
        return ""
    error = answer.get("error") if isinstance(answer, dict) else None
    names = [error.get("type"), error.get("code")] if isinstance(error, dict) else []
    return next(filter(None, map(word, names)), "")


async def events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[str, None]:
    """The data of server-sent events. httpx's own lines end also at U+2028 and the like, which stand as they
    are in what models write.
    """
    rest, data = b"", list[bytes]()
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            stripped = line.rstrip(b"\r")
            if stripped.startswith(b"data:"):
                data.append(stripped[5:].removeprefix(b" "))
            elif not stripped and data:
                yield b"\n".join(data).decode(errors="replace")
                data = []
        if len(rest) > MOST_LINE:
            raise TransientError("the model's provider sent a line without an end")


def parsed(data: str) -> dict[str, Any]:
    """An event. Raises TransientError for broken JSON, and what an error event means."""
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise TransientError("the model's provider sent an event that is no JSON object")
    if event.get("error"):
        fail_inside(error_type(event))
    return event


# -- Anthropic: Messages -------------------------------------------------------------------------------------


def anthropic_headers(key: str) -> dict[str, str]:
    """The version is the only one there is."""
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}


def anthropic_body(prompt: Prompt) -> dict[str, Any]:
    """The request."""
    messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
    body = {"model": prompt.model, "max_tokens": prompt.max_tokens, "messages": messages, "stream": True}
    return body if prompt.system is None else body | {"system": prompt.system}


def read_anthropic(event: dict[str, Any], usage: Usage) -> tuple[str, bool]:
    """See Reader."""
    match event:
        case {"type": "message_start", "message": {"usage": dict(used)}}:
            note(usage, used, "input_tokens", "output_tokens")
        case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": str(text)}}:
            return text, False
        case {"type": "message_delta", "delta": dict(delta), **rest}:
            usage.stop = word(delta.get("stop_reason")) or usage.stop
            note(usage, rest.get("usage"), "input_tokens", "output_tokens")
        case {"type": "message_stop"}:
            usage.stop = usage.stop or "end"
            return "", True
    return "", False


# -- OpenAI: Chat Completions --------------------------------------------------------------------------------


def openai_headers(key: str) -> dict[str, str]:
    """Servers of one's own may want no key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def openai_body(prompt: Prompt) -> dict[str, Any]:
    """The request."""
    system = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
    return {
        "model": prompt.model,
        "max_completion_tokens": prompt.max_tokens,
        "messages": [
            *system,
            *({"role": message.role, "content": message.content} for message in prompt.messages),
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def read_openai(event: dict[str, Any], usage: Usage) -> tuple[str, bool]:
    """See Reader. The usage comes after the last choice; `[DONE]` ends it."""
    note(usage, event.get("usage"), "prompt_tokens", "completion_tokens")
    match event:
        case {"choices": [dict(choice), *_]}:
            usage.stop = word(choice.get("finish_reason")) or usage.stop
            delta = choice.get("delta")
            text = delta.get("content") if isinstance(delta, dict) else None
            return text if isinstance(text, str) else "", False
    return "", False


def word(value: Any) -> str | None:
    """A provider's word for something."""
    return value if isinstance(value, str) and WORD.fullmatch(value) else None


def note(usage: Usage, used: Any, given: str, made: str) -> None:
    """Take over what the provider has counted: tokens `given` to the model, and `made` by it."""
    if not isinstance(used, dict):
        return
    if isinstance(tokens := used.get(given), int):
        usage.input_tokens = tokens
    if isinstance(tokens := used.get(made), int):
        usage.output_tokens = tokens
