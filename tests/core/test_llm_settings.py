"""Settings of language models: what is refused at start, in one line each."""

import importlib

import pytest

from app.core import llm_settings as module
from app.core.llm_http import HttpProvider
from app.core.llm_settings import LlmSettings
from app.core.outcomes import RefusedToStartError
from app.workers import llm_jobs


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LLM_WIRE", "smoke signals"),
        ("LLM_BASE_URL", "provider"),
        ("LLM_MODEL", ""),
        ("LLM_SILENCE_SECONDS", "0"),
        ("LLM_PRICES", '{"model-1": [3]}'),
        ("LLM_PRICES", '{"model-1": [-3, 1]}'),
        ("LLM_REQUESTS_PER_MINUTE", '{"model-1": 0}'),
        ("LLM_TOKENS_PER_MINUTE", '{"model-1": "many"}'),
        ("LLM_DAILY_SPEND", "-1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(RefusedToStartError) as refused:
        module.llm_settings.__wrapped__()
    first, line = str(refused.value).splitlines()
    assert first == "settings refused:"
    assert name in line


def test_a_cap_on_what_has_no_price_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_DAILY_SPEND", "5")
    with pytest.raises(RefusedToStartError, match="LLM_DAILY_SPEND=5: LLM_PRICES has no price for"):
        module.llm_settings.__wrapped__()


@pytest.mark.parametrize(("wire", "host"), [("anthropic", "api.anthropic.com"), ("openai", "api.openai.com")])
async def test_a_provider_without_an_address_is_at_home(wire: str, host: str) -> None:
    provider = HttpProvider(LlmSettings.model_validate({"llm_wire": wire}))
    assert f"https://{host}/v1/" in provider._url
    await provider.aclose()


def test_jobs_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ValueError(f"job kind {name!r}: 0 < timeout <= deadline <= 400 days is needed")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(RefusedToStartError, match=r"LLM jobs refused: job kind .app\.llm"):
        llm_jobs.worker()
