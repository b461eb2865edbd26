"""Requests that mail somebody, while the provider, the workers and the servers go away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count

import httpx2

from evals.outages import brokers_restart, database_away, database_silent
from evals.stage import Stage
from support.ledger import Ledger
from support.wait import eventually
from world.client import drop, fail, hang

EXPECTATIONS = (
    "the request does not wait for the provider",
    "nothing that was accepted is lost",
    "nothing is done twice",
    "workers end with exit code 0 within 30 s of SIGTERM",
    "a database that is away for 25 s, then silent for 45 s, costs no mail",
    "a Redis that comes back empty costs no mail",
)
WAVE = 8
FOREVER = 3600
SLOW_SECONDS = 2.0


@dataclass
class Scene:
    """Bookings that are confirmed on a stage, each by a guest of its own."""

    stage: Stage
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    async def confirm(self, client: httpx2.AsyncClient) -> str | None:
        """Book and confirm; the guest, if that was accepted."""
        guest = f"guest{next(self.numbers)}@example.test"
        body = {"guest_email": guest, "room": "7", "amount_cents": 9000}
        with suppress(httpx2.HTTPError):
            booking = (await client.post("/bookings", json=body)).raise_for_status().json()["id"]
            answer = await client.post(f"/bookings/{booking}/confirm")
            return guest if answer.status_code < HTTPStatus.BAD_REQUEST else None
        return None

    async def wave(self) -> list[str]:
        """Confirm some bookings; the guests."""
        async with self.stage.client() as client:
            return [guest for _ in range(WAVE) if (guest := await self.confirm(client))]

    async def effects(self) -> list[Hashable]:
        """Guests that were mailed, as many times as they were."""
        return [effect.body["to"] for effect in await self.stage.world.effects("mail")]

    async def tried(self) -> bool:
        """Whether workers have called the provider some times; they may still have been starting."""
        self.stage.deployment.keep_up()
        return len(await self.stage.world.calls("mail")) >= WAVE // 2

    async def mailed(self) -> bool:
        """Whether any mail was sent."""
        self.stage.deployment.keep_up()
        return bool(await self.effects())

    async def account(self, name: str, guests: list[str]) -> Ledger:
        """See Stage."""
        return await self.stage.account(f"confirmations by mail, {name}", guests, self.effects)


async def play(stage: Stage) -> None:
    """The provider, the workers and the servers go away, one after the other."""
    scene = Scene(stage)
    await stage.world.script("mail", hang(FOREVER, times=None))
    async with stage.client() as client:
        answered = await scene.confirm(client) is not None
    stage.find(EXPECTATIONS[0], f"answered while the provider hung: {answered}", passed=answered)
    # From here on the provider is away, and the hanging calls end.
    await stage.world.reset()
    if not await die_and_deploy(scene):
        return  # it does nothing: the other faults would take minutes to say so again
    await outages(scene)
    done = Counter(await scene.effects())
    twice = sorted(str(guest) for guest, times in done.items() if times > 1)
    stage.find(EXPECTATIONS[2], f"twice, of {len(done)}: {', '.join(twice) or 'none'}", passed=not twice)


async def die_and_deploy(scene: Scene) -> bool:
    """All is killed while the provider is away; it drops connections; a deploy. Whether mail was sent."""
    stage = scene.stage
    await stage.world.script("mail", fail(503, times=None))
    guests = await scene.wave()
    with suppress(AssertionError):  # the account tells
        await eventually(scene.tried, stage.patience)
    await asyncio.to_thread(stage.deployment.kill)
    await stage.world.script("mail", drop(times=3))
    await asyncio.to_thread(stage.deployment.start)
    guests += await scene.wave()
    # The account tells; a worker that has just been started may die of SIGTERM.
    with suppress(AssertionError):
        await eventually(scene.mailed, stage.patience)
    await asyncio.to_thread(stage.deployment.redeploy)
    guests += await scene.wave()
    ledger = await scene.account("kill and deploy", guests)
    stage.find(EXPECTATIONS[1], ledger.line(), passed=bool(guests) and not ledger.lost)
    stage.find_clean_exit()
    return bool(ledger.executed)


async def outages(scene: Scene) -> None:
    """PostgreSQL away and silent, then Redis empty, with mail in hand and waiting."""
    stage = scene.stage
    guests = await scene.wave()
    await database_away(stage)
    guests += await scene.wave()
    await database_silent(stage)
    stage.find_done_once(EXPECTATIONS[4], await scene.account("database away and silent", guests))
    # The provider is slow, so that what was accepted is still in hand or waiting when the brokers go.
    await stage.world.script("mail", hang(SLOW_SECONDS, times=WAVE))
    guests = await scene.wave()
    await brokers_restart(stage, forget=True)
    guests += await scene.wave()
    stage.find_done_once(EXPECTATIONS[5], await scene.account("Redis empty", guests))
