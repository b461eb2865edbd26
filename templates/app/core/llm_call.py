"""Asks a language model inside of a job: followers see the tokens come, and nothing is paid for twice that
need not be.

    async def ask(context: JobContext[Summarise]) -> Answer:
        return await call(context, provider(), Prompt(model, (Message("user", text),)))
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from sqlalchemy import text

from app.core.database import get_session
from app.core.dead_letter_table import storable
from app.core.job import BusyError, JobContext
from app.core.job_events import DELTA, emit
from app.core.llm_limit import book, settle
from app.core.llm_provider import Answer, Prompt, Provider, Usage
from app.core.llm_settings import llm_settings
from app.core.outcomes import WorkerError

STARTED, ANSWERED, BROKEN_OFF = "started", "answered", "broken_off"
CHARACTERS_PER_TOKEN = 4
FIND = text(
    """
    SELECT data FROM job_event
    WHERE job_id = :id AND type = 'answered' AND data->>'call' = :call ORDER BY id DESC LIMIT 1
    """
)


class Gathered(WorkerError):
    """Carries a call that is to go into a batch out of a job's function."""

    def __init__(self, prompt: Prompt, name: str) -> None:
        super().__init__("gathered for a batch")
        self.prompt = prompt
        self.name = name


async def call(
    context: JobContext[Any], provider: Provider, prompt: Prompt, *, name: str = "", show: bool = True
) -> Answer:
    """The model's answer. One that an earlier attempt has got, and could not make use of, is not paid for
    again. `name` tells the calls of a job apart; `show` sends the text to followers as it comes.

    Raises what `Provider.stream` raises, and BusyError before the limits of the settings are exceeded. What
    was paid until then is on record.
    """
    if context.attempt > 1 and (found := await find(context, name)):
        return found
    if context.gathers:
        raise Gathered(prompt, name)
    limit = Usage(about(prompt), prompt.max_tokens, stop="limit")
    booking = await book(context.owner, spent(prompt, limit, []))
    usage, pieces, retry_after = Usage(), list[str](), None
    emit(
        context,
        STARTED,
        {"call": name, "model": prompt.model, "attempt": context.attempt, "input_tokens": about(prompt)},
    )
    key = f"{context.idempotency_key}{name and f':{name}'}"
    try:
        async with aclosing(provider.stream(prompt, usage, idempotency_key=key)) as stream:
            async for piece in stream:
                pieces.append(piece)
                if show:
                    emit(context, DELTA, {"text": piece})
    except BaseException as error:  # a cancellation, too
        emit(context, BROKEN_OFF, {"call": name, **spent(prompt, usage, pieces)})
        retry_after = error.retry_after if isinstance(error, BusyError) else None
        raise
    finally:
        await settle(booking, spent(prompt, usage, pieces), retry_after)
    answer = Answer(storable("".join(pieces)), prompt.model, usage)
    emit(context, ANSWERED, {"call": name, "text": answer.text, **spent(prompt, usage, pieces)})
    return answer


async def find(context: JobContext[Any], name: str) -> Answer | None:
    """The answer that an earlier attempt has got."""
    async with get_session() as session:
        data = (await session.execute(FIND, {"id": context.id, "call": name})).scalar_one_or_none()
    if data is None:
        return None
    usage = Usage(data["input_tokens"], data["output_tokens"], data["request_id"], data["stop"])
    return Answer(data["text"], data["model"], usage)


def about(prompt: Prompt) -> int:
    """An estimate of the prompt's tokens."""
    return prompt.characters // CHARACTERS_PER_TOKEN + 1


def spent(prompt: Prompt, usage: Usage, pieces: list[str]) -> dict[str, Any]:
    """What a call has cost, in tokens and in millionths of a dollar, or of whatever LLM_PRICES are in. It is
    `exact` when all of it was said by the provider. Nothing was paid for where no answer began.
    """
    made = sum(map(len, pieces)) // CHARACTERS_PER_TOKEN + bool(pieces)
    begun = bool(pieces) or usage.input_tokens is not None
    given_tokens = usage.input_tokens if usage.input_tokens is not None else about(prompt) * begun
    # The number at the beginning of a stream is not yet that of its end.
    made_tokens = usage.output_tokens if usage.output_tokens is not None and usage.stop else made
    price = llm_settings().llm_prices.get(prompt.model)
    return {
        "model": prompt.model,
        "input_tokens": given_tokens,
        "output_tokens": made_tokens,
        "cost": None if price is None else round(given_tokens * price[0] + made_tokens * price[1]),
        "exact": usage.stop is not None and None not in {usage.input_tokens, usage.output_tokens},
        "request_id": usage.request_id and storable(usage.request_id)[:200],
        "stop": usage.stop and storable(usage.stop)[:100],
    }
