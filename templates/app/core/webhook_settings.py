"""Settings of webhooks, read from the same environment and `.env` file as the project's own."""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Network, IPv6Network

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.outcomes import RefusedToStartError
from app.core.worker_settings import describe


class WebhookSettings(BaseSettings):
    """What is sent to receivers, and for how long."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    webhook_timeout_seconds: float = Field(default=10, gt=0, le=60)
    """How long a receiver may take to answer."""
    webhook_disable_after_days: float = Field(default=5, gt=0)
    """An endpoint that has taken nothing for this long is disabled."""
    webhook_allowed_networks: list[IPv4Network | IPv6Network] = []
    """Networks that are not public and may be sent to all the same, over http too, as JSON:
    ["10.1.0.0/16"].
    """


@cache
def webhook_settings() -> WebhookSettings:
    """The settings, read once. Raises RefusedToStartError with a line for each that is wrong."""
    # Not at import: the project's module may itself import workers.
    from app.core.config import settings

    if isinstance(settings, WebhookSettings):
        return settings
    env_file = type(settings).model_config.get("env_file")
    try:
        return WebhookSettings(_env_file=env_file)  # type: ignore[call-arg]  # a pydantic-settings argument
    except ValidationError as error:
        raise RefusedToStartError("\n".join(["settings refused:", *describe(error)])) from None
