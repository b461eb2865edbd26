"""The relay's adapter for Redis Streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from app.core.broker import BrokerDownError, Loss, Outgoing
from app.core.redis_stream import EVENT, REDIS_FAILURES, connect, refuse_eviction, say

CHUNK = 200
# Errors of one command that say something about the message and nothing about the server.
REFUSALS = ("WRONGTYPE", "ERR string exceeds")


class RedisBroker:
    """Adds messages to streams, and notices when Redis has forgotten what it had confirmed.

    Redis confirms from memory. It may come back empty (no persistence, a new machine) or without its last
    second (`appendfsync everysec`, a failover). A key with the id of the server's run tells both: missing
    means all is lost, another run means that the last moments may be.
    """

    def __init__(self, url: str) -> None:
        self._client = connect(url, socket_timeout=5)
        self._accepted = False

    async def publish(self, messages: Sequence[Outgoing]) -> list[str | None]:
        """See Broker. Sent in transactions: a server that runs out of memory takes all of them or none,
        so that the order holds.
        """
        results: list[str | None] = []
        for start in range(0, len(messages), CHUNK):
            chunk = messages[start : start + CHUNK]
            try:
                results += [verdict(answer) for answer in await self._add(chunk)]
            except REDIS_FAILURES as error:
                if not results:
                    raise BrokerDownError(f"Redis: {say(error)}") from error
                break  # what came before is confirmed; the caller sends the rest again
        return results

    async def _add(self, chunk: Sequence[Outgoing]) -> list[Any]:
        async with self._client.pipeline(transaction=True) as pipe:
            for message in chunk:
                pipe.xadd(message.topic, {EVENT: message.body})
            return list(await pipe.execute(raise_on_error=False))

    async def loss(self, owner: str) -> Loss:
        """See Broker. Raises RefusedToStartError, the first time, for a Redis that deletes messages."""
        try:
            if not self._accepted:
                await refuse_eviction(self._client)
                self._accepted = True
            mark: Any = await self._client.get(mark_of(owner))
            run = await self._run()
        except REDIS_FAILURES as error:
            raise BrokerDownError(f"Redis: {say(error)}") from error
        if mark is None:
            return Loss.ALL
        return Loss.NONE if mark.decode() == run else Loss.RECENT

    async def remember(self, owner: str) -> None:
        """See Broker."""
        try:
            await self._client.set(mark_of(owner), await self._run())
        except REDIS_FAILURES as error:
            raise BrokerDownError(f"Redis: {say(error)}") from error

    async def _run(self) -> str:
        return str((await self._client.info("server"))["run_id"])

    async def close(self) -> None:
        """See Broker."""
        await self._client.aclose()


def mark_of(owner: str) -> str:
    """The key that an outbox leaves behind."""
    return f"outbox:{owner}:run"


def verdict(answer: Any) -> str | None:
    """None for a confirmation, the reason for a refusal; any other error of the server is raised."""
    if isinstance(answer, ResponseError) and str(answer).rpartition("caused error: ")[2].startswith(REFUSALS):
        return say(answer)
    if isinstance(answer, Exception):
        raise answer
    return None
