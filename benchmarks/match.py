"""One run of one contestant: starts its two processes, leads them through, collects what they say."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.figures import percentile
from benchmarks.spec import PREFETCH, Spec
from benchmarks.stage import Stage
from support import reaper

ROOT = Path(__file__).resolve().parents[1]
IMPORT_PATH = (ROOT, ROOT / "templates", ROOT / "examples" / "shop", ROOT / "tests")
TIMEOUT_S = 300.0
END_S = 20.0


class MatchError(RuntimeError):
    """A contestant did not do its work; the end of what it wrote is in the message."""


class Side:
    """A contestant's consumer, publisher or worker: a process that is led by lines."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
        )
        reaper.watch(self._process.pid)
        # A thread, and not `select`: two lines that come together are one event on the pipe.
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def hear(self) -> dict[str, Any]:
        """Its next line. Raises MatchError when it ends or stays silent."""
        try:
            line = self._lines.get(timeout=TIMEOUT_S)
        except queue.Empty:
            raise MatchError(f"{self._name} went silent\n{self._tail()}") from None
        if not line:
            raise MatchError(f"{self._name} ended\n{self._tail()}")
        said: dict[str, Any] = json.loads(line)
        return said

    def go(self) -> None:
        """Tell it to go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def ask(self) -> dict[str, Any]:
        """Tell it to go on, and hear what it says."""
        self.go()
        return self.hear()

    def wait(self) -> None:
        """Let it end by itself. Raises MatchError when it does not, or not well."""
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired as error:
            raise MatchError(f"{self._name} does not end\n{self._tail()}") from error
        if code:
            raise MatchError(f"{self._name} ended with {code}\n{self._tail()}")

    def _tail(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().splitlines()[-30:])

    def __enter__(self) -> Self:
        return self

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check(self) -> None:
        """Raises MatchError when it has ended."""
        if self._process.poll() is not None:
            raise MatchError(f"{self._name} ended\n{self._tail()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        reaper.unwatch(self._process.pid)
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()


def side(role: str, spec: Spec, env: Mapping[str, str], python: str) -> Side:
    """A contestant in one of its roles; see `benchmarks.contestant`."""
    command = [python, "-m", "benchmarks.contestant", role, spec.dump()]
    return Side(f"{spec.contestant} ({spec.task}, {role})", command, env)


def play(stage: Stage, spec: Spec, database: str, python: str = sys.executable) -> dict[str, Any]:
    """Run `spec` on what is there; see `figures.figures_of` for what comes back.

    Raises MatchError when a process fails.
    """
    env = environment(stage, spec, database)
    with side("publish", spec, env, python) as publisher, side("consume", spec, env, python) as consumer:
        publisher.hear()
        versions = consumer.hear()["versions"]
        consumer.go()
        consumer.hear()
        before = stage.cpu_seconds()
        rate = consumer.hear()
        server_cpu_seconds = stage.cpu_seconds() - before
        publisher.go()
        latency = consumer.hear()
        publisher.wait()
        consumer.wait()
    seconds = latency.pop("latencies")
    latency |= {"p50_seconds": percentile(seconds, 50), "p99_seconds": percentile(seconds, 99)}
    return {
        "rate": rate,
        "latency": latency,
        "server_cpu_seconds": server_cpu_seconds,
        "versions": versions,
    }


def environment(stage: Stage, spec: Spec, database: str) -> dict[str, str]:
    """Settings of the shop and of the workers; a database connection for each slot and two to spare."""
    rabbit = {"RABBITMQ_URL": spec.rabbit_url, "RABBITMQ_PREFETCH": str(max(PREFETCH, 2 * spec.concurrency))}
    return {
        **(rabbit if spec.rabbit_url else {}),
        "PYTHONPATH": os.pathsep.join(map(str, IMPORT_PATH)),
        "DATABASE_URL": stage.url(database),
        "REDIS_URL": spec.redis_url,
        "DB_POOL_SIZE": str(spec.concurrency + 2),
        "DB_MAX_OVERFLOW": "2",
        "WORKER_CONCURRENCY": str(spec.concurrency),
        "WORKER_HEALTH_PORT": "0",
    }
