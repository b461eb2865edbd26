"""Reads from PostgreSQL and Redis where the messages are; takes no part in their transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import asyncpg
from redis.exceptions import RedisError, ResponseError

from demo.redis_server import connect_redis

STREAM, GROUP = "shop.order.paid", "order_paid"
DEAD = f"{{{STREAM}}}:dead:{GROUP}"
PARKED = "~parked"  # the name under which entries wait for a retry (templates: stream_scripts.py)
PAGE = 5000
HOLD_STILL_MS = 3000
ANSWER_SECONDS = 2.0

# Rows that are locked are in the hands of a relay.
SENDING = """
    WITH free AS (SELECT seq FROM outbox_message WHERE sent_at IS NULL FOR UPDATE SKIP LOCKED)
    SELECT (body::json -> 'data' ->> 'order_id')::bigint AS order_id
    FROM outbox_message WHERE sent_at IS NULL AND seq NOT IN (SELECT seq FROM free)
"""
FIGURES = """
    SELECT (SELECT count(*) FROM outbox_message WHERE sent_at IS NULL AND refused IS NULL),
           (SELECT count(DISTINCT order_id) FROM order_event WHERE kind = 'paid')
"""
PAID = "SELECT order_id, extract(epoch FROM at)::float8 FROM order_event WHERE kind = 'paid'"


@dataclass
class Figures:
    """Where the messages are."""

    outbox: int = 0
    stream: int = 0
    in_hand: int = 0
    retrying: int = 0
    done: int = 0
    dead: int = 0
    redis_up: bool = True

    @property
    def under_way(self) -> int:
        """How many are neither done nor dead."""
        return self.outbox + self.stream + self.in_hand + self.retrying


class Watch:
    """Takes the figures, and notes since when the message of an order needed a second chance."""

    def __init__(self, database: asyncpg.Connection, redis_url: str) -> None:
        self._database = database
        self._asking = asyncio.Lock()  # a connection answers one question at a time
        self._redis: Any = connect_redis(redis_url)
        self.figures = Figures()
        self.second_chances: dict[int, float] = {}
        self._orders: dict[str, int] = {}  # by the id of the entry
        self._last = "0-0"

    async def run(self) -> None:
        """Take the figures until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(0.2)

    async def look(self) -> Figures:
        """Take the figures now."""
        figures = self.figures
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._read_stream()
                await self._group(figures)
                figures.dead = await self._redis.xlen(DEAD)
            figures.redis_up = True
        except (RedisError, OSError):
            figures.redis_up = False
            figures.stream = figures.in_hand = figures.retrying = 0
        async with self._asking:
            row = await self._database.fetchrow(FIGURES)
        assert row is not None, "two counts are always a row"
        figures.outbox, figures.done = row
        return figures

    async def _read_stream(self) -> None:
        """Note which orders new entries are about. XRANGE takes nothing away from anybody."""
        while entries := await self._redis.xrange(STREAM, min=f"({self._last}", count=PAGE):
            for id_, fields in entries:
                self._orders[id_] = order_of(fields)
            self._last = entries[-1][0]

    async def _group(self, figures: Figures) -> None:
        figures.stream = len(await self._unread())
        try:
            consumers = await self._redis.xinfo_consumers(STREAM, GROUP)
        except ResponseError:  # Redis came back empty, nobody has made the group yet
            consumers = []
        held = {consumer["name"]: consumer["pending"] for consumer in consumers}
        figures.retrying = held.pop(PARKED, 0)
        figures.in_hand = sum(held.values())

    async def _unread(self) -> list[tuple[str, dict[str, str]]]:
        """The entries behind the last one that was given to a worker."""
        try:
            groups = await self._redis.xinfo_groups(STREAM)
        except ResponseError:  # no stream
            return []
        last = next((group["last-delivered-id"] for group in groups if group["name"] == GROUP), "0-0")
        return list(await self._redis.xrange(STREAM, min=f"({last}", count=PAGE))

    async def in_hands_of(self, pid: int) -> set[int]:
        """The orders whose messages the process holds; its pid is part of its consumer's name."""
        try:
            consumers = await self._redis.xinfo_consumers(STREAM, GROUP)
            names = [c["name"] for c in consumers if f"-{pid}-" in c["name"] and c["pending"]]
            held = [await self._redis.xpending_range(STREAM, GROUP, "-", "+", PAGE, name) for name in names]
            await self._read_stream()
        except (RedisError, OSError):
            return set()
        return {self._orders[entry["message_id"]] for entries in held for entry in entries}

    async def in_hands_of_relays(self) -> set[int]:
        """The orders whose messages a relay is sending right now."""
        async with self._asking:
            return {row["order_id"] for row in await self._database.fetch(SENDING)}

    async def unread(self) -> set[int]:
        """The orders whose messages are in Redis and were given to no worker."""
        return {order_of(fields) for _, fields in await self._unread()}

    async def hold_still(self) -> None:
        """Let Redis answer questions only, for a moment: what is asked then stays true."""
        await self._redis.client_pause(HOLD_STILL_MS, all=False)

    def need_second_chance(self, orders: Iterable[int], since: float) -> None:
        """The messages of these orders are gone, or in the hands of a worker that is dead. Orders that were
        paid before do not matter; the ledger compares the times.
        """
        for order in orders:
            self.second_chances.setdefault(order, since)

    async def paid(self) -> list[tuple[int, float]]:
        """Order and time of each event of kind 'paid'."""
        async with self._asking:
            return [(row[0], row[1]) for row in await self._database.fetch(PAID)]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._database.close()


def order_of(fields: dict[str, str]) -> int:
    """The order that an entry of the stream is about."""
    return int(json.loads(fields["event"])["data"]["order_id"])
