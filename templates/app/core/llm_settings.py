"""Settings of language models, read from the same environment and `.env` file as the project's own."""

from __future__ import annotations

from functools import cache
from typing import Literal

from pydantic import Field, HttpUrl, NonNegativeFloat, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.outcomes import RefusedToStartError
from app.core.worker_settings import describe


class LlmSettings(BaseSettings):
    """All durations are in seconds."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    llm_wire: Literal["anthropic", "openai"] = "anthropic"
    """How the provider wants to be spoken to: Anthropic's Messages, or OpenAI's Chat Completions, which many
    others understand, too.
    """
    llm_base_url: HttpUrl = HttpUrl("https://api.anthropic.com/v1")
    """What `/messages` or `/chat/completions` is added to."""
    llm_api_key: SecretStr | None = None
    llm_model: str = Field(default="claude-sonnet-5", min_length=1, max_length=200)
    """The model that is asked where the code names none."""
    llm_silence_seconds: float = Field(default=60, gt=0, le=3600)
    """A call is given up when nothing came for this long. How long it may take altogether is the job's
    timeout.
    """
    llm_prices: dict[str, tuple[NonNegativeFloat, NonNegativeFloat]] = {}
    """What a million tokens cost, in and out, by model, as JSON: {"some-model": [3, 15]}."""


@cache
def llm_settings() -> LlmSettings:
    """The settings, read once. Raises RefusedToStartError with a line for each that is wrong."""
    # Not at import: the project's module may itself import workers.
    from app.core.config import settings

    if isinstance(settings, LlmSettings):
        return settings
    env_file = type(settings).model_config.get("env_file")
    try:
        return LlmSettings(_env_file=env_file)  # type: ignore[call-arg]  # a pydantic-settings argument
    except ValidationError as error:
        raise RefusedToStartError("\n".join(["settings refused:", *describe(error)])) from None
