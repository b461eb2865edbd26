"""Settings of batches of language models, read from the same environment and `.env` file as the project's."""

from __future__ import annotations

from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.worker_settings import checked


class LlmBatchSettings(BaseSettings):
    """All durations are in seconds. How the provider is reached, the settings of language models say."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    llm_batch_most: int = Field(default=1000, ge=1, le=50_000)
    """Jobs that are asked in one batch."""
    llm_batch_wait_seconds: float = Field(default=300, ge=0, le=86_400)
    """How long the first job waits for others before a batch goes out that is not full."""
    llm_batch_poll_seconds: float = Field(default=30, gt=0, le=3600)
    """The pause after the first look at a batch; the next ones grow to twenty times as much."""
    llm_batch_price: float = Field(default=0.5, ge=0, le=1)
    """The part of LLM_PRICES that a provider takes in a batch."""

    def pause(self, looks: int) -> float:
        """Seconds until the next look at a batch, after so many."""
        return self.llm_batch_poll_seconds * min(1.5 ** min(looks, 20), 20.0)


@cache
def llm_batch_settings() -> LlmBatchSettings:
    """The settings, read once. Raises RefusedToStartError with a line for each that is wrong."""
    return checked(LlmBatchSettings, "llm_batch_")
