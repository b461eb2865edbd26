"""What goes wrong in the middle: a consumer, a relay and Redis are killed, and Redis loses all its data.

Each victim is stopped (SIGSTOP) for a moment before kill -9, to see what it has in hand: that is what has to
be recovered, and a process that is idle most of the time is not killed while it has nothing to lose.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass

from demo.load import Load
from demo.news import News, some
from demo.redis_server import RedisServer
from demo.replicas import CONSUMER, RELAY, Replica, Supervisor
from demo.watch import Watch

REDIS_AWAY = 1.0
AIM_FOR = 3.0
GOOD_CATCH = 5  # messages in hand
# Well below the lease of 3 s less a heartbeat of 1 s: the workers must not pass for dead.
LONGEST_STOP = 1.5


@dataclass
class Faults:
    """The faults, in order. Each waits for a part of the orders, so that customers are there all the time."""

    load: Load
    redis: RedisServer
    workers: Supervisor
    watch: Watch
    news: News
    seed: int

    async def run(self) -> None:
        """Let it all happen."""
        await self.load.reached(0.15)
        await self.kill_consumer()
        await self.load.reached(0.4)
        await self.kill_relay()
        await self.load.reached(0.55)
        await self.restart_redis()
        await self.load.reached(0.75)
        await self.empty_redis()

    async def kill_consumer(self) -> None:
        """Kill a consumer with messages in hand; another one takes them over when the lease has run out."""
        victim = self._victim(CONSUMER)
        pid = victim.process.pid
        held: set[int] = set()
        begun = time.monotonic()
        # At first for a good catch, then for any.
        while len(held) < (GOOD_CATCH if time.monotonic() < begun + AIM_FOR / 2 else 1):
            if time.monotonic() > begun + AIM_FOR:
                break
            victim.process.send(signal.SIGCONT)
            await asyncio.sleep(0.05)
            victim.process.send(signal.SIGSTOP)
            held = await self.watch.in_hands_of(pid)
        killed_at = self._kill(victim)
        held = await self.watch.in_hands_of(pid)  # Redis may have given it one more
        self.watch.need_second_chance(held, killed_at)
        self.news.tell(f"kill -9 {victim.name}, pid {pid}, with {some(len(held))} in hand")

    async def kill_relay(self) -> None:
        """Kill a relay between the outbox and Redis: nobody knows what it has sent."""
        victim = self._victim(RELAY)
        held: set[int] = set()
        ends = time.monotonic() + AIM_FOR
        while not held and time.monotonic() < ends:
            victim.process.send(signal.SIGCONT)
            await asyncio.sleep(0.01)
            victim.process.send(signal.SIGSTOP)
            held = await self.watch.in_hands_of_relays()
            if held:
                await asyncio.sleep(0.15)  # the other relay goes on meanwhile: what is left is the victim's
                held &= await self.watch.in_hands_of_relays()
        self.watch.need_second_chance(held, self._kill(victim))
        moment = f"while it sends {some(len(held))}" if held else "while it waits"
        self.news.tell(f"kill -9 {victim.name}, pid {victim.process.pid}, {moment}")

    async def restart_redis(self) -> None:
        """Redis is killed and comes back after a second with what it had confirmed."""
        await self.redis.kill(lose_data=False)
        self.news.tell("kill -9 redis; orders are accepted all the same")
        await self._start_redis("with its data")

    async def empty_redis(self) -> None:
        """Redis is killed with messages that no worker has taken, and comes back empty."""
        consumers = self.workers.of(CONSUMER)
        for replica in consumers:
            replica.process.send(signal.SIGSTOP)
        ends = time.monotonic() + LONGEST_STOP
        while len(await self.watch.unread()) < GOOD_CATCH and time.monotonic() < ends:
            await asyncio.sleep(0.05)
        await self.watch.hold_still()
        lost = await self.watch.unread()
        await self.redis.kill(lose_data=True)
        self.watch.need_second_chance(lost, time.time())
        for replica in consumers:
            replica.process.send(signal.SIGCONT)
        self.news.tell(f"kill -9 redis with {some(len(lost))} unread, and all its data are deleted")
        await self._start_redis("empty")

    async def _start_redis(self, state: str) -> None:
        await asyncio.sleep(REDIS_AWAY)
        await self.redis.start()
        self.news.tell(f"redis is started again, {state}, pid {self.redis.process.pid}")

    def _kill(self, victim: Replica) -> float:
        """Kill it; the time."""
        victim.process.kill()
        return time.time()

    def _victim(self, worker: str) -> Replica:
        return random.Random(self.seed).choice(self.workers.of(worker))
