"""The part of the demo with RabbitMQ: orders that are confirmed by e-mail, in a shop of their own."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from demo.errors import DemoError
from demo.ledger import Part
from demo.load import Load
from demo.mail_shop import MAIL_SECONDS, MailLoad, MailShop
from demo.mail_watch import MailWatch
from demo.news import News, some
from demo.postgres import MAIL_DATABASE, Postgres
from demo.process import end
from demo.rabbit import CONSUMER, Rabbit
from demo.replicas import RELAY, REPLICAS, Supervisor
from demo.shop import SOURCE, Shop
from demo.stage import Stage

PREFIX = "mail:"
RABBIT_AWAY = 1.0
TRIES = 3
PATIENCE = 20.0  # seconds without any progress


@dataclass
class Mail:
    """The second shop with its workers, and what is done to them."""

    stage: Stage
    news: News
    postgres: Postgres
    first_shop: Shop
    second_chances: dict[int, float] = field(default_factory=dict)
    absent: str = ""
    """Why this part is left out."""

    def __post_init__(self) -> None:
        self.rabbit = Rabbit(self.stage)
        self.shop = MailShop(self.stage, self.first_shop.world_url)
        self._ending = AsyncExitStack()

    async def prepare(self, database: asyncio.Event, world: asyncio.Event) -> None:
        """Everything up to workers that are ready; `database` and `world` say when these are there.

        Raises DemoError.
        """
        self._ending.push_async_callback(self.rabbit.close, f"{SOURCE}:None:None/{MAIL_DATABASE}")
        starting = asyncio.ensure_future(self._start_rabbit())
        try:
            self.shop.copy()
            await self.shop.add_workers(self.rabbit)
            self.shop.wire_mail(self.postgres, self.rabbit)
            await database.wait()
            await self.shop.migrate()
            self.absent = await starting
        finally:
            starting.cancel()
        if not self.absent:
            await self._start_workers(world)

    async def _start_rabbit(self) -> str:
        """Why there is no RabbitMQ; empty when there is. Raises DemoError for one that the person named."""
        try:
            await self.rabbit.start()
        except DemoError as error:
            if self.rabbit.node is None:
                raise
            return f"{error}: this part is left out"
        return ""

    async def _start_workers(self, world: asyncio.Event) -> None:
        workers = {CONSUMER: REPLICAS, RELAY: 1}
        self.workers = Supervisor(self.stage, self.shop.folder, self.news, workers, PREFIX)
        self._ending.push_async_callback(self._end_workers)
        await asyncio.gather(self.shop.start_api(), self.workers.until_ready(), world.wait())
        await self.shop.slow_mail()
        database = await self.postgres.connect(MAIL_DATABASE)
        self.watch = MailWatch(database, self.rabbit, self.shop.world_url)
        self._ending.push_async_callback(self.watch.close)

    async def look_after(self) -> None:
        """Look after the workers and take the figures, until cancelled."""
        await asyncio.gather(self.workers.run(), self.watch.run())

    # -- orders and faults -----------------------------------------------------------------------------

    def open(self, orders: int, seed: int) -> Load:
        """The customers."""
        self.load = MailLoad(self.shop, orders, seed)
        return self.load

    async def play(self) -> None:
        """Orders and faults, until nothing is under way any more."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.load.run())
            tasks.create_task(self._faults())
        await self._quiet()

    async def _faults(self) -> None:
        await self.load.reached(0.25)
        await self._kill_consumer()
        await self.load.reached(0.5)
        await self._kill_rabbit()

    async def _kill_consumer(self) -> None:
        """Kill a consumer whose e-mails are sent and not logged: they must not be sent again.

        It is stopped first, and the others finish what they have in hand: what is left then is its own.
        """
        victim = self.workers.of(CONSUMER)[0]
        pid, held = victim.process.pid, set[int]()
        for _ in range(TRIES):
            victim.process.send(signal.SIGSTOP)
            stopped = time.time()
            await asyncio.sleep(MAIL_SECONDS + 0.4)
            held = await self.watch.unfinished(before=stopped)
            if held:
                break
            victim.process.send(signal.SIGCONT)
            await asyncio.sleep(MAIL_SECONDS)
        victim.process.kill()
        self._need_second_chance(held)
        self.news.tell(f"kill -9 {victim.name}, pid {pid}, with {some(len(held))} sent and not yet logged")

    def _need_second_chance(self, orders: Iterable[int]) -> None:
        now = time.time()
        for order in orders:
            self.second_chances.setdefault(order, now)

    async def _kill_rabbit(self) -> None:
        """Kill RabbitMQ, if it is the demo's own, and start it again with its data."""
        node = self.rabbit.node
        if node is None:
            self.news.tell("rabbitmq is not the demo's own and lives on")
            return
        node.kill()
        self.news.tell("kill -9 rabbitmq; orders are accepted all the same")
        await asyncio.sleep(RABBIT_AWAY)
        await self.rabbit.start()
        assert node.process is not None, "it was started"
        self.news.tell(f"rabbitmq is started again, with its data, pid {node.process.pid}")

    async def _quiet(self) -> None:
        """Wait until all is done, or nothing has moved for a while: then something is lost."""
        moved, seen = time.monotonic(), -1
        while time.monotonic() - moved < PATIENCE:
            figures = await self.watch.look()
            settled = not figures.outbox and figures.queue == 0
            if settled and figures.done >= len(self.load.accepted) and self._all_ready:
                return
            if figures.done != seen:
                seen, moved = figures.done, time.monotonic()
            await asyncio.sleep(0.1)

    @property
    def _all_ready(self) -> bool:
        return self.workers.ready == len(self.workers.replicas)

    async def account(self) -> Part:
        """What this part has to account for."""
        load = self.load
        return Part(load.attempted, load.accepted, await self.watch.effects(), self.second_chances)

    async def _end_workers(self) -> None:
        """Close the connections. Where RabbitMQ is not the demo's own, they end before it is cleaned."""
        if self.rabbit.node is None:
            processes = [replica.process for replica in self.workers.replicas]
            await asyncio.to_thread(end, processes)
            for process in processes:
                self.stage.forget(process)
        await self.workers.close()

    async def close(self) -> None:
        """Close what was opened so far. In a RabbitMQ that is not the demo's own nothing stays behind."""
        await self._ending.aclose()
