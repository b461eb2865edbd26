"""Settings of language models, read from the same environment and `.env` file as the project's own."""

from __future__ import annotations

from functools import cache
from typing import Literal, Self

from pydantic import Field, HttpUrl, NonNegativeFloat, PositiveFloat, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.worker_settings import checked


class LlmSettings(BaseSettings):
    """All durations are in seconds."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    llm_wire: Literal["anthropic", "openai"] = "anthropic"
    """How the provider wants to be spoken to: Anthropic's Messages, or OpenAI's Chat Completions, which many
    others understand, too.
    """
    llm_base_url: HttpUrl | None = None
    """What `/messages` or `/chat/completions` is added to; None is Anthropic's or OpenAI's own."""
    llm_api_key: SecretStr | None = None
    llm_model: str = Field(default="claude-sonnet-5", min_length=1, max_length=200)
    """The model that is asked where the code names none."""
    llm_silence_seconds: float = Field(default=60, gt=0, le=3600)
    """A call is given up when nothing came for this long. How long it may take altogether is the job's
    timeout.
    """
    llm_prices: dict[str, tuple[NonNegativeFloat, NonNegativeFloat]] = {}
    """What a million tokens cost, in and out, by model, as JSON: {"some-model": [3, 15]}."""
    llm_requests_per_minute: dict[str, PositiveFloat] = {}
    """Calls that all workers together make, by model, as JSON: {"some-model": 500}. None is no limit."""
    llm_tokens_per_minute: dict[str, PositiveFloat] = {}
    """The same for tokens, those asked and those answered together."""
    llm_daily_spend: PositiveFloat | None = None
    """What the jobs of one owner may cost on a day (UTC), in the unit of LLM_PRICES; what comes later waits
    for the next day, if its deadline allows.
    """

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """Refuse values that are right alone and wrong together."""
        if self.llm_daily_spend is not None and self.llm_model not in self.llm_prices:
            raise ValueError(
                f"LLM_DAILY_SPEND={self.llm_daily_spend:g}: LLM_PRICES has no price for {self.llm_model}"
            )
        return self


@cache
def llm_settings() -> LlmSettings:
    """The settings, read once. Raises RefusedToStartError with a line for each that is wrong."""
    return checked(LlmSettings, "llm_")
