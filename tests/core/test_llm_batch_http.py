"""What is said to providers about batches, and what is made of their answers."""

import uuid
from collections import deque
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from app.core.job import BusyError
from app.core.llm_batch_anthropic import read_anthropic
from app.core.llm_batch_openai import read_openai
from app.core.llm_batch_provider import BatchProvider, RefusedBatchError, name
from app.core.llm_batches import batches
from app.core.llm_provider import Message, Prompt
from app.core.llm_settings import LlmSettings
from app.core.outcomes import Dead, PermanentError, Postpone, TransientError, WorkerError
from support.batch_scene import WIRES, model

JOBS = [(uuid.uuid4(), Prompt("model-1", (Message("user", f"Hello {n}"),), max_tokens=50)) for n in range(3)]


@pytest.fixture
def provider_there() -> Iterator[Any]:
    server = model()
    yield server
    server.close()


@pytest.fixture(params=WIRES)
async def spoken(request: pytest.FixtureRequest, provider_there: Any) -> AsyncIterator[BatchProvider]:
    given = {key.lower(): value for key, value in provider_there.environment.items()}
    adapter = batches(LlmSettings(llm_wire=request.param, **given))
    yield adapter
    await adapter.aclose()


async def test_a_batch_is_found_among_others_of_its_size(spoken: BatchProvider, provider_there: Any) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    ours, other = uuid.uuid4(), uuid.uuid4()
    assert await spoken.find(ours, 3, since, set()) is None
    # Given ours between those of others, in a list of several pages
    provider_there.page = 1
    await spoken.submit(other, JOBS)
    id_ = await spoken.submit(ours, JOBS)
    await spoken.submit(uuid.uuid4(), JOBS)
    await spoken.submit(uuid.uuid4(), JOBS[:1])
    assert await spoken.find(ours, 3, since, set()) == id_
    assert await spoken.find(uuid.uuid4(), 3, since, set()) is None
    assert await spoken.find(ours, 3, datetime.now(UTC) + timedelta(minutes=1), set()) is None


async def test_as_long_as_it_goes_on_only_openai_says_whose_it_is(
    spoken: BatchProvider, provider_there: Any
) -> None:
    since, ours = datetime.now(UTC) - timedelta(minutes=1), uuid.uuid4()
    provider_there.hold()
    id_ = await spoken.submit(ours, JOBS)
    if type(spoken).__name__ == "OpenAiBatches":
        assert await spoken.find(ours, 3, since, set()) == id_
        return
    with pytest.raises(BusyError, match="shows when it has ended"):
        await spoken.find(ours, 3, since, set())
    # One that is known, or of another size, is not it
    assert await spoken.find(ours, 3, since, {id_}) is None
    assert await spoken.find(ours, 2, since, set()) is None


async def test_results_come_by_name(spoken: BatchProvider, provider_there: Any) -> None:
    batch = uuid.uuid4()
    provider_there.ends = deque(["succeeded", "errored overloaded_error", "expired"])
    look = await spoken.poll(await spoken.submit(batch, JOBS))
    assert look.ended
    found = {r.name: r for source in look.sources async for r in spoken.results(source)}
    assert list(found) == [name(batch, job) for job, _ in JOBS]
    good, busy, expired = found.values()
    assert (good.text, good.problem) == (provider_there.text, None)
    assert (good.usage.input_tokens, good.usage.output_tokens) == (5, 4)
    assert isinstance(busy.problem, BusyError)
    assert isinstance(expired.problem, BusyError)
    assert "expired" in str(expired.problem)


async def test_refusals_are_told_apart(spoken: BatchProvider, provider_there: Any) -> None:
    expected: dict[int, type[WorkerError]] = {
        400: RefusedBatchError,
        413: RefusedBatchError,
        401: PermanentError,
        429: BusyError,
        529: BusyError,
        500: TransientError,
    }
    for status, error in expected.items():
        provider_there.statuses.append(status)
        with pytest.raises(error) as raised:
            await spoken.submit(uuid.uuid4(), JOBS)
        assert type(raised.value) is error, status
    assert provider_there.batches == []


def over(answer: httpx2.Response, wire: str) -> BatchProvider:
    """A provider that always answers the same."""
    transport = httpx2.MockTransport(lambda _: answer)
    return batches(LlmSettings(llm_wire=wire), transport)  # type: ignore[arg-type]


async def test_a_batch_that_did_not_begin_says_whether_it_is_to_blame() -> None:
    found = []
    for code in ("token_limit_exceeded", "invalid_url"):
        answer = httpx2.Response(
            200, json={"id": "b", "status": "failed", "errors": {"data": [{"code": code}]}}
        )
        provider = over(answer, "openai")
        found.append(type((await provider.poll("b")).refused))
        await provider.aclose()
    assert found == [Postpone, Dead]


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'{"id": 7}', b"<html>"])
@pytest.mark.parametrize("wire", WIRES)
async def test_nonsense_is_tried_again(wire: str, body: bytes) -> None:
    provider = over(httpx2.Response(200, content=body), wire)
    with pytest.raises(TransientError):
        await provider.submit(uuid.uuid4(), JOBS)
    await provider.aclose()


@pytest.mark.parametrize("line", [{}, {"custom_id": 7}, {"result": []}, {"response": {"status_code": 200}}])
def test_lines_that_say_nothing_are_no_answers(line: dict[str, Any]) -> None:
    for read in (read_anthropic, read_openai):
        assert isinstance(read(line).problem, TransientError)


async def test_broken_lines_are_left_out_and_the_path_stays_ours() -> None:
    seen = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        return httpx2.Response(200, content=b'{"custom_id": "a"}\n{oops\n\n{"custom_id": "b"}')

    provider = batches(LlmSettings(llm_wire="anthropic"), httpx2.MockTransport(answer))
    found = [result.name async for result in provider.results("/messages/batches/x/results")]
    assert found == ["a", "b"]
    with pytest.raises(TransientError):  # it is answered with lines
        await provider.poll("../../evil?x=1")
    assert seen[1] == "https://api.anthropic.com/v1/messages/batches/..%2F..%2Fevil%3Fx%3D1"
    await provider.aclose()
