"""Calls to other services, and what their failures become."""

import logging
from datetime import UTC, datetime

import httpx2
import pytest
from pydantic import SecretStr

from app.core.config import Settings, settings
from app.core.exceptions import ExternalServiceError
from app.core.http import parse_retry_after, post_json
from world.client import World, drop, fail, hang, ok

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


async def complete(world: World, key: SecretStr | None = None) -> str:
    url = f"{world.base_url}/llm/complete"
    return await post_json("llm", url, {"prompt": "Hello"}, wanted="text", api_key=key)


async def test_failure_carries_status_wait_and_cause(world: World) -> None:
    await world.script("llm", fail(429, retry_after=1.5))
    with pytest.raises(ExternalServiceError) as caught:
        await complete(world)
    error = caught.value
    assert (error.service, error.status_code, error.retry_after) == ("llm", 429, 1.5)
    assert isinstance(error.__cause__, httpx2.HTTPStatusError)


async def test_dropped_connection_is_no_answer(world: World) -> None:
    await world.script("llm", drop())
    with pytest.raises(ExternalServiceError) as caught:
        await complete(world)
    assert caught.value.status_code is None
    assert isinstance(caught.value.__cause__, httpx2.RemoteProtocolError)


async def test_late_answer_is_no_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "http_timeout_seconds", 0.2)
    await world.script("llm", hang(30))
    with pytest.raises(ExternalServiceError) as caught:
        await complete(world)
    assert caught.value.status_code is None
    assert isinstance(caught.value.__cause__, httpx2.ReadTimeout)


async def test_refused_connection_is_no_answer() -> None:
    with pytest.raises(ExternalServiceError) as caught:
        # Port 1 is reserved and refuses.
        await post_json("llm", "http://127.0.0.1:1/", {}, wanted="text")
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)


async def test_address_that_is_none_is_an_error_of_the_service() -> None:
    with pytest.raises(ExternalServiceError):
        await post_json("llm", "nowhere", {}, wanted="text")


@pytest.mark.parametrize("answer", [{}, {"text": 1}, {"text": None}])
async def test_answer_without_the_text_is_refused(world: World, answer: dict[str, object]) -> None:
    await world.script("llm", ok(answer=answer))
    with pytest.raises(ExternalServiceError, match="llm answered 200 without what was asked for"):
        await complete(world)


@pytest.mark.parametrize("path", ["/calls", "/docs"])
async def test_answer_that_is_no_json_object_is_refused(
    world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an address that answers a list, and one that answers a web page
    async def get(self: httpx2.AsyncClient, url: str, **_: object) -> httpx2.Response:
        return await self.get(url)

    monkeypatch.setattr(httpx2.AsyncClient, "post", get)
    with pytest.raises(ExternalServiceError, match="without what was asked for"):
        await post_json("llm", f"{world.base_url}{path}", {}, wanted="text")


async def test_key_of_the_service_is_sent_and_never_shown(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    # Given all logging there is
    caplog.set_level(logging.DEBUG)
    await world.script("llm", fail(401), ok())

    # When a call with a key fails, and another succeeds
    with pytest.raises(ExternalServiceError) as caught:
        await complete(world, SecretStr("s3cret"))
    await complete(world, SecretStr("s3cret"))

    # Then the service got the key, and neither log nor error shows it
    assert [call.headers["authorization"] for call in await world.calls("llm")] == ["Bearer s3cret"] * 2
    assert "s3cret" not in caplog.text
    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_settings_hide_their_secrets() -> None:
    shown = repr(Settings(database_url=SecretStr("postgresql+asyncpg://u:s3cret@h/d")))
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("0", 0.0),
        ("120", 120.0),
        ("0.5", 0.5),
        ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 12:01:30 -0000", 90.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds
