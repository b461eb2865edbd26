"""From an order placed over HTTP to its e-mail, over RabbitMQ, while everything dies in turn."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx2
import pytest

from support.ledger import Ledger
from support.ports import free_port
from support.scene import RabbitScene
from support.servers import RabbitServer
from support.wait import eventually
from support.workers import IMPORT_PATH, ROOT, WorkerProcess
from support.world import running_world
from world.client import World, drop, fail, hang
from world.schemas import Effect

EXAMPLE = [*IMPORT_PATH, ROOT / "examples"]
ORDERS = 150
NOBODY = 1_000_000  # no customer has this id


@dataclass
class Shop:
    """The example's API, relay and consumers; each order is of a customer of its own."""

    scene: RabbitScene
    world: World
    client: httpx2.AsyncClient
    attempted: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)

    async def buy(self, number: int) -> None:
        """Register a customer and place an order; every tenth one is for a customer that nobody knows."""
        email = f"customer-{number}@example.org"
        self.attempted.add(email)
        answer = await self.client.post("/customers", json={"email": email, "name": "Ada"})
        customer = NOBODY if number % 10 == 9 else answer.raise_for_status().json()["id"]
        items = [{"sku": "book", "quantity": 1, "unit_price_cents": 900}]
        answer = await self.client.post("/checkout", json={"customer_id": customer, "items": items})
        assert answer.status_code == (404 if customer == NOBODY else 201), answer.text
        if answer.is_success:
            self.accepted.add(email)

    async def mails(self) -> list[Effect]:
        """What the mail provider has sent."""
        return await self.world.effects("mail")

    async def sent(self, number: int) -> bool:
        """Whether so many mails were sent."""
        return len(await self.mails()) >= number

    async def kill(self, worker: WorkerProcess) -> None:
        """Kill a worker and start another one in its place, as its supervisor would."""
        worker.kill9()
        start(self.scene, self.world, worker.name)


@pytest.fixture
async def shop(postgres_url: str, own_rabbit: RabbitServer) -> AsyncIterator[Shop]:
    """The example, running."""
    with RabbitScene(postgres_url, own_rabbit, topic="shop.order.placed", group="order_placed") as scene:
        async with running_world() as world:
            url = f"http://127.0.0.1:{free_port()}"
            command = [
                sys.executable,
                "-m",
                "uvicorn",
                "order_email.main:app",
                "--port",
                url.rpartition(":")[2],
            ]
            api = WorkerProcess("api", {"DATABASE_URL": postgres_url}, command=command, import_path=EXAMPLE)
            scene.workers.append(api.start())
            for name in ("rabbit_relay", "order_placed", "order_placed"):
                start(scene, world, name)
            await api.until_ready(url=f"{url}/health")
            async with httpx2.AsyncClient(base_url=url, timeout=20) as client:
                yield Shop(scene, world, client)


def start(scene: RabbitScene, world: World, name: str) -> None:
    """Start a worker of the example."""
    settings = {
        "DATABASE_URL": scene.postgres_url,
        "DB_POOL_SIZE": "12",
        **scene.environment(),
        **world.environment(),
        **scene.settings,
    }
    scene.workers.append(WorkerProcess(name, settings, import_path=EXAMPLE).start())


async def test_each_order_has_one_email_whatever_dies(shop: Shop, own_rabbit: RabbitServer) -> None:
    # Given a slow mail provider that at first fails, and then drops connections after its work
    await shop.world.script("mail", fail(503, 10), drop(5), hang(0.1, None))
    scene = shop.scene
    relay, consumer = scene.workers[1], scene.workers[2]

    # When customers order all the time
    async def customers() -> None:
        for first in range(0, ORDERS, 5):
            await asyncio.gather(*(shop.buy(number) for number in range(first, first + 5)))

    orders = asyncio.ensure_future(customers())
    # While a consumer, the relay and RabbitMQ are killed
    await eventually(lambda: shop.sent(20), 60, "the first mails are sent")
    await shop.kill(consumer)
    await eventually(lambda: shop.sent(40), 60, "others go on")
    await shop.kill(relay)
    await eventually(lambda: shop.sent(60), 60, "another relay goes on")
    own_rabbit.kill()
    await orders
    await asyncio.to_thread(own_rabbit.start)

    # Then every order that was accepted is confirmed by one e-mail, and nothing is left anywhere
    async def all_sent() -> bool:
        return shop.accepted <= {mail.body["to"] for mail in await shop.mails()}

    await eventually(all_sent, 60, "all orders are confirmed")
    await eventually(lambda: scene.left() == 0, 30, "all messages are acknowledged")
    assert scene.dead() == []
    logged = await scene.sql("SELECT count(*) FROM email_log")
    assert logged[0][0] == len(shop.accepted)
    calls = Counter(json.loads(call.raw)["to"] for call in await shop.world.calls("mail"))
    Ledger.of(
        "from the order to its e-mail over RabbitMQ; consumer, relay and broker killed",
        attempted=shop.attempted,
        accepted=shop.accepted,
        effects=[mail.body["to"] for mail in await shop.mails()],
        recovered=sum(count > 1 for count in calls.values()),
    ).assert_clean()
