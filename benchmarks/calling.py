"""The call of a language model that everybody makes, through the templates' own adapter or without it."""

from __future__ import annotations

import os
from functools import cache

import httpx2

from app.core.llm import provider
from app.core.llm_http import anthropic_body
from app.core.llm_provider import Message, Prompt, Usage

PROMPT = Prompt("model-1", (Message("user", "Summarise in two sentences."),), max_tokens=200)
TIMEOUT_S = 60


async def call(_: str, order_id: int) -> str:  # noqa: ARG001  # the payload
    """The answer, for engines that run on an event loop."""
    return "".join([piece async for piece in provider().stream(PROMPT, Usage())])


@cache
def client() -> httpx2.Client:
    """One for each process."""
    return httpx2.Client(timeout=TIMEOUT_S, limits=httpx2.Limits(max_connections=None))


def call_blocking(order_id: int) -> int:  # noqa: ARG001
    """The length of the answer, for engines whose tasks block."""
    url = f"{os.environ['LLM_BASE_URL']}/messages"
    with client().stream("POST", url, json=anthropic_body(PROMPT)) as response:
        return sum(len(line) for line in response.iter_lines())
