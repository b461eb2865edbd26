"""Worker processes that tests can hold and kill, what they leave in the database, and the account.

A kind of worker adds what it needs in a file of its own, such as cron_kit.py: what the test sees of it, and
what the process that plays it does.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parents[2]
IMPORT_ROOT = PROJECT
# The variable from which the project's settings take the address of the database.
DATABASE_VARIABLE = "DATABASE_URL"
# Short times: a dead worker is noticed within seconds, and one message at a time shows who has it.
SETTINGS = {
    "WORKER_CONCURRENCY": "1",
    "WORKER_LEASE_SECONDS": "2",
    "WORKER_HEARTBEAT_SECONDS": "0.5",
    "WORKER_DRAIN_SECONDS": "0.3",
    "WORKER_RETRY_BASE_SECONDS": "0.05",
    "WORKER_RETRY_CAP_SECONDS": "0.2",
    "OUTBOX_POLL_SECONDS": "0.2",
}
EFFECTS = "SELECT message_id FROM worker_lab_effect"
FOREIGN = (
    "WORKER_",
    "OUTBOX_",
    "RABBITMQ_",
    "CELERY_",
    "JOB_",
    "LLM_",
    "WEBHOOK_",
)  # settings of other workers on this machine
DEADLINE = 20.0
CELERY_ROLES = ("task", "job")  # played by Celery's worker, a process that has others
START_DEADLINE = 60.0  # processes start slowly on a machine that is busy with other tests
ledgers: list[str] = []


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a thread, so that no event loop of a plugin is disturbed."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def query(url: URL, statement: str, **values: Any) -> list[Any]:
    """The rows of a statement, run outside of any transaction."""
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        result = await connection.execute(text(statement), values)
        rows = list(result.all()) if result.returns_rows else []
    await engine.dispose()
    return rows


def eventually(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """Wait until `condition` is true; its value."""
    ends = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > ends:
            raise AssertionError(f"not within {deadline:g} s: {what}; last seen: {value!r}")
        time.sleep(0.03)  # between two looks at the condition


def free_port() -> int:
    """A port below the range that the kernel hands out to clients."""
    while True:
        port = random.randint(20_000, 31_999)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Replica:
    """A process that runs `replica.py` with a kit, a role and what the role asks for.

    It ends by itself when the test run is killed.
    """

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str) -> None:
        self.port = free_port()
        _, role, *_ = arguments
        self.is_celery = role in CELERY_ROLES
        self.log = folder / f"{self.port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("replica.py")), *arguments],
                env={**environment, "WORKER_HEALTH_PORT": str(self.port)},
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if role == "desk" else log,
                stderr=log,
                text=True,
                start_new_session=self.is_celery,  # a worker and the process of its tasks are one machine
            )

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def ready(self) -> bool:
        """Whether the worker consumes. Raises AssertionError when it has ended."""
        assert self.running, f"the worker ended with {self.process.returncode}"
        if self.is_celery:
            return " ready.\n" in self.log.read_text()
        url = f"http://127.0.0.1:{self.port}/ready"
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def ask(self, *question: Any) -> Any:
        """What the desk answers: a function of replica.py, and its arguments. Raises AssertionError when it
        has failed.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            print(json.dumps(question), file=self.process.stdin, flush=True)
        answered, _, _ = select.select([self.process.stdout], [], [], START_DEADLINE)
        answer = self.process.stdout.readline() if answered else ""
        assert answer, f"{question}:\n{self.log.read_text()}"
        return json.loads(answer)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code. Celery's workers die with their children."""
        if self.is_celery and number == signal.SIGKILL:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return code


