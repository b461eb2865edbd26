"""Settings of webhooks, read from the same environment and `.env` file as the project's own."""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Network, IPv6Network

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.worker_settings import checked


class WebhookSettings(BaseSettings):
    """What is sent to receivers, and for how long."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    webhook_timeout_seconds: float = Field(default=10, gt=0, le=60)
    """How long a receiver may take to answer."""
    webhook_disable_after_days: float = Field(default=5, gt=0)
    """An endpoint that has taken nothing for this long is disabled."""
    webhook_rotation_hours: float = Field(default=24, gt=0)
    """How long a key that was replaced signs beside the new one, so that the receiver can change over."""
    webhook_allowed_networks: list[IPv4Network | IPv6Network] = []
    """Networks that are not public and may be sent to all the same, over http too, as JSON:
    ["10.1.0.0/16"].
    """


@cache
def webhook_settings() -> WebhookSettings:
    """The settings, read once. Raises RefusedToStartError with a line for each that is wrong."""
    return checked(WebhookSettings, "webhook_")
