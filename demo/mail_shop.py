"""A second copy of the shop: it confirms each order by an e-mail, over RabbitMQ. Its customers."""

from __future__ import annotations

from dataclasses import dataclass

import httpx2

from demo.guard import ROOT
from demo.load import Load
from demo.postgres import MAIL_DATABASE, Postgres
from demo.rabbit import CONSUMER, Rabbit
from demo.shop import Shop
from demo.stage import Stage

CHECKOUT = ROOT / "examples" / "order_email" / "checkout.py"
SERVICE = "app.services.emails:EmailService.send"
MAIL_SECONDS = 0.8  # until the provider answers
ADDRESS = "reader-{}@example.org"


class MailShop(Shop):
    """The copy and its API; the world outside is that of the first shop."""

    def __init__(self, stage: Stage, world_url: str) -> None:
        super().__init__(stage, "mail-shop")
        self.world_url = world_url

    async def add_workers(self, rabbit: Rabbit) -> None:
        """Run scripts/add_worker.py."""
        await self.add_worker("rabbitmq-consumer", CONSUMER, "--calls", SERVICE)
        await self.add_worker("outbox-relay")
        consumer = self.folder / "app" / "consumers" / f"{CONSUMER}.py"
        consumer.write_text(consumer.read_text().replace(f'name="{CONSUMER}"', f'name="{rabbit.queue}"'))

    def wire_mail(self, postgres: Postgres, rabbit: Rabbit) -> None:
        """Write what add_worker.py leaves to the developer: the route of the example, and the settings."""
        self.route("checkout", CHECKOUT.read_text())
        url = postgres.url(MAIL_DATABASE)
        self.set({"DATABASE_URL": url, "RABBITMQ_URL": rabbit.url, "RABBITMQ_EXCHANGE": rabbit.exchange})

    async def slow_mail(self) -> None:
        """Let the mail provider take a while, so that workers have something in hand when they are killed."""
        script = {
            "target": "mail",
            "behaviour": [{"kind": "hang", "times": None, "seconds": MAIL_SECONDS}],
        }
        async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
            (await client.post(f"{self.world_url}/script", json=script)).raise_for_status()


@dataclass
class MailLoad(Load):
    """Each order is of a customer of its own, whose e-mail address tells which."""

    shortest: float = 12.0

    async def _open(self, client: httpx2.AsyncClient) -> None:
        """Nobody is there yet."""

    async def buy(self, client: httpx2.AsyncClient, number: int, items: list[dict[str, object]]) -> int:
        """Register and place an order; the number. Raises NotAcceptedError."""
        api = self.shop.api_url
        body = {"email": ADDRESS.format(number), "name": "Ada"}
        customer = await self.post(client, f"{api}/customers", body)
        await self.post(client, f"{api}/checkout", {"customer_id": customer["id"], "items": items})
        return number
