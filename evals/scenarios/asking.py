"""Long work that is asked for, and followed at its Location."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count, islice
from typing import Any
from urllib.parse import urlsplit

import httpx2

from evals.stage import POLL_SECONDS, Stage
from evals.traps import Traps
from support.ledger import Ledger
from support.wait import eventually

SUCCESS = {"succeeded", "success", "successful", "done", "completed", "complete", "finished", "ready"}
FAILURE = ("fail", "error", "dead", "gave", "given", "abort", "cancel", "expire", "reject")

ID, WORD = re.compile(r"[\w-]*\d[\w-]*"), re.compile(r"[\w-]+")
ANOTHER_NUMBER = "1999999999"  # fits into 32 bits
CHANGED = 12  # characters at the end of an id: a UUID keeps its version
OTHERS = str.maketrans("0123456789abcdefABCDEF", "1234567890bcdefaBCDEFA")

Submit = Callable[[httpx2.AsyncClient, int], Awaitable[httpx2.Response]]
Effects = Callable[[Stage], Awaitable[list[Hashable]]]


@dataclass(frozen=True)
class Work:
    """How to ask for piece number N, and where its effect is seen, as N.

    key: N, as an expression over NEW, the row that is written to `table` in the end.
    """

    name: str
    submit: Submit
    effects: Effects
    table: str
    key: str


@dataclass
class Scene:
    """Work that is asked for on a stage; `places` are the Locations of what was accepted."""

    stage: Stage
    work: Work
    traps: Traps
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    places: dict[int, str] = field(default_factory=dict)

    def take(self, number: int) -> list[int]:
        """The next numbers."""
        return list(islice(self.numbers, number))

    async def ask(self, numbers: list[int]) -> list[int]:
        """Ask for these; those that were accepted."""
        async with self.stage.client() as client:
            for number in numbers:
                with suppress(httpx2.HTTPError):
                    answer = await self.work.submit(client, number)
                    if answer.status_code == HTTPStatus.ACCEPTED and "Location" in answer.headers:
                        self.places[number] = answer.headers["Location"]
        return [number for number in numbers if number in self.places]

    async def effects(self) -> list[Hashable]:
        """See Work."""
        return await self.work.effects(self.stage)

    async def begun(self, numbers: list[int]) -> None:
        """Wait until one of them is at work or done; the account tells when none ever is."""

        async def some() -> bool:
            self.stage.deployment.keep_up()
            return bool(await self.stage.world.calls("llm") or set(numbers) & set(await self.effects()))

        with suppress(AssertionError):
            await eventually(some, self.stage.patience)

    async def account(self, name: str, numbers: list[int]) -> Ledger:
        """See Stage."""
        return await self.stage.account(f"{self.work.name}, {name}", numbers, self.effects)

    async def note(self, name: str, numbers: list[int]) -> Ledger:
        """The account as it stands, without waiting for anything."""
        return self.stage.note(f"{self.work.name}, {name}", [*numbers], await self.effects())

    async def ended(
        self, numbers: list[int], seconds: float, enough: Callable[[], bool] = lambda: False
    ) -> str:
        """What the Location of the first says: once it is final, after `seconds`, or when it is `enough`."""
        state, end = "not accepted", time.monotonic() + seconds
        while numbers[0] in self.places and time.monotonic() < end and not enough():
            with suppress(httpx2.HTTPError):
                async with self.stage.client() as client:
                    state = await state_at(client, self.places[numbers[0]])
            if state in SUCCESS or failed(state):
                break
            await self.stage.keep_up_for(1)
        return state


def failed(state: str) -> bool:
    """Whether a state is final and none of success."""
    return any(word in state for word in FAILURE)


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


def unknown(place: str) -> str:
    """The Location of a job that does not exist: that of one that does, with another id of the same shape."""
    parts = urlsplit(place)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    *_, id_ = ID.finditer(path) if ID.search(path) else WORD.finditer(path)
    other = ANOTHER_NUMBER if id_[0].isdecimal() else id_[0][:-CHANGED] + id_[0][-CHANGED:].translate(OTHERS)
    return path[: id_.start()] + other + path[id_.end() :]


async def state_at(client: httpx2.AsyncClient, place: str) -> str:
    """The field `status` of the answer, which every ticket asks for, in small letters."""
    answer = await client.get(place)
    if answer.status_code != HTTPStatus.OK:
        return f"HTTP {answer.status_code}"
    body: Any = answer.json()
    status = body.get("status") if isinstance(body, dict) else None
    return str(status or "no status").lower()
