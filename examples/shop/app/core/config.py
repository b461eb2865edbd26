"""Settings of the shop, read from the environment and from `.env`."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting has a default that suits a developer's machine; see each comment for the unit."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    # SecretStr, because the URL holds a password.
    database_url: SecretStr = SecretStr("postgresql+asyncpg://localhost/shop")
    # Connections that one process keeps open. Processes times (size + overflow) must stay below the
    # server's max_connections.
    db_pool_size: int = Field(default=5, ge=1)
    db_max_overflow: int = Field(default=5, ge=0)
    # Seconds to wait for a free connection before giving up.
    db_pool_timeout: float = Field(default=10.0, gt=0)

    # Base addresses; the services append "/messages", "/captures" and "/complete".
    mail_url: str = "http://localhost:9100/mail"
    payment_url: str = "http://localhost:9100/payments"
    llm_url: str = "http://localhost:9100/llm"
    mail_api_key: SecretStr | None = None
    payment_api_key: SecretStr | None = None
    llm_api_key: SecretStr | None = None
    # Seconds without progress (connect, send, or wait for the next bytes), not for the whole call.
    http_timeout_seconds: float = Field(default=10.0, gt=0)

    # IANA name of the zone whose midnight begins a day of the sales report.
    time_zone: str = "UTC"


settings = Settings()
