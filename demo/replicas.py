"""The worker processes and a supervisor that starts them again, as systemd or Kubernetes would."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx2

from demo.errors import DemoError
from demo.news import News
from demo.process import Process, free_port, until
from demo.stage import Stage

CONSUMER, RELAY, SCHEDULER = "order_paid", "outbox_relay", "scheduler"
REPLICAS = 2
START_SECONDS = 40.0
RESTART_AFTER = 0.5
SETTINGS_REFUSED = 78  # exit code of app.core.lifecycle: a restart does not help
MOST_RESTARTS = 10


class Replica:
    """One worker: `python -m app.workers.run WORKER`, whichever process it is at the moment."""

    def __init__(self, stage: Stage, project: Path, worker: str, name: str) -> None:
        self.worker, self.name = worker, name
        self.ready, self.remark = False, "starting"
        self._stage, self._project = stage, project
        self._port = free_port()
        self._restarts = 0
        self._was_ready = False
        self.process = self._start()

    def _start(self) -> Process:
        # The port is the one setting that replicas on one machine cannot share.
        return self._stage.start(
            self.name,
            (sys.executable, "-m", "app.workers.run", self.worker),
            cwd=self._project,
            env={"WORKER_HEALTH_PORT": str(self._port)},
        )

    @property
    def health_url(self) -> str:
        """Where it says whether it is ready."""
        return f"http://127.0.0.1:{self._port}/ready"

    async def probe(self, client: httpx2.AsyncClient) -> None:
        """Ask /ready."""
        try:
            answer = await client.get(self.health_url)
        except httpx2.TransportError:
            self.ready = False
            self.remark = "does not answer" if self._was_ready else "starting"
            return
        problems = answer.json()["problems"]
        self.ready = answer.status_code == httpx2.codes.OK
        self._was_ready = self._was_ready or self.ready
        self.remark = problems[0].partition(": ")[2] if problems else ""

    def restart(self) -> None:
        """Start it again. Raises DemoError when that does not help."""
        self._restarts += 1
        if self.process.code == SETTINGS_REFUSED or self._restarts > MOST_RESTARTS:
            raise DemoError(f"{self.name} does not run: {self.process.last_words()}")
        self._stage.forget(self.process)
        self._was_ready = False
        self.process = self._start()


class Supervisor:
    """Keeps the replicas running, probes them and reads their logs."""

    def __init__(
        self, stage: Stage, project: Path, news: News, workers: Mapping[str, int], prefix: str = ""
    ) -> None:
        """`workers` says how many replicas each has, `prefix` comes before their names."""
        self._news = news
        self._client = httpx2.AsyncClient(trust_env=False, timeout=1)
        self.replicas = [
            Replica(stage, project, worker, f"{prefix}{worker}/{number}")
            for worker, replicas in workers.items()
            for number in range(1, replicas + 1)
        ]
        self._dead_since: dict[str, float] = {}

    def of(self, worker: str) -> list[Replica]:
        """The replicas of one worker."""
        return [replica for replica in self.replicas if replica.worker == worker]

    @property
    def ready(self) -> int:
        """How many replicas are ready."""
        return sum(replica.ready for replica in self.replicas)

    async def until_ready(self) -> None:
        """Wait until all replicas are ready. Raises DemoError."""

        async def all_ready() -> bool:
            await self.look()
            return self.ready == len(self.replicas)

        await until(all_ready, START_SECONDS, "all workers are ready")

    async def run(self) -> None:
        """Look after them until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(0.2)

    async def look(self) -> None:
        """Probe all, read what they wrote, start the dead again."""
        await asyncio.gather(*(replica.probe(self._client) for replica in self.replicas))
        for replica in self.replicas:
            self._news.read_log(replica.name, replica.process.log)
            if replica.process.code is not None:
                self._revive(replica, replica.process.code)

    def _revive(self, replica: Replica, code: int) -> None:
        since = self._dead_since.setdefault(replica.name, time.monotonic())
        if time.monotonic() - since >= RESTART_AFTER:
            del self._dead_since[replica.name]
            replica.restart()
            cause = "" if code == -9 else f" (it had ended with {code})"
            self._news.tell(f"{replica.name} is started again, pid {replica.process.pid}{cause}")

    async def close(self) -> None:
        """Close the connections; the processes belong to the stage."""
        await self._client.aclose()
