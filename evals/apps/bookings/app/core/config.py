"""Settings."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What the environment says."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    database_url: SecretStr = SecretStr("postgresql+asyncpg://localhost/bookings")
    mail_url: str = "http://localhost:9100/mail"
    mail_timeout_seconds: float = 10.0


settings = Settings()
