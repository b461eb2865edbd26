"""The demo from the first step to the ledger."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from demo import serve
from demo.board import Board
from demo.cron import Cron
from demo.errors import DemoError
from demo.faults import Faults
from demo.ledger import Ledger, Part
from demo.load import Load
from demo.mail import Mail
from demo.news import News
from demo.postgres import Postgres
from demo.prepare import Preparation
from demo.rabbit import Rabbit
from demo.redis_server import RedisServer
from demo.screen import BOLD, GREEN, RED, Screen
from demo.shop import Shop
from demo.stage import Stage
from demo.watch import Watch

PATIENCE = 15.0  # seconds without any progress
NOTICE_LOSS = 10.0
MAIL_SHARE = 6  # one order in six goes over RabbitMQ, where there is one


@dataclass(frozen=True)
class Options:
    """The command line."""

    orders: int
    seed: int
    keep: bool
    serve: bool


class Play:
    """One run."""

    def __init__(self, options: Options, stage: Stage, screen: Screen) -> None:
        self.options, self.stage, self.screen = options, stage, screen
        self.began = time.monotonic()
        self.news = News()
        self.shop = Shop(stage)
        self.postgres = Postgres(stage)
        self.redis = RedisServer(stage)
        self.mail = Mail(stage, self.news, self.postgres, self.shop) if Rabbit.found() else None

    async def run(self) -> int:
        """Play; 0 when nothing was lost or duplicated, else 1. Raises DemoError."""
        kept = "stays" if self.options.keep else "is removed at the end"
        self.screen.say(
            "Workers in a fresh shop, real orders, and kill -9 in the middle of them.",
            f"Everything is in {self.stage.folder}, which {kept}.",
            "",
        )
        async with AsyncExitStack() as ending:
            if self.mail is not None:
                ending.push_async_callback(self.mail.close)
            preparation = Preparation(
                self.stage, self.screen, self.shop, self.postgres, self.redis, self.mail
            )
            self.workers = await preparation.run(self.news)
            ending.push_async_callback(self.workers.close)
            if self.mail is not None and self.mail.absent:
                self.mail = None
            self.watch = Watch(await self.postgres.connect(), self.redis.url)
            ending.push_async_callback(self.watch.close)
            self.cron = Cron(self.workers, self.news, await self.postgres.connect())
            ending.push_async_callback(self.cron.close)
            ledger = await self._play()
        return ledger.exit_code

    async def _play(self) -> Ledger:
        """Orders and faults, and the account of them, while somebody looks after the workers."""
        async with asyncio.TaskGroup() as background:
            await self.cron.begin()
            loops = [self.workers.run(), self.watch.run()]
            if self.mail is not None:
                loops.append(self.mail.look_after())
            tasks = [background.create_task(loop) for loop in loops]
            ledger = await self._orders()
            self._report(ledger)
            if self.options.serve:
                await serve.until_stopped(self.news)
            for task in tasks:
                task.cancel()
        return ledger

    async def _orders(self) -> Ledger:
        """Orders and faults, until nothing is under way any more."""
        mails = self.options.orders // MAIL_SHARE if self.mail is not None else 0
        load = Load(self.shop, self.options.orders - mails, self.options.seed)
        faults = Faults(load, self.redis, self.workers, self.watch, self.news, self.options.seed)
        if self.mail is not None:
            self.mail.open(mails, self.options.seed)
        board = Board(
            self.screen, load, self.watch, self.workers, self.redis, self.news, self.cron, self.mail
        )
        self.news.begin()
        self._announce(load)
        async with asyncio.TaskGroup() as tasks:
            drawing = tasks.create_task(board.run())
            troubles = tasks.create_task(faults.run())
            counting = tasks.create_task(self.cron.look_after())
            cron = tasks.create_task(self.cron.play(load))
            mail = tasks.create_task(self.mail.play()) if self.mail is not None else None
            board.awaited = "orders come in, and faults"
            await load.run()
            board.awaited = "waiting for the last fault"
            await troubles
            board.awaited = "waiting for the last messages"
            await self._quiet(load)
            if mail is not None:
                board.awaited = "waiting for the last e-mails"
                await mail
            board.awaited = "waiting for the last runs of the cron job"
            await cron
            counting.cancel()
            await self.cron.settle()
            drawing.cancel()
        board.awaited = "all is done"
        board.show(last=True)
        loads = [load] if self.mail is None else [load, self.mail.load]
        refusals = [refusal for each in loads for refusal in each.refusals]
        if refusals:
            self.screen.say("", f"  {len(refusals)} not accepted, such as {refusals[0]}")
        return await self._account(load)

    def _announce(self, load: Load) -> None:
        title = self.screen.paint("7  orders         ", BOLD)
        orders = f"{load.orders} over HTTP, at most {load.pace:.0f} a second"
        victims = "workers and Redis"
        if self.mail is not None:
            orders += f", {self.mail.load.orders} in the second shop"
            victims = "workers, Redis, RabbitMQ"
        self.screen.say(f"{title}{orders}, while {victims} die", "")

    async def _quiet(self, load: Load) -> None:
        """Wait until all is done, or nothing has moved for a while: then something is lost."""
        moved = noticed = time.monotonic()
        seen = None
        while time.monotonic() - moved < PATIENCE:
            figures = await self.watch.look()
            # A Redis that has lost everything looks quiet too, until a relay has noticed.
            noticing = not self.news.noticed_loss and time.monotonic() - noticed < NOTICE_LOSS
            settled = figures.redis_up and not figures.under_way and not noticing
            if settled and figures.done + figures.dead >= len(load.accepted):
                return
            state = (figures.under_way, figures.done, figures.dead, noticing)
            if state != seen:
                seen, moved = state, time.monotonic()
            await asyncio.sleep(0.1)

    async def _account(self, load: Load) -> Ledger:
        if not load.accepted:
            raise DemoError(f"no order was accepted: {(load.refusals or ['no attempt ended'])[0]}")
        parts = [Part(load.attempted, load.accepted, await self.watch.paid(), self.watch.second_chances)]
        if self.mail is not None:
            parts.append(await self.mail.account())
        return Ledger.of(*parts, seconds=time.monotonic() - self.began, ticks=self.cron.ticks)

    def _report(self, ledger: Ledger) -> None:
        paint = self.screen.paint
        verdict = (
            paint("nothing was lost and nothing was done twice", GREEN)
            if ledger.clean
            else paint(f"work was lost or done twice; the logs are in {self.stage.logs}", RED)
        )
        if not ledger.clean:
            self.stage.keep()
        self.screen.say("", paint("The ledger: ", BOLD) + verdict, *ledger.lines(), "")
        if self.options.serve:
            self.screen.say(
                *serve.overview(
                    self.shop, self.postgres, self.redis, self.workers, self.stage, mail=self.mail
                ),
                "",
            )
        self.screen.say(ledger.json())
