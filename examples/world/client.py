"""A helper to script the stub and to read what it saw."""

import asyncio
import time
from typing import Any, Self

import httpx2
from pydantic import TypeAdapter

from world.schemas import Behaviour, Call, Count, Effect, Script

_CALLS = TypeAdapter(list[Call])
_EFFECTS = TypeAdapter(list[Effect])
_COUNTS = TypeAdapter(dict[str, Count])


def ok(times: int | None = 1, *, answer: dict[str, Any] | None = None) -> Behaviour:
    """Do the work and answer; with `answer` if given."""
    return Behaviour(kind="ok", times=times, answer=answer)


def fail(
    status: int, times: int | None = 1, *, retry_after: float | str | None = None, effect: bool = False
) -> Behaviour:
    """Answer `status`; without doing the work, unless `effect` is set."""
    return Behaviour(kind="fail", times=times, status=status, retry_after=retry_after, effect=effect)


def hang(seconds: float, times: int | None = 1) -> Behaviour:
    """Do the work and answer `seconds` later."""
    return Behaviour(kind="hang", times=times, seconds=seconds)


def drop(times: int | None = 1, *, effect: bool = True) -> Behaviour:
    """Do the work, unless `effect` is unset, and close the connection without an answer."""
    return Behaviour(kind="drop", times=times, effect=effect)


class World:
    """A running stub, found at `base_url`. Use it as `async with World(base_url) as world`."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self._client = httpx2.AsyncClient(base_url=self.base_url, timeout=10.0)

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close the connection pool."""
        await self._client.aclose()

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point the shop's settings here."""
        return {
            "MAIL_URL": f"{self.base_url}/mail",
            "PAYMENT_URL": f"{self.base_url}/payments",
            "LLM_URL": f"{self.base_url}/llm",
        }

    def webhook_url(self, name: str) -> str:
        """Return the address of the webhook receiver `name`."""
        return f"{self.base_url}/webhooks/{name}"

    async def script(self, target: str, *behaviours: Behaviour) -> None:
        """Say how the next calls of `target` go, in place of what was said before.

        The target is "mail", "payments", "llm" or "webhooks/<name>".
        """
        script = Script(target=target, behaviour=list(behaviours))
        response = await self._client.post("/script", json=script.model_dump())
        response.raise_for_status()

    async def calls(self, target: str | None = None) -> list[Call]:
        """Return all calls, or those of one target, oldest first."""
        return _CALLS.validate_json(await self._get("/calls", target))

    async def effects(self, target: str | None = None) -> list[Effect]:
        """Return all work that was done, or that of one target, oldest first."""
        return _EFFECTS.validate_json(await self._get("/effects", target))

    async def counts(self) -> dict[str, Count]:
        """Return the numbers of calls and effects by target; a target without a call is left out."""
        return _COUNTS.validate_json(await self._get("/counts", None))

    async def reset(self) -> None:
        """Make the stub forget everything, scripts included, and let its waiting calls go on."""
        (await self._client.delete("/calls")).raise_for_status()

    async def wait_for_calls(self, target: str, number: int, *, deadline_s: float = 10.0) -> list[Call]:
        """Return the calls of `target` once there are `number`; `TimeoutError` after `deadline_s` seconds."""
        deadline = time.monotonic() + deadline_s
        while (seen := (await self.counts()).get(target, Count()).calls) < number:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{target} was called {seen} times, not {number}, in {deadline_s:g} s")
            await asyncio.sleep(0.02)
        return await self.calls(target)

    async def _get(self, path: str, target: str | None) -> bytes:
        response = await self._client.get(path, params={} if target is None else {"target": target})
        return response.raise_for_status().content
