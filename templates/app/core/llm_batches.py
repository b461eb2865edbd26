"""What makes batches in this process, as the settings say. Another adapter goes in here."""

from __future__ import annotations

import httpx2

from app.core.llm_batch_anthropic import AnthropicBatches
from app.core.llm_batch_openai import OpenAiBatches
from app.core.llm_batch_provider import BatchProvider
from app.core.llm_settings import LlmSettings


def batches(settings: LlmSettings, transport: httpx2.AsyncBaseTransport | None = None) -> BatchProvider:
    """What speaks to the provider of the settings."""
    kind = AnthropicBatches if settings.llm_wire == "anthropic" else OpenAiBatches
    return kind(settings, transport)
