"""The first half of the demo: from an empty folder to workers that are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from demo import cron
from demo.mail import Mail
from demo.mail_shop import MAIL_SECONDS
from demo.news import News
from demo.postgres import Postgres
from demo.rabbit import ABSENT
from demo.rabbit import CONSUMER as CONSUMER_OF_MAIL
from demo.redis_server import RedisServer
from demo.replicas import CONSUMER, RELAY, REPLICAS, SCHEDULER, Supervisor
from demo.screen import BOLD, Screen
from demo.shop import PAYMENT_SECONDS, QUICK, SERVICE, Shop
from demo.stage import Stage

T = TypeVar("T")

STEPS = 7


@dataclass
class Preparation:
    """The steps, each with a line of its own on the screen."""

    stage: Stage
    screen: Screen
    shop: Shop
    postgres: Postgres
    redis: RedisServer
    mail: Mail | None
    step: int = 0
    database: asyncio.Event = field(default_factory=asyncio.Event)
    world: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, news: News) -> Supervisor:
        """Take all steps; the workers, ready. Raises DemoError."""
        servers = asyncio.ensure_future(self._start_servers())
        mail = asyncio.ensure_future(self._prepare_mail())
        try:
            self.shop.copy()
            self._done("shop", f"a fresh copy in {self.shop.folder}")
            await self._add_workers()
            await self._wait("PostgreSQL and Redis start", servers)
            await self._migrate()
            await self._wait("the API starts", self.shop.start())
            self.world.set()
            self._done("API", f"{self.shop.api_url}/docs; a stub takes the payments")
            workers = await self._start_workers(news)
            self._done("RabbitMQ", *await self._wait("RabbitMQ and its workers start", mail))
        finally:
            servers.cancel()
            mail.cancel()
            await asyncio.gather(servers, mail, return_exceptions=True)
        return workers

    async def _start_servers(self) -> None:
        await self.postgres.start()
        self.database.set()
        await self.redis.start()

    async def _prepare_mail(self) -> list[str]:
        """Prepare the part with RabbitMQ; what is to be said of it."""
        if self.mail is None:
            return [ABSENT]
        await self.mail.prepare(self.database, self.world)
        if self.mail.absent:
            return [self.mail.absent]
        rabbit = self.mail.rabbit
        whose = "started here" if rabbit.node is not None else "that of RABBITMQ_URL"
        return [
            f"{rabbit.version}, {whose}; a second shop with {REPLICAS} {CONSUMER_OF_MAIL}, 1 {RELAY}",
            f"demo only: sending an e-mail takes {MAIL_SECONDS:g} s",
        ]

    async def _add_workers(self) -> None:
        consumer = self.shop.add_worker("redis-consumer", CONSUMER, "--calls", SERVICE)
        reports = [await self._wait(f"add_worker.py adds {CONSUMER}", consumer)]
        reports.append(await self._wait(f"add_worker.py adds {RELAY}", self.shop.add_worker("outbox-relay")))
        job = self.shop.add_worker("cron-job", cron.JOB, "--calls", cron.SERVICE, *cron.OPTIONS)
        reports.append(await self._wait(f"add_worker.py adds {cron.JOB}", job))
        self._done("add_worker.py", *map(landed, reports))

    async def _migrate(self) -> None:
        self.shop.wire(self.postgres, self.redis)
        migrations = await self._wait("the migrations run", self.shop.migrate())
        database = await self.postgres.connect()
        await self.shop.slow_down(database)
        await database.execute(cron.SLOWLY)
        await database.close()
        servers = f"PostgreSQL {self.postgres.version} and Redis {self.redis.version} out of wheels"
        self._done("servers", f"{servers}; {migrations} migrations")

    async def _start_workers(self, news: News) -> Supervisor:
        replicas = dict.fromkeys((CONSUMER, RELAY, SCHEDULER), REPLICAS)
        workers = Supervisor(self.stage, self.shop.folder, news, replicas)
        await self._wait("the workers start", workers.until_ready())
        quick = " ".join(f"{name}={value}" for name, value in QUICK.items())
        self._done(
            "workers",
            f"{', '.join(f'{REPLICAS} {name}' for name in replicas)}: python -m app.workers.run NAME",
            f"demo only: {quick}",
            f"demo only: marking an order as paid takes {PAYMENT_SECONDS:g} s, a report as long",
        )
        return workers

    async def _wait(self, what: str, work: Awaitable[T]) -> T:
        return await self.screen.during(self.step / STEPS, what, work)

    def _done(self, title: str, *lines: str) -> None:
        self.step += 1
        heads = [f"{self.step}  {title:<15}", *[" " * 18] * len(lines)]
        for head, line in zip(heads, lines, strict=False):
            self.screen.say(self.screen.paint(head, BOLD) + line)


def landed(report: dict[str, Any]) -> str:
    """What add_worker.py has written, in a line."""
    files = [file for file in report["files"] if file["state"] == "new"]
    worker = next(file for file in files if file["path"].endswith(f"/{report['name']}.py"))
    core = sum(file["role"] == "core" for file in files)
    others = len(files) - core - 1
    return f"{worker['path']}, {worker['lines']} lines; {core} core files, {others} others"