class Lab:
    """Worker processes, what goes into them, and what came of it."""

    def __init__(
        self, folder: Path, database: URL, kit: str, environment: Mapping[str, str], *arguments: str
    ) -> None:
        folder.mkdir()
        self.folder, self.database, self.kit, self.arguments = folder, database, kit, arguments
        self.source = f"/worker-lab/{uuid.uuid4().hex}"
        ours = {k: v for k, v in os.environ.items() if not k.upper().startswith(FOREIGN)}
        self.environment = {
            **ours,
            **SETTINGS,
            DATABASE_VARIABLE: database.render_as_string(hide_password=False),
            **environment,
            "OUTBOX_SOURCE": self.source,
            "PYTHONPATH": os.pathsep.join([str(IMPORT_ROOT), *filter(None, sys.path)]),
            "LAB_FOLDER": str(folder),
            "LAB_DATABASE": database.database or "",
        }
        self.replicas: list[Replica] = []
        self.others: list[Replica] = []
        self.on_release: list[Callable[[], None]] = []
        self.ending = ExitStack()
        self.desk = self.start("desk")
        self.desk.ask("prepare")

    def start(self, *arguments: str) -> Replica:
        """Start a process that plays a role."""
        return Replica(self.folder, self.environment, self.kit, *arguments)

    def start_beside(self, worker: str) -> None:
        """Start another worker of the project, which runs until the end."""
        replica = self.start("run", worker)
        self.others.append(replica)
        self.wait_for(replica.ready, f"{worker} is ready", START_DEADLINE)

    def running(self, count: int) -> list[Replica]:
        """Exactly `count` workers that are ready and do not hold; those that are missing are started."""
        self.release()
        self.replicas = [replica for replica in self.replicas if replica.running]
        for _ in range(count - len(self.replicas)):
            self.replicas.append(self.start(*self.arguments))
        for replica in self.replicas:
            self.wait_for(replica.ready, "the worker is ready", START_DEADLINE)
        return self.replicas

    def wait_for(self, condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
        """Wait until `condition` is true; its value. AssertionErrors show what the workers have logged."""
        try:
            return eventually(condition, what, deadline)
        except AssertionError as error:
            logs = "\n".join(replica.log.read_text()[-4000:] for replica in (*self.others, *self.replicas))
            raise AssertionError(f"{error}\n{logs}") from None

    def hold(self) -> None:
        """Let workers stop in the middle of what they begin."""
        (self.folder / "hold").touch()

    def release(self) -> None:
        """Let them go on, and let no attempt fail."""
        (self.folder / "hold").unlink(missing_ok=True)
        (self.folder / "failures").unlink(missing_ok=True)
        for call in self.on_release:
            call()

    def fail_first(self, attempts: int) -> None:
        """Let the first attempts of each message fail with an error that may pass."""
        (self.folder / "failures").write_text(str(attempts))

    def begun(self) -> list[tuple[int, str]]:
        """Process and message of each piece of work that was begun."""
        return self.lines("started")

    def lines(self, file: str) -> list[tuple[int, str]]:
        """What processes have noted in a file, each with its id."""
        path = self.folder / file
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(process), message) for process, message in (line.split() for line in lines)]

    def rows(self, statement: str, **values: Any) -> list[Any]:
        """What a statement finds in the workers' database."""
        return run_async(query(self.database, statement, **values))

    def done(self) -> list[str]:
        """The messages, ticks or jobs whose effect is committed, each as often as its effect is there."""
        return [row.message_id.rpartition(" ")[2] for row in self.rows(EFFECTS)]

    def in_the_middle_of(self, message: str) -> Replica:
        """The worker that has begun `message`, once there is one."""
        begun = self.wait_for(lambda: [p for p, m in self.begun() if m == message], f"{message} is begun")
        return next(replica for replica in self.replicas if replica.process.pid == begun[-1])

    def account(
        self,
        name: str,
        sent: Collection[str],
        done: Collection[str],
        *,
        set_aside: int = 0,
        repeats: bool = False,
    ) -> None:
        """Draw up the account: everything `sent` was `done`, and once unless `repeats` are harmless.

        `set_aside` is how many of them were kept as dead letters, which is neither done nor lost.
        """
        effects = Counter(message for message in done if message in set(sent))
        begun = Counter(message for _, message in self.begun())
        lost = len(sent) - set_aside - len(effects)
        duplicated = effects.total() - len(effects)
        recovered = sum(begun[message] > 1 for message in effects)
        ledgers.append(
            f"LEDGER {name}: attempted={len(sent)} accepted={len(sent)} executed={len(effects)} "
            f"lost={lost} duplicated={duplicated} recovered={recovered}"
        )
        assert lost == 0, ledgers[-1]
        assert repeats or duplicated == 0, ledgers[-1]

    def close(self) -> None:
        """End all workers, then do what was put on `ending`, last the desk."""
        self.release()
        for replica in (*self.replicas, *self.others):
            if replica.running:
                replica.end(signal.SIGKILL)
        self.ending.close()
        self.desk.end(signal.SIGKILL)
