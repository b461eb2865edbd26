"""Requests that mail somebody, while the provider is away, drops connections, and everything is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextlib import suppress
from http import HTTPStatus

import httpx2

from evals.stage import Stage
from support.wait import eventually
from world.client import drop, fail, hang

EXPECTATIONS = (
    "the request does not wait for the provider",
    "nothing that was accepted is lost",
    "nothing is done twice",
    "workers end with exit code 0 within 30 s of SIGTERM",
)
WAVE = 8
FOREVER = 3600


async def play(stage: Stage) -> None:
    """Three waves: the provider is away and all is killed; it drops connections; a deploy."""
    accepted: list[str] = []
    numbers = iter(range(1, 1000))

    async def confirm(client: httpx2.AsyncClient) -> bool:
        guest = f"guest{next(numbers)}@example.test"
        try:
            body = {"guest_email": guest, "room": "7", "amount_cents": 9000}
            booking = (await client.post("/bookings", json=body)).raise_for_status().json()["id"]
            answer = await client.post(f"/bookings/{booking}/confirm")
        except httpx2.HTTPError:
            return False
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            accepted.append(guest)
        return answer.status_code < HTTPStatus.BAD_REQUEST

    async def wave() -> None:
        async with stage.client() as client:
            for _ in range(WAVE):
                await confirm(client)

    async def effects() -> list[Hashable]:
        return [effect.body["to"] for effect in await stage.world.effects("mail")]

    async def mailed() -> bool:
        stage.deployment.keep_up()
        return bool(await effects())

    await stage.world.script("mail", hang(FOREVER, times=None))
    async with stage.client() as client:
        answered = await confirm(client)
    stage.find(EXPECTATIONS[0], f"answered while the provider hung: {answered}", passed=answered)
    # From here on the provider is away, and the hanging calls end.
    accepted.clear()
    await stage.world.reset()
    await stage.world.script("mail", fail(503, times=None))
    await wave()
    await asyncio.to_thread(stage.deployment.kill)
    await stage.world.script("mail", drop(times=3))
    await asyncio.to_thread(stage.deployment.start)
    await wave()
    with suppress(
        AssertionError
    ):  # the account tells; a worker that has just been started may die of SIGTERM
        await eventually(mailed, stage.patience)
    await asyncio.to_thread(stage.deployment.redeploy)
    await wave()
    await stage.account("confirmations by mail", accepted, effects)
    stage.find_clean_exit()
