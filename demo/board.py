"""What the person sees while orders go through: figures, processes, news."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass

from demo.cron import Cron
from demo.load import Load
from demo.mail import Mail
from demo.news import News
from demo.redis_server import RedisServer
from demo.replicas import Supervisor
from demo.screen import BOLD, DIM, GREEN, RED, Screen, bar
from demo.watch import Watch

DRAW_EVERY, LINE_EVERY = 0.2, 1.0
FIXED_ROWS, MAIL_ROWS = 23, 8  # all but the news


@dataclass
class Board:
    """Draws a table on a terminal, and writes a line a second elsewhere."""

    screen: Screen
    load: Load
    watch: Watch
    workers: Supervisor
    redis: RedisServer
    news: News
    cron: Cron
    mail: Mail | None
    awaited: str = ""
    _told: int = 0

    async def run(self) -> None:
        """Show how things stand until cancelled."""
        while True:
            self.show()
            await asyncio.sleep(DRAW_EVERY if self.screen.live else LINE_EVERY)

    def show(self, *, last: bool = False) -> None:
        """Show how things stand; the `last` time with all the news."""
        if self.screen.live:
            rows = shutil.get_terminal_size().lines - FIXED_ROWS - (MAIL_ROWS if self.mail else 0)
            events = self.news.events if last else self.news.events[-max(3, rows) :]
            self.screen.draw([*self._table(), *(f"  {event}" for event in events)], last=last)
            return
        self.screen.say(*(f"  ! {event}" for event in self.news.events[self._told :]), self._line())
        self._told = len(self.news.events)

    def _line(self) -> str:
        figures, load = self.watch.figures, self.load
        redis = f"stream {figures.stream}, in hand {figures.in_hand}" if figures.redis_up else "redis away"
        return (
            f"  {self.news.clock:5.1f} s  accepted {len(load.accepted)}/{load.orders}, "
            f"outbox {figures.outbox}, {redis}, done {figures.done}, dead {figures.dead}, "
            f"ticks {self.cron.ticks.run}/{self.cron.ticks.due}, "
            f"ready {self.workers.ready}/{len(self.workers.replicas)}{self._mail_line()}"
        )

    def _mail_line(self) -> str:
        if self.mail is None:
            return ""
        figures, load = self.mail.watch.figures, self.mail.load
        queue = "rabbitmq away" if figures.queue is None else f"queue {figures.queue}"
        return (
            f" | mail: accepted {len(load.accepted)}/{load.orders}, outbox {figures.outbox}, {queue}, "
            f"sent {figures.done}"
        )

    def _mail_rows(self) -> list[tuple[str, str, str]]:
        if self.mail is None:
            return []
        figures, load = self.mail.watch.figures, self.mail.load
        remark = "RabbitMQ is away, the API goes on" if figures.queue is None else ""
        return [
            ("orders to confirm", f"{len(load.accepted)}", f"of {load.orders}, in the second shop"),
            ("waiting in outbox", f"{figures.outbox}", remark),
            ("waiting in queue", "?" if figures.queue is None else f"{figures.queue}", ""),
            ("e-mails sent", f"{figures.done}", ""),
        ]

    def _table(self) -> list[str]:
        figures, load, screen = self.watch.figures, self.load, self.screen
        away = not figures.redis_up
        repeats = figures.stream + figures.done > len(load.accepted)
        rows = [
            ("orders accepted", f"{len(load.accepted)}", f"of {load.orders}"),
            ("waiting in outbox", f"{figures.outbox}", "Redis is away, the API goes on" if away else ""),
            (
                "waiting in stream",
                "?" if away else f"{figures.stream}",
                "repeats among them" if repeats else "",
            ),
            ("being processed", "?" if away else f"{figures.in_hand + figures.retrying}", ""),
            ("done", f"{figures.done}", ""),
            ("dead letters", f"{figures.dead}", ""),
            ("cron ticks run", f"{self.cron.ticks.run}", f"of {self.cron.ticks.due} due"),
            *self._mail_rows(),
        ]
        done, orders = figures.done, load.orders
        if self.mail is not None:
            done, orders = done + self.mail.watch.figures.done, orders + self.mail.load.orders
        progress = bar(done / orders)
        lines = [
            f"  {progress}  {self.news.clock:.0f} s  {screen.paint(self.awaited, DIM)}",
            "",
            *(f"  {name:<20}{screen.paint(f'{value:>5}', BOLD)}  {remark}" for name, value, remark in rows),
            "",
            screen.paint(f"  {'process':<22}{'pid':>8}  ready", DIM),
        ]
        return [*lines, *self._processes(), ""]

    def _processes(self) -> list[str]:
        rows = [(r.name, r.process, r.ready, r.remark) for r in self.workers.replicas]
        up = self.watch.figures.redis_up
        rows.append(("redis", self.redis.process, up, "" if up else "does not answer"))
        if self.mail is not None:
            rows += [(r.name, r.process, r.ready, r.remark) for r in self.mail.workers.replicas]
            process, answers = self.mail.rabbit.process, self.mail.watch.figures.queue is not None
            if process is not None:
                rows.append(("rabbitmq", process, answers, "" if answers else "does not answer"))
        lines = []
        for name, process, ready, remark in rows:
            running = process.code is None
            answer = self.screen.paint("yes", GREEN) if ready and running else self.screen.paint("no", RED)
            pid = process.pid if running else "-"
            lines.append(f"  {name:<22}{pid:>8}  {answer}  {remark if running else 'killed'}")
        return lines
