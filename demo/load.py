"""The customers: they place orders and pay, over HTTP, a few at a time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import httpx2

from demo.errors import DemoError
from demo.shop import Shop

CONCURRENCY = 16
ORDERS_PER_SECOND = 40.0
SHORTEST = 8.0  # seconds: the faults need some time to happen in
PAUSES = (0.1, 0.3, 1.0, 2.0, 0.0)


class NotAcceptedError(Exception):
    """The API did not confirm, in spite of several attempts."""


@dataclass
class Load:
    """Places `orders` orders at an even pace and pays each."""

    shop: Shop
    orders: int
    seed: int
    attempted: int = 0
    accepted: list[int] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    retries: int = 0
    shortest: float = SHORTEST
    _customer: int = 0

    @property
    def pace(self) -> float:
        """Orders per second, at most."""
        return min(ORDERS_PER_SECOND, self.orders / self.shortest)

    async def run(self) -> None:
        """Send all orders; returns when each was accepted or given up."""
        draw = random.Random(self.seed)
        limits = httpx2.Limits(max_connections=2 * CONCURRENCY)
        async with httpx2.AsyncClient(trust_env=False, timeout=10, limits=limits) as client:
            await self._open(client)
            slots = asyncio.Semaphore(CONCURRENCY)
            begin = asyncio.get_running_loop().time()
            async with asyncio.TaskGroup() as tasks:
                for number in range(self.orders):
                    await asyncio.sleep(begin + number / self.pace - asyncio.get_running_loop().time())
                    await slots.acquire()
                    items = [self._item(draw) for _ in range(draw.randint(1, 3))]
                    task = tasks.create_task(self._buy(client, number, items))
                    task.add_done_callback(lambda _: slots.release())

    async def reached(self, fraction: float) -> None:
        """Wait until this part of the orders was sent."""
        while self.attempted < fraction * self.orders:
            await asyncio.sleep(0.02)

    def _item(self, draw: random.Random) -> dict[str, object]:
        return {
            "sku": f"book-{draw.randint(1, 99)}",
            "quantity": draw.randint(1, 3),
            "unit_price_cents": draw.randint(500, 5000),
        }

    async def _open(self, client: httpx2.AsyncClient) -> None:
        """Register the customer."""
        body = {"email": "ada@example.org", "name": "Ada"}
        try:
            self._customer = int((await self.post(client, f"{self.shop.api_url}/customers", body))["id"])
        except NotAcceptedError as error:
            raise DemoError(f"the API takes no customer: {error}") from error

    async def _buy(self, client: httpx2.AsyncClient, number: int, items: list[dict[str, object]]) -> None:
        self.attempted += 1
        try:
            accepted = await self.buy(client, number, items)
        except NotAcceptedError as error:
            self.refusals.append(str(error))
        else:
            self.accepted.append(accepted)

    async def buy(self, client: httpx2.AsyncClient, number: int, items: list[dict[str, object]]) -> int:
        """Place an order, pay at the provider, and let the provider notify the shop; the order's id.

        Raises NotAcceptedError.
        """
        api, world = self.shop.api_url, self.shop.world_url
        order = await self.post(client, f"{api}/orders", {"customer_id": self._customer, "items": items})
        charge = {"order_id": order["id"], "amount_cents": order["total_cents"]}
        payment = await self.post(client, f"{world}/payments/captures", charge, key=f"order-{number}")
        notice = {"payment_reference": payment["reference"]}
        await self.post(client, f"{api}/orders/{order['id']}/payments", notice)
        return int(order["id"])

    async def post(
        self, client: httpx2.AsyncClient, url: str, body: dict[str, Any], key: str | None = None
    ) -> dict[str, Any]:
        """The answer to a POST, repeated while the server is at fault. Raises NotAcceptedError."""
        problem = ""
        for pause in PAUSES:
            try:
                answer = await client.post(url, json=body, headers={"Idempotency-Key": key} if key else {})
            except httpx2.TransportError as error:
                problem = f"{url}: {error!r}"
            else:
                if answer.is_success:
                    result: dict[str, Any] = answer.json()
                    return result
                problem = f"{url}: {answer.status_code} {answer.text[:200]}"
                if not answer.is_server_error:
                    break
            self.retries += 1
            await asyncio.sleep(pause)
        raise NotAcceptedError(problem)
