"""What `enqueue` adds to a transaction that places an order.

    python -m benchmarks.enqueue PAIRS

Each pair is the transaction without and with it, in turn first and second, so that a slow moment of the
machine hits both. Prints JSON: seconds of each, without a key and with one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from app.core.database import get_session
from app.core.outbox import enqueue
from app.schemas.orders import OrderItemIn
from app.services.orders import OrderService
from benchmarks.work import Work

TYPE = "bench.order.placed.v1"
ITEMS = [OrderItemIn(sku="A-1", quantity=2, unit_price_cents=500)]
WARMUP = 20


async def place(*, send: bool, keyed: bool) -> float:
    """Place an order, with or without a message about it; the seconds that it took, commit included."""
    begin = time.perf_counter()
    async with get_session() as session:
        order = await OrderService(session).place(1, ITEMS)
        if send:
            await enqueue(session, TYPE, Work(order_id=order.id), key=str(order.id) if keyed else None)
    return time.perf_counter() - begin


async def pairs(count: int, *, keyed: bool) -> list[tuple[float, float]]:
    """Seconds without and with `enqueue`, `count` times."""
    found = []
    for n in range(count + WARMUP):
        seconds = dict.fromkeys((False, True), 0.0)
        for send in (False, True) if n % 2 else (True, False):
            seconds[send] = await place(send=send, keyed=keyed)
        found.append((seconds[False], seconds[True]))
    return found[WARMUP:]


async def main(count: int) -> None:
    """Measure both ways."""
    found = {"without key": await pairs(count, keyed=False), "with key": await pairs(count, keyed=True)}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
