"""What the calls of a job have used, whatever became of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Row, text

from app.core.database import get_session
from app.core.job_events import DELTA
from app.core.llm_call import CHARACTERS_PER_TOKEN, STARTED
from app.core.llm_settings import llm_settings

FIND = text(
    """
    SELECT e.type, CASE e.type WHEN 'delta' THEN NULL ELSE e.data - 'text' END AS data,
           length(e.data->>'text') AS characters
    FROM job JOIN job_event AS e ON e.job_id = job.id
    WHERE job.id = :id AND job.owner = :owner AND e.type IN ('started', 'delta', 'answered', 'broken_off')
    ORDER BY e.id
    """
)


class UsageOut(BaseModel):
    """Tokens of all calls of a job, and what they cost in millionths of the unit of LLM_PRICES; None when the
    price of a model is not known. `exact` is false when the provider did not say how much a call has used,
    since it was broken off: then a part is estimated.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = 0
    exact: bool = True


async def usage_of(id_: uuid.UUID, owner: str) -> UsageOut:
    """What the owner's job has used so far."""
    async with get_session() as session:
        rows = (await session.execute(FIND, {"id": id_, "owner": owner})).all()
    return summed(rows)


def summed(rows: Iterable[Row[Any]]) -> UsageOut:
    """The sum of calls, from their events. One that has no end goes on, or its worker has died: what it used
    can only be estimated from what came.
    """
    total, open_, characters = UsageOut(), dict[str, dict[str, Any]](), 0
    for row in rows:
        if row.type == STARTED:
            if row.data["call"] in open_:
                add(total, estimate(open_.pop(row.data["call"]), characters))
            open_[row.data["call"]], characters = row.data, 0
            total.calls += 1
        elif row.type == DELTA:
            characters += row.characters
        else:
            open_.pop(row.data["call"], None)
            add(total, row.data)
    for started in open_.values():
        add(total, estimate(started, characters))
    return total


def estimate(started: dict[str, Any], characters: int) -> dict[str, Any]:
    """What a call without an end has used."""
    given, made = started["input_tokens"], characters // CHARACTERS_PER_TOKEN
    price = llm_settings().llm_prices.get(started["model"])
    cost = None if price is None else round((given * price[0] + made * price[1]) * started.get("share", 1))
    return {"input_tokens": given, "output_tokens": made, "cost": cost, "exact": False}


def add(total: UsageOut, call: dict[str, Any]) -> None:
    """Add a call to the sum."""
    total.input_tokens += call["input_tokens"]
    total.output_tokens += call["output_tokens"]
    total.cost = None if total.cost is None or call["cost"] is None else total.cost + call["cost"]
    total.exact = total.exact and (call["exact"] or not call["input_tokens"] + call["output_tokens"])
