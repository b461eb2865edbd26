"""Reads from PostgreSQL, RabbitMQ and the mail provider what has become of orders and e-mails."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import httpx2

from demo.rabbit import Rabbit

FIGURES = """
    SELECT (SELECT count(*) FROM outbox_message WHERE sent_at IS NULL AND refused IS NULL),
           (SELECT count(*) FROM email_log)
"""
LOGGED = """
    SELECT c.email, extract(epoch FROM e.sent_at)::float8
    FROM email_log e JOIN customer c ON c.id = e.customer_id
"""


@dataclass
class MailFigures:
    """Where the messages are. `queue` is None while RabbitMQ is away."""

    outbox: int = 0
    queue: int | None = 0
    done: int = 0


class MailWatch:
    """Takes the figures."""

    def __init__(self, database: asyncpg.Connection, rabbit: Rabbit, world_url: str) -> None:
        self._database, self._rabbit, self._world_url = database, rabbit, world_url
        self._asking = asyncio.Lock()  # a connection answers one question at a time
        self._client = httpx2.AsyncClient(trust_env=False, timeout=5)
        self.figures = MailFigures()

    async def run(self) -> None:
        """Take the figures until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(0.2)

    async def look(self) -> MailFigures:
        """Take the figures now."""
        self.figures.queue = await self._rabbit.waiting()
        async with self._asking:
            row = await self._database.fetchrow(FIGURES)
        assert row is not None, "two counts are always a row"
        self.figures.outbox, self.figures.done = row
        return self.figures

    async def logged(self) -> list[tuple[int, float]]:
        """Order and time of each e-mail that the shop has logged; the time is that of the transaction."""
        async with self._asking:
            return [(number_of(row[0]), row[1]) for row in await self._database.fetch(LOGGED)]

    async def sent(self) -> list[tuple[int, float]]:
        """Order and time of each e-mail that the provider has sent."""
        answer = await self._client.get(f"{self._world_url}/effects", params={"target": "mail"})
        effects = answer.raise_for_status().json()
        return [(number_of(e["body"]["to"]), datetime.fromisoformat(e["at"]).timestamp()) for e in effects]

    async def unfinished(self, before: float) -> set[int]:
        """Orders whose e-mail was sent before this moment and is not logged."""
        logged = {number for number, _ in await self.logged()}
        return {number for number, at in await self.sent() if at < before} - logged

    async def effects(self) -> list[tuple[int, float]]:
        """Order and time of each time that an order was confirmed: as logged, and what was sent beyond."""
        logged, sent = await self.logged(), await self.sent()
        beyond = Counter(number for number, _ in sent) - Counter(number for number, _ in logged)
        return logged + [(number, at) for number, at in reversed(sent) if take(beyond, number)]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._database.close()


def take(counts: Counter[int], number: int) -> bool:
    """Whether there is one left of this number, which then is taken."""
    counts[number] -= 1
    return counts[number] >= 0


def number_of(address: str) -> int:
    """The order of the customer with this address."""
    return int("".join(re.findall(r"\d+", address)))
