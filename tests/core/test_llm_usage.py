"""What calls have used: exact where the provider said it, else estimated, and never forgotten."""

import uuid
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel
from sqlalchemy import Row

from app.core import llm_call, llm_usage
from app.core.job import JobContext, UnstorableError
from app.core.job_events import emit
from app.core.llm_provider import Message, Prompt, Usage
from app.core.llm_settings import LlmSettings

PROMPT = Prompt("model-1", (Message("user", "x" * 40),))


@pytest.fixture(autouse=True)
def prices(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LlmSettings(llm_prices={"model-1": (3, 15)})
    for module in (llm_call, llm_usage):
        monkeypatch.setattr(module, "llm_settings", lambda: settings)


def event(kind: str, data: dict[str, Any] | None = None, characters: int | None = None) -> Row[Any]:
    return cast("Row[Any]", SimpleNamespace(type=kind, data=data, characters=characters))


def test_a_complete_call_is_exact() -> None:
    spent = llm_call.spent(PROMPT, Usage(11, 6, "req", "end_turn"), ["Once ", "upon"])
    assert (spent["input_tokens"], spent["output_tokens"], spent["exact"]) == (11, 6, True)
    assert spent["cost"] == 11 * 3 + 6 * 15


def test_a_call_that_was_broken_off_is_estimated() -> None:
    # What a stream says at its beginning about its output is not the whole of it.
    spent = llm_call.spent(PROMPT, Usage(11, 1), ["x" * 40])
    assert (spent["input_tokens"], spent["output_tokens"], spent["exact"]) == (11, 11, False)


def test_a_call_that_never_began_costs_nothing() -> None:
    spent = llm_call.spent(PROMPT, Usage(), [])
    assert (spent["input_tokens"], spent["output_tokens"], spent["cost"]) == (0, 0, 0)


def test_a_model_without_a_price() -> None:
    prompt = Prompt("model-2", PROMPT.messages)
    assert llm_call.spent(prompt, Usage(11, 6, None, "stop"), ["x"])["cost"] is None


def test_calls_of_a_job_are_added_up_whatever_became_of_them() -> None:
    started = {"call": "", "model": "model-1", "input_tokens": 10}
    ended = {"call": "", "input_tokens": 11, "output_tokens": 6, "cost": 123, "exact": True}
    total = llm_usage.summed(
        [
            # Its worker was killed
            event("started", started),
            event("delta", None, 40),
            # It never began
            event("started", started),
            event("broken_off", ended | {"input_tokens": 0, "output_tokens": 0, "cost": 0, "exact": False}),
            event("started", started),
            event("delta", None, 24),
            event("answered", ended),
        ]
    )
    assert (total.calls, total.input_tokens, total.output_tokens) == (3, 21, 16)
    assert total.cost == 10 * 3 + 10 * 15 + 123
    assert not total.exact
    assert llm_usage.summed([event("started", started), event("answered", ended)]).exact
    assert llm_usage.summed([]) == llm_usage.UsageOut()


class Nothing(BaseModel):
    """A payload."""


def test_deltas_are_joined_and_what_cannot_be_stored_is_refused() -> None:
    job = JobContext(uuid.uuid4(), "test.kind.v1", Nothing(), "ada")
    for text in ("a", "b"):
        emit(job, "delta", {"text": text})
    emit(job, "note", {"n": 1})
    emit(job, "delta", {"text": "c"})
    assert job.events == [("delta", ["a", "b"]), ("note", '{"n":1}'), ("delta", ["c"])]
    with pytest.raises(UnstorableError):
        emit(job, "note", {"n": "\0"})
