"""Long work that is accepted with 202 and followed at its Location, while its workers die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx2

from evals.stage import POLL_SECONDS, Stage
from support.wait import eventually
from world.client import hang

EXPECTATIONS = (
    "the request is answered with 202 and a Location",
    "nothing that was accepted is lost",
    "nothing is done twice",
    "the status at the Location becomes one of success",
    "a job that does not exist is 404",
)
JOBS = 6
SUCCESS = {"succeeded", "success", "successful", "done", "completed", "complete", "finished", "ready"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"

Submit = Callable[[httpx2.AsyncClient, int], Awaitable[httpx2.Response]]
Effects = Callable[[Stage], Awaitable[list[Hashable]]]


@dataclass(frozen=True)
class Work:
    """How to ask for piece number N, and where its effect is seen, as N."""

    name: str
    submit: Submit
    effects: Effects


async def play(stage: Stage, work: Work) -> None:
    """Submit, kill all in the middle of it, submit more, and follow every job to its end."""
    places: dict[int, str] = {}
    await stage.world.script("llm", hang(2.0, times=JOBS))

    async def wave(numbers: range) -> None:
        async with stage.client() as client:
            for number in numbers:
                try:
                    answer = await work.submit(client, number)
                except httpx2.HTTPError:
                    continue
                if answer.status_code == HTTPStatus.ACCEPTED and "Location" in answer.headers:
                    places[number] = answer.headers["Location"]

    async def begun() -> bool:
        stage.deployment.keep_up()
        return bool(await stage.world.calls("llm") or await work.effects(stage))

    await wave(range(1, JOBS + 1))
    with suppress(AssertionError):  # the account tells
        await eventually(begun, stage.patience)
    await asyncio.to_thread(stage.deployment.kill)
    await asyncio.to_thread(stage.deployment.start)
    await wave(range(JOBS + 1, 2 * JOBS + 1))
    stage.find(EXPECTATIONS[0], f"{len(places)} of {2 * JOBS}", passed=len(places) == 2 * JOBS)
    await stage.account(work.name, places, lambda: work.effects(stage))
    async with stage.client() as client:
        states = await followed(stage, client, list(places.values()))
        good = bool(states) and set(states) <= SUCCESS
        stage.find(EXPECTATIONS[3], ", ".join(sorted(set(states))) or "no job", passed=good)
        code = (
            await client.get(f"{next(iter(places.values()), '/').rpartition('/')[0]}/{UNKNOWN}")
        ).status_code
    stage.find(EXPECTATIONS[4], f"HTTP {code}", passed=bool(places) and code == HTTPStatus.NOT_FOUND)


async def followed(stage: Stage, client: httpx2.AsyncClient, places: list[str]) -> list[str]:
    """The state of each job, as soon as it is one of success, or at the end of the patience."""
    end = time.monotonic() + stage.patience
    states: list[str] = []
    for place in places:
        state = await state_at(client, place)
        while state not in SUCCESS and time.monotonic() < end:
            await asyncio.sleep(POLL_SECONDS)
            state = await state_at(client, place)
        states.append(state)
    return states


async def state_at(client: httpx2.AsyncClient, place: str) -> str:
    """The field `status` or `state` of the answer, in small letters."""
    answer = await client.get(place)
    if answer.status_code != HTTPStatus.OK:
        return f"HTTP {answer.status_code}"
    body: Any = answer.json()
    return str(body.get("status") or body.get("state") or "no status").lower()
