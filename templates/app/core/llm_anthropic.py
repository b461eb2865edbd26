"""Anthropic's models through its own package, in the place of `llm_http`: for those who use it anyway.

In `app.core.llm`:  return AnthropicProvider(llm_settings())
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import anthropic
import httpx2

from app.core.failures import describe
from app.core.llm_http import anthropic_body, check, error_type, read_anthropic
from app.core.llm_provider import Prompt, Usage, fail, fail_inside
from app.core.llm_settings import LlmSettings
from app.core.outcomes import TransientError


class AnthropicProvider:
    """See Provider."""

    def __init__(self, settings: LlmSettings) -> None:
        timeout = httpx2.Timeout(settings.llm_silence_seconds, connect=10)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=50)
        key, url = settings.llm_api_key, settings.llm_base_url
        self._client = anthropic.AsyncAnthropic(
            api_key=key.get_secret_value() if key else None,
            base_url=str(url).rstrip("/").removesuffix("/v1") if url else None,
            max_retries=0,  # the job retries, and holds no slot while it waits
            timeout=timeout,
            http_client=anthropic.DefaultAsyncHttpxClient(
                limits=limits, timeout=timeout, follow_redirects=False
            ),
        )

    async def aclose(self) -> None:
        """See Provider."""
        await self._client.close()

    async def stream(
        self, prompt: Prompt, usage: Usage, *, idempotency_key: str | None = None
    ) -> AsyncGenerator[str, None]:
        """See Provider."""
        body: dict[str, Any] = anthropic_body(prompt)
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        try:
            async with await self._client.messages.create(**body, extra_headers=headers) as stream:
                await check(stream.response)
                usage.request_id = stream.response.headers.get("request-id")
                async for event in stream:
                    text, last = read_anthropic(event.model_dump(), usage)
                    if text:
                        yield text
                    if last:
                        break
        except anthropic.APIStatusError as error:
            kind = error_type(error.body) if isinstance(error.body, dict) else ""
            if error.status_code < 300:  # in the middle of an answer
                fail_inside(kind)
            fail(error.status_code, error.response.headers, kind)
        except (anthropic.APIError, httpx2.HTTPError, ValueError) as error:
            raise TransientError(f"the model's provider: {describe(error)}") from error
        if usage.stop is None:
            raise TransientError("the model's provider closed the connection in the middle of the answer")
