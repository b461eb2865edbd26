"""Providers over HTTP: what they say is understood, each call is made once, and errors are what they are."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.core.failures import classify
from app.core.job import BusyError
from app.core.llm_anthropic import AnthropicProvider
from app.core.llm_http import HttpProvider, events
from app.core.llm_openai import OpenAiProvider
from app.core.llm_provider import Message, Prompt, Usage
from app.core.llm_settings import LlmSettings
from app.core.outcomes import PermanentError, Retry, TransientError
from support.llm_server import LlmServer, running_llm

ADAPTERS = {
    "anthropic": HttpProvider,
    "openai": HttpProvider,
    "anthropic-sdk": AnthropicProvider,
    "openai-sdk": OpenAiProvider,
}
PROMPT = Prompt("model-1", (Message("user", "Hello"),), system="Be brief.", max_tokens=50)
adapters = pytest.mark.parametrize("adapter", ADAPTERS)


@pytest.fixture
async def llm() -> AsyncIterator[LlmServer]:
    async with running_llm() as server:
        yield server


async def answer(llm: LlmServer, adapter: str, usage: Usage | None = None, **settings: Any) -> str:
    given = {
        "llm_wire": adapter.removesuffix("-sdk"),
        "llm_base_url": llm.url,
        "llm_api_key": "secret",
        **settings,
    }
    provider = ADAPTERS[adapter](LlmSettings(**given))
    try:
        stream = provider.stream(PROMPT, usage or Usage(), idempotency_key="key")
        return "".join([piece async for piece in stream])
    finally:
        await provider.aclose()


@adapters
async def test_an_answer(llm: LlmServer, adapter: str) -> None:
    usage = Usage()
    # The text has a U+2028 in it, which is no end of a line.
    assert await answer(llm, adapter, usage) == llm.text
    assert (usage.input_tokens, usage.output_tokens) == (11, 6)
    wire = adapter.removesuffix("-sdk")
    assert usage.request_id == "req_1"
    assert usage.stop == {"anthropic": "end_turn", "openai": "stop"}[wire]
    (call,) = llm.calls
    assert call.headers["idempotency-key"] == "key"
    assert call.body["model"] == "model-1"
    assert call.body["stream"] is True
    if wire == "anthropic":
        key = call.headers.get("x-api-key") or call.headers["authorization"].removeprefix("Bearer ")
        assert (call.path, key) == ("/v1/messages", "secret")
        assert call.body["messages"] == [{"role": "user", "content": "Hello"}]
        assert (call.body["system"], call.body["max_tokens"]) == ("Be brief.", 50)
    else:
        assert (call.path, call.headers["authorization"]) == ("/v1/chat/completions", "Bearer secret")
        assert [message["role"] for message in call.body["messages"]] == ["system", "user"]
        assert call.body["max_completion_tokens"] == 50


@adapters
@pytest.mark.parametrize(
    ("behaviour", "expected", "after"),
    [
        ("429 rate_limit_error 7", BusyError, 7.0),
        ("529 overloaded_error", BusyError, None),
        ("503 api_error 3", TransientError, 3.0),
        ("500 api_error", TransientError, None),
        ("400 invalid_request_error", PermanentError, None),
        ("401 authentication_error", PermanentError, None),
        ("302 elsewhere", PermanentError, None),
        ("200 overloaded_error", BusyError, None),
        ("200 api_error", TransientError, None),
        ("error overloaded_error", BusyError, None),
        ("error api_error", TransientError, None),
        ("error invalid_request_error", PermanentError, None),
        ("cut", TransientError, None),
        ("broken", TransientError, None),
    ],
)
async def test_errors_are_told_apart_and_nothing_is_tried_twice(
    llm: LlmServer, adapter: str, behaviour: str, expected: type[Exception], after: float | None
) -> None:
    llm.script.append(behaviour)
    with pytest.raises(expected) as raised:
        await answer(llm, adapter)
    assert type(raised.value) is expected
    assert getattr(raised.value, "retry_after", None) == after
    assert "secret" not in str(raised.value)
    assert len(llm.calls) == 1


@adapters
async def test_a_provider_that_hangs_or_is_not_there(llm: LlmServer, adapter: str) -> None:
    llm.script.append("hang")
    for settings in ({"llm_silence_seconds": 0.3}, {"llm_base_url": "http://127.0.0.1:1/v1"}):
        with pytest.raises(TransientError) as raised:
            await answer(llm, adapter, **settings)
        assert isinstance(classify(raised.value), Retry)


async def test_events_however_they_are_cut() -> None:
    raw = 'data: {"a": "\u2028\u0085"}\n\n: ping\n\nevent: x\ndata: one\r\ndata:two\r\n\r\n'.encode()

    async def chunks(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(raw), size):
            yield raw[start : start + size]

    for size in (1, 2, 5, 1000):
        assert [event async for event in events(chunks(size))] == ['{"a": "\u2028\u0085"}', "one\ntwo"]


async def test_a_line_without_an_end() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    with pytest.raises(TransientError):
        await anext(events(chunks()))
