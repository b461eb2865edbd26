"""Settings of workers: an address that is empty, as platforms set it for a service that is not there."""

import pytest
from pydantic import ValidationError

from app.core.worker_settings import WorkerSettings


@pytest.mark.parametrize("name", ["REDIS_URL", "RABBITMQ_URL"])
def test_an_empty_address_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name, raising=False)
    usual = WorkerSettings()
    monkeypatch.setenv(name, "")
    assert getattr(WorkerSettings(), name.lower()) == getattr(usual, name.lower())
    monkeypatch.setenv(name, "broker")
    with pytest.raises(ValidationError, match="is needed"):
        WorkerSettings()
